"""Contract: a cancellation or a lost answer leaves the outcome unknown, and sending the same change again is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ..backend import Backend
from ..errors import OutcomeUnknown, SplitsSealed
from ..layers import stack_of
from ..store import Store
from ..values.change import ANY, Change, Receipt
from ..values.key import Key
from ..values.record import Record
from ._base import ContractBase
from ._material import ID, history, key, numbers, picture, record, say, texts

_LONG = "it is so, " * 1_000
"""A text that every codec makes smaller."""


class _Losing:
    """Loses the answer to the next commit of a backend, below all layers."""

    def __init__(self, backend: Backend) -> None:
        *_, lowest = stack_of(backend)
        self._commit = lowest.commit
        self.loses = False
        lowest.commit = self.commit  # type: ignore[method-assign]

    async def commit(self, key: Key, change: Change) -> Receipt:
        """Commit, and lose the answer."""
        receipt = await self._commit(key, change)
        if self.loses:
            self.loses = False
            raise OutcomeUnknown("the answer was lost", key=key, change=change)
        return receipt


async def _cancelled(call: Coroutine[Any, Any, object], steps: int) -> None:
    """Cancel a call after a number of steps of the event loop, unless it has ended."""
    task = asyncio.create_task(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


class Cancelling(ContractBase):
    async def test_sent_again_it_is_stored_once(self, store: Store) -> None:
        """A change that is sent again after a cancellation is stored once.  The call may be cancelled at any point."""
        for steps in range(24):
            change = Change(append=(record(f"{steps}", "x"),))
            await _cancelled(store.backend.commit(key(store), change), steps)
            receipt = await store.backend.commit(key(store), change)
            assert receipt.number == steps
        session = await store.session(ID)
        assert numbers(session) == list(range(24))
        assert [texts(turn.messages) for turn in session.turns] == [[f"{n}", "x"] for n in range(24)]

    async def test_all_of_it_or_nothing(self, store: Store) -> None:
        """A cancelled commit stores the whole change or nothing."""
        for steps in range(24):
            name = f"s{steps}"
            await store.append(name, say("a"))
            change = Change(keep=0, append=(record("b"), record("c")), metadata={"title": "x"}, owner="u1")
            await _cancelled(store.backend.commit(key(store, name), change), steps)
            session = await store.session(name)
            whole = (texts(session.messages), session.info.owner, dict(session.info.metadata))
            assert whole in ((["a"], "", {}), (["b", "c"], "u1", {"title": "x"}))

    async def test_a_cancelled_call_ends_as_cancelled(self, store: Store) -> None:
        """A cancelled call raises `CancelledError`; otherwise a deadline around it would never end."""
        for steps in range(4):
            await store.append(ID, say("a"))
            calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
                lambda: store.append(ID, say("b")),
                lambda: store.load(ID),
                lambda: store.merge_metadata(ID, {"title": "x"}),
                lambda: store.fork(ID, store.new_session_id()),
                lambda: store.erase(ID),
            ]
            for call in calls:
                task = asyncio.create_task(call())
                for _ in range(steps):
                    await asyncio.sleep(0)
                cancelled = task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() is cancelled, f"swallowed after {steps} steps"

    async def test_the_store_goes_on(self, store: Store) -> None:
        """Calls after a cancelled call get their own answers."""
        for number in range(8):
            await store.append(f"s{number}", say(f"{number}"))
        for steps in range(16):
            calls: list[Coroutine[Any, Any, object]] = [
                store.load("s0"),
                store.append("s1", say("more")),
                store.info("s2"),
                store.erase("not there"),
            ]
            await asyncio.gather(*(_cancelled(call, steps) for call in calls))
            for number in (0, 2, 3, 4):
                assert await history(store, f"s{number}") == [f"{number}"]
        assert len([info async for info in store.sessions()]) == 8

    async def test_others_are_not_cancelled(self, store: Store) -> None:
        """A cancellation ends the cancelled call, and no other call that waits at the same time."""
        await store.append(ID, say("a"))
        for steps in range(12):
            others = [asyncio.create_task(store.append(ID, say(f"{steps}.{n}"))) for n in range(3)]
            await asyncio.gather(*(_cancelled(store.load(ID), steps) for _ in range(3)))
            receipts = await asyncio.gather(*others)
            assert len({receipt.number for receipt in receipts}) == 3
        assert len(await store.load(ID)) == 37

    async def test_a_caller_holds_what_it_sent(self, store: Store) -> None:
        """`OutcomeUnknown.change` holds records that no layer has encoded, and can be sent again at any time."""
        said = say(*(f"{number} {_LONG}" for number in range(6)))
        for message in said:
            await store.append(ID, [message])
        await store.backend.seal(key(store), Record.seal((await store.backend.read(key(store))).records))
        losing = _Losing(store.backend)
        calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "append": lambda: store.append("append", said),
            "save": lambda: store.save("save", said),
            "fork": lambda: store.fork(ID, "fork"),
            "part": lambda: store.fork(ID, "part", at=3),  # inside the sealed record
            ID: lambda: store.save(ID, [*said[:3], said[5]], expect=ANY),  # cuts inside it
        }
        for name, call in calls.items():
            losing.loses = True
            with pytest.raises((OutcomeUnknown, SplitsSealed)) as lost:
                await call()
            if not isinstance(lost.value, OutcomeUnknown):
                assert name == ID, "only a layer that compresses cuts inside a sealed record"
                continue
            assert all(one.plain for one in lost.value.change.append), f"{name} would be sent as a layer has encoded it"
            before = await picture(store, name)
            await store.resend(lost.value, delays=())
            assert await picture(store, name) == before, f"{name} is stored once"
            assert len(await store.load(name)) == {"part": 3, ID: 4}.get(name, 6)
