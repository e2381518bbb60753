"""The SQL backend keeps the contract on PostgreSQL through pgbouncer, which may not see what it prepares."""

from __future__ import annotations

from typing import Unpack

from sql_places import EveryByte, OverPostgreSQL, emptied_pgbouncer
from turnlog import Backend
from turnlog.testing import BackendOptions, LayerContract
from turnlog_sql.postgresql import PostgreSQLBackend


class OverPgBouncer(OverPostgreSQL):
    def empty(self) -> str:
        return emptied_pgbouncer()

    def backend(self, url: str, **options: Unpack[BackendOptions]) -> PostgreSQLBackend:
        return PostgreSQLBackend(url, pool_size=5, sweep=0, prepare=False, **options)


class TestPgBouncer(LayerContract, EveryByte):
    """Its statements are those that PostgreSQL is tested with: here is how they are sent."""

    below = OverPgBouncer

    def layer(self, inner: Backend) -> Backend:
        return inner
