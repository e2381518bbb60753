"""Contract: a damaged session does not hide other sessions, and can be erased.  For backends that store bytes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from ..errors import CorruptRecord, SessionNotFound
from ..store import Store
from ..values.change import PRESENT, Change
from ..values.query import Query
from ..values.session import SessionInfo
from ._base import ContractBase
from ._material import history, key, record, say

T = TypeVar("T")

_SESSIONS = (("a", "u1"), ("b", "u1"), ("c", "u1"), ("d", "u2"), ("e", "u2"))
"""The sessions and their owners, the last updated last; b and e are damaged."""


class DamageContract(ContractBase):
    """Contract: sessions that cannot be read.  A subclass implements `make` and `damage`.

    A backend passes these tests in addition to `BackendContract`, with the same `make`.
    """

    @abstractmethod
    async def damage(self, store: Store, session_id: str) -> None:
        """Damage the stored header of a session, so that it cannot be read.

        Keep the data that is stored with the header, such as a column for the owner.
        """

    async def _damaged(self, store: Store) -> Store:
        """Store the sessions, damage two of them, and return another store that has not read any of them."""
        for name, owner in _SESSIONS:
            await store.append(name, say(name), owner=owner)
            await self.advance(1)
        for name in ("b", "e"):
            await self.damage(store, name)
        return await self.another(store)

    async def test_a_damaged_session_is_on_no_page_and_hides_no_other(self, store: Store) -> None:
        """`page` returns all readable sessions in order, and reports each damaged session once."""
        store = await self._damaged(store)
        for limit in (1, 2, 100):
            infos, damaged = await _pages(store, limit, None)
            assert [info.key.session for info in infos] == ["d", "c", "a"], f"limit={limit}"
            assert len(damaged) == 2
            assert {error.key for error in damaged} <= {None, key(store, "b"), key(store, "e")}

    async def test_a_page_of_an_owner_reports_no_session_of_another_owner(self, store: Store) -> None:
        """A page of an owner reports the owner's damaged sessions; if the owner is unreadable, without their names."""
        store = await self._damaged(store)
        for owner, names, own in (("u1", ["c", "a"], "b"), ("u2", ["d"], "e"), ("u3", [], "")):
            infos, damaged = await _pages(store, 1, owner)
            assert [info.key.session for info in infos] == names
            found = {error.key for error in damaged}
            assert found <= ({key(store, own)} if None not in found and own else {None}), owner
            assert damaged or not own

    async def test_totals_count_what_can_be_read(self, store: Store) -> None:
        """`totals` counts all readable sessions, and may leave out damaged ones."""
        store = await self._damaged(store)
        found = await store.backend.totals(store.namespace)
        assert 3 <= found.sessions <= len(_SESSIONS)
        assert found.messages == found.sessions

    async def test_sessions_ends_with_the_error(self, store: Store) -> None:
        """`sessions` and `export_owner` yield all readable sessions, and then raise `CorruptRecord`."""
        store = await self._damaged(store)
        assert [info.key.session for info in await _until_damage(store.sessions())] == ["d", "c", "a"]
        assert [one.info.key.session for one in await _until_damage(store.export_owner("u1"))] == ["c", "a"]

    async def test_a_damaged_session_is_not_answered(self, store: Store) -> None:
        """Reads and writes of a damaged session raise `CorruptRecord` with its key; other sessions are not affected."""
        store = await self._damaged(store)
        place = key(store, "b")
        for call in (
            lambda: store.load("b"),
            lambda: store.load("b", last=1),
            lambda: store.info("b"),
            lambda: store.append("b", say("x")),
            lambda: store.fork("b", "copy"),
            lambda: store.backend.commit(place, Change(append=(record("x"),), for_owner="u1")),
            lambda: store.erase("b", expect=PRESENT),
        ):
            with pytest.raises(CorruptRecord) as error:
                await call()
            assert error.value.key == place
        await store.append("a", say("x"))
        assert (await history(store, "a"), await history(store, "c")) == (["a", "x"], ["c"])

    async def test_erase_a_damaged_session(self, store: Store) -> None:
        """`erase` removes a damaged session; afterwards the session can be made again."""
        store = await self._damaged(store)
        assert await store.erase("b") is True
        with pytest.raises(SessionNotFound):
            await store.load("b")
        assert len((await _pages(store, 100, None))[1]) == 1
        assert await store.erase("d") is True
        await store.append("b", say("anew"))
        assert await history(store, "b") == ["anew"]

    async def test_erase_an_owner_of_a_damaged_session(self, store: Store) -> None:
        """`erase_owner` deletes a damaged session if its owner can be read, and otherwise reports it."""
        store = await self._damaged(store)
        erased = await store.erase_owner("u1")
        if erased.damaged:  # the owners of b and e cannot be read
            assert (erased.sessions, len(erased.damaged)) == (2, 2)
            assert await store.erase("b")
        else:
            assert erased.sessions == 3
        assert [info.key.session for info in (await _pages(store, 100, None))[0]] == ["d"]
        with pytest.raises(SessionNotFound):
            await store.load("b")
        with pytest.raises(CorruptRecord):
            await store.load("e")
        assert await history(store, "d") == ["d"]


async def _until_damage(found: AsyncIterator[T]) -> list[T]:
    """Return what an iterator yields before it raises `CorruptRecord`."""
    yielded: list[T] = []
    try:
        async for one in found:
            yielded.append(one)  # noqa: PERF401 - kept when it raises
    except CorruptRecord:
        return yielded
    pytest.fail("it did not raise CorruptRecord")


async def _pages(store: Store, limit: int, owner: str | None) -> tuple[list[SessionInfo], list[CorruptRecord]]:
    """Return the infos and the errors of all pages."""
    infos: list[SessionInfo] = []
    damaged: list[CorruptRecord] = []
    cursor = None
    while True:
        page = await store.backend.page(Query(namespace=store.namespace, owner=owner, limit=limit, cursor=cursor))
        infos += page.infos
        damaged += page.damaged
        cursor = page.cursor
        if cursor is None:
            return infos, damaged
