"""The SQL backend keeps the contract on PostgreSQL through pgbouncer, which may not see what it prepares."""

from __future__ import annotations

from typing import Unpack

from sql_places import OverPostgreSQL, emptied_pgbouncer, keeps_every_byte
from turnlog import Backend, Store
from turnlog.testing import BackendOptions, LayerContract
from turnlog_sql.postgresql import PostgreSQLBackend


class OverPgBouncer(OverPostgreSQL):
    def empty(self) -> str:
        return emptied_pgbouncer()

    def backend(self, url: str, **options: Unpack[BackendOptions]) -> PostgreSQLBackend:
        return PostgreSQLBackend(url, pool_size=5, sweep=0, prepare=False, **options)


class TestPgBouncer(LayerContract):
    """Its statements are those that PostgreSQL is tested with: here is how they are sent."""

    below = OverPgBouncer

    def layer(self, inner: Backend) -> Backend:
        return inner

    async def test_every_byte_of_a_payload(self, store: Store) -> None:
        await keeps_every_byte(store)
