"""The SQL backend keeps the contract on PostgreSQL through pgbouncer."""

from __future__ import annotations

from typing import Unpack

from sql_places import EveryByte, OverPostgreSQL, emptied_pgbouncer
from turnlog.testing import BackendOptions
from turnlog_sql.postgresql import PostgreSQLBackend


class TestPgBouncer(OverPostgreSQL, EveryByte):
    """The SQL backend on PostgreSQL through pgbouncer."""

    def empty(self) -> str:
        return emptied_pgbouncer()

    def backend(self, url: str, **options: Unpack[BackendOptions]) -> PostgreSQLBackend:
        return PostgreSQLBackend(url, pool_size=5, sweep=0, prepare=False, **options)
