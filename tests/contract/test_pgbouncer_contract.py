"""The SQL backend meets the contract on PostgreSQL through pgbouncer."""

from __future__ import annotations

from typing import Unpack

from further_ways import FurtherWay
from sql_places import OverPostgreSQL, emptied_pgbouncer, keeps_every_byte
from turnlog import Store, user
from turnlog.testing import BackendOptions
from turnlog_sql.postgresql import PostgreSQLBackend


class OverPgBouncer(OverPostgreSQL):
    def empty(self) -> str:
        return emptied_pgbouncer()

    def backend(self, url: str, **options: Unpack[BackendOptions]) -> PostgreSQLBackend:
        return PostgreSQLBackend(url, pool_size=5, sweep=0, prepare=False, **options)


class TestPgBouncer(FurtherWay):
    """The short contract: the PostgreSQL tests cover the statements, these tests cover the connection through
    pgbouncer.
    """

    below = OverPgBouncer

    async def test_lists_and_owners(self, store: Store) -> None:
        for number in range(3):
            await store.append(f"s{number}", [user("hello")], owner="ann" if number else None)
        assert [info.key.session async for info in store.sessions()] == ["s2", "s1", "s0"]
        assert [info.key.session async for info in store.sessions(owner="ann")] == ["s2", "s1"]
        assert (await store.erase_owner("ann")).sessions == 2
        assert [info.key.session async for info in store.sessions()] == ["s0"]

    async def test_every_byte_of_a_payload(self, store: Store) -> None:
        await keeps_every_byte(store)
