"""The SQL store keeps the contract on MariaDB."""

from __future__ import annotations

from typing import Unpack

from sql_places import ServerContract, emptied_mariadb
from turnlog.testing import StoreOptions
from turnlog_sql.mysql import MySQLStore


class TestMySQLStore(ServerContract):
    """The SQL store on MariaDB."""

    def empty(self) -> str:
        return emptied_mariadb()

    def store(self, url: str, **options: Unpack[StoreOptions]) -> MySQLStore:
        return MySQLStore(url, pool_size=5, sweep=0, **options)
