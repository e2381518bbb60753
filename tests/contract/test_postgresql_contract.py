"""The SQL store keeps the contract on PostgreSQL."""

from __future__ import annotations

from functools import cached_property
from typing import Unpack

from sql_places import advance, emptied_postgresql
from turnlog import Store
from turnlog.testing import StoreContract, StoreOptions
from turnlog_sql.postgresql import PostgreSQLStore


class TestPostgreSQLStore(StoreContract):
    """The SQL store on PostgreSQL."""

    shared = True

    @cached_property
    def url(self) -> str:
        """Where this test's sessions are."""
        return emptied_postgresql()

    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return PostgreSQLStore(self.url, pool_size=5, sweep=0, **options)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        async with PostgreSQLStore(self.url, sweep=0) as store:
            await advance(store, seconds)
