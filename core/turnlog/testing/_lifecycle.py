"""Contract: opening and closing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ..errors import Closed, IdReused, SessionNotFound
from ..store import Store
from ..values.change import Change
from ..values.key import Key
from ..values.query import Query
from ._base import ContractBase
from ._material import ID, history, key, numbers, picture, record, say, texts


async def _answer(call: Callable[[], Awaitable[object]]) -> object:
    """Return what a call returns, or the error that it raises."""
    try:
        return await call()
    except Exception as error:  # noqa: BLE001 - the caller compares it
        return error


class Lifecycle(ContractBase):
    async def test_with(self) -> None:
        """`async with` opens a backend, or a store and its backend, and returns the object itself."""
        store = self.made()
        async with store as opened:
            assert opened is store
            await store.append(ID, say("a"))
            assert await history(store) == ["a"]
        backend = self.make(clock=self.clock)
        async with backend as same:
            assert same is backend
            await backend.commit(key(store), Change(append=(record("a"),)))

    async def test_it_is_closed_when_the_block_fails(self) -> None:
        """If the block of `async with` raises, the store is closed and the error is passed on."""
        store = self.made()
        with pytest.raises(KeyError):
            async with store:
                raise KeyError("of the application")
        with pytest.raises(Closed):
            await store.load(ID)

    async def test_after_closing_every_call_raises_closed(self) -> None:
        """Every call of a closed store or backend raises `Closed`."""
        store = self.made()
        async with store:
            version = (await store.append(ID, say("a"))).version
        one = Key(store.namespace, ID)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.backend.read(one),
            lambda: store.backend.read(one, last=0, touch=False),
            lambda: store.backend.commit(one, Change(append=(record("b"),))),
            lambda: store.backend.delete(one),
            lambda: store.backend.delete(one, expect=version),
            lambda: store.backend.delete(one, for_owner="u1"),
            lambda: store.backend.page(Query(namespace=store.namespace)),
            lambda: store.backend.totals(store.namespace),
            lambda: store.backend.copy(one, Key(store.namespace, "bob"), at=None, change_id="f"),
            lambda: store.load(ID),
            lambda: store.session(ID),
            lambda: store.append(ID, say("b")),
            lambda: store.save(ID, say("a")),
            lambda: store.fork(ID, "bob"),
            lambda: store.rewind(ID, turns=1),
            lambda: store.pop(ID),
            lambda: store.merge_metadata(ID, {"x": 1}),
            lambda: store.info(ID),
            lambda: store.touch(ID),
            lambda: store.erase(ID),
            lambda: store.erase_owner("u1"),
            lambda: anext(store.sessions()),
            lambda: anext(store.export_owner("u1")),
            lambda: store.within("other").load(ID),
            lambda: store.within("other").append(ID, say("b")),
            lambda: store.for_owner("u1").load(ID),
        ]
        answers = [await _answer(call) for call in calls]
        assert [type(answer) for answer in answers] == [Closed] * len(calls)

    async def test_close_twice(self) -> None:
        """A store can be closed twice, even by two tasks at once."""
        store = self.made()
        await store.open()
        await asyncio.gather(store.close(), store.close())
        await store.close()
        with pytest.raises(Closed):
            await store.load(ID)

    async def test_open_again(self) -> None:
        """A store that was closed can be opened again."""
        store = self.made()
        for text in "abc":
            async with store:
                await store.append(text, say(text))
                assert await history(store, text) == [text]
            with pytest.raises(Closed):
                await store.load(text)

    async def test_closing_leaves_nothing_running(self) -> None:
        """`close` ends all background tasks."""
        before = asyncio.all_tasks()
        store = self.made()
        async with store:
            await asyncio.gather(*(store.append(ID, say(f"{n}")) for n in range(4)))
            await store.load(ID)
        assert asyncio.all_tasks() == before

    async def test_what_is_stored_outlives_the_store(self) -> None:
        """If sessions are shared, a second store has all sessions of the first; otherwise it begins empty."""
        change = Change(append=(record("c"),))
        async with self.made() as store:
            await store.append(ID, say("a", "b"), owner="u1", metadata={"title": "x"})
            await store.append(ID, say("r"), turn_id="t", open=True)
            await store.append(ID, say("s"), turn_id="t", part=1)
            await store.merge_metadata(ID, ttl=600.0)
            await store.append("seven", say("x"))
            await store.backend.commit(
                key(store, "seven"), Change(append=tuple(record(f"{n}") for n in range(6)), retain=3)
            )
            receipt = await store.backend.commit(key(store), change)
            before = [await picture(store), await picture(store, "seven")]
        other = await self.opened()
        if not self.shared:
            assert [info async for info in other.sessions()] == []
            with pytest.raises(SessionNotFound):
                await other.load(ID)
            return
        assert [await picture(other), await picture(other, "seven")] == before
        again = await other.backend.commit(key(other), change)
        assert (again.version, again.number) == (receipt.version, receipt.number), "changes are remembered"
        with pytest.raises(IdReused):
            await other.append(ID, say("other"), turn_id="t")
        assert (await other.append(ID, say("d"), expect=receipt.version)).number == 3

    async def test_two_stores_over_one_place(self, store: Store) -> None:
        """If sessions are shared, two open stores have the same sessions; otherwise each store has its own sessions."""
        other = await self.opened()
        change = Change(append=(record("a"),))
        receipt = await store.backend.commit(key(store), change)
        if not self.shared:
            assert await picture(other) is None
            await other.append(ID, say("mine"))
            assert await history(store) == ["a"]
            return
        assert await picture(other) == await picture(store)
        assert (await other.backend.commit(key(store), change)).version == receipt.version
        await other.append(ID, say("b"), expect=receipt.version)
        session = await store.backend.read(key(store), since=receipt.version)
        assert (session.continues, texts(session.messages)) == (True, ["b"])
        await store.pop(ID)
        assert await history(other) == ["a"]
        assert await other.erase(ID)
        assert await picture(store) is None
        await other.close()
        await store.append(ID, say("c"))
        assert await history(store) == ["c"], "closing one does not close the other"

    def test_another_event_loop(self) -> None:
        """A store works in several event loops, one after another."""
        store = self.made()
        asyncio.run(store.open())
        for number in range(3):
            asyncio.run(store.append(ID, say(f"{number}")))
        session = asyncio.run(store.session(ID))
        assert (numbers(session), texts(session.messages)) == ([0, 1, 2], ["0", "1", "2"])
        asyncio.run(store.close())
        with pytest.raises(Closed):
            asyncio.run(store.load(ID))
