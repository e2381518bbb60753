"""The SQL store keeps the contract on PostgreSQL."""

from __future__ import annotations

from typing import Unpack

from sql_places import ServerContract, emptied_postgresql
from turnlog.testing import StoreOptions
from turnlog_sql.postgresql import PostgreSQLStore


class TestPostgreSQLStore(ServerContract):
    """The SQL store on PostgreSQL."""

    def empty(self) -> str:
        return emptied_postgresql()

    def store(self, url: str, **options: Unpack[StoreOptions]) -> PostgreSQLStore:
        return PostgreSQLStore(url, pool_size=5, sweep=0, **options)
