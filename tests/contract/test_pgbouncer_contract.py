"""The SQL backend on PostgreSQL through pgbouncer: random calls, lists and payloads.

The rest of the short contract is in `tests/faults/test_pgbouncer.py`.
"""

from __future__ import annotations

from further_ways import OnBackendOf
from sql_places import OverPgBouncer, keeps_every_byte
from turnlog import Store, user
from turnlog.testing._model import Model


class TestPgBouncer(OnBackendOf, Model):
    below = OverPgBouncer
    _walks = 4  # the PostgreSQL tests have all walks

    async def test_lists_and_owners(self, store: Store) -> None:
        for number in range(3):
            await store.append(f"s{number}", [user("hello")], owner="ann" if number else None)
        assert [info.key.session async for info in store.sessions()] == ["s2", "s1", "s0"]
        assert [info.key.session async for info in store.sessions(owner="ann")] == ["s2", "s1"]
        assert (await store.erase_owner("ann")).sessions == 2
        assert [info.key.session async for info in store.sessions()] == ["s0"]

    async def test_every_byte_of_a_payload(self, store: Store) -> None:
        await keeps_every_byte(store)
