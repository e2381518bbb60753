"""Naive backends: concurrency, cancellation, opening and closing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

from msgspec.structs import replace

from naive import fails, stored
from turnlog import Change, Key, Page, Query, Receipt, Session
from turnlog.errors import Unavailable
from turnlog.rules import SessionState, check_condition
from turnlog.testing._cancelling import Cancelling
from turnlog.testing._concurrency import Concurrency
from turnlog.testing._lifecycle import Lifecycle
from turnlog.testing._model import Model
from turnlog_memory import MemoryBackend

# -------------------------------------------------------------------------------------------------------- concurrency


@fails(
    Concurrency,
    "reads_since_among_writers",
    "a_session_is_made_once",
    "copies_at_once",
    "count_by_compare_and_set",
    "each_turn_is_popped_once",
    "metadata_of_many",
    "nothing_is_lost",
    "nothing_is_lost_through_two_stores",
    "one_of_those_who_expect_the_same_wins",
    "one_of_those_who_make_it_wins",
    "the_same_change_from_many_tasks",
    "undo_on_a_busy_session",
)
class ReadsThenWrites(MemoryBackend):
    """Reads a session, yields to other tasks, and writes it back."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = self._state(key)
        after, receipt = before.apply(change, self.clock())
        await asyncio.sleep(0)
        if after is not before:
            self._put(key, before, after, self.clock())
        return receipt


@fails(Concurrency, "however_many_append_at_once")
class CountsItsTries(MemoryBackend):
    """Retries compare-and-set a hundred times at most."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        for _ in range(100):
            before = self._state(key)
            await asyncio.sleep(0)
            if self._state(key).header is before.header:
                return await super().commit(key, change)
        raise Unavailable("others came first")


@fails(Concurrency, "count_by_compare_and_set", "each_turn_is_popped_once", "one_of_those_who_expect_the_same_wins")
class ChecksThenWrites(MemoryBackend):
    """Checks `expect`, and then stores in a second step."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        if session is None or change.expect is None:
            return await super().commit(key, change)
        check_condition(key, session.version, change.expect)
        await asyncio.sleep(0)
        return await super().commit(key, replace(change, expect=None))


@fails(
    Concurrency,
    "a_session_is_made_once",
    "copies_at_once",
    "metadata_of_many",
    "nothing_is_lost",
    "nothing_is_lost_through_two_stores",
    "one_of_those_who_make_it_wins",
    "the_same_change_from_many_tasks",
)
class MakesThenWrites(MemoryBackend):
    """Creates a missing session in two steps, and overwrites another task's."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if await stored(self, key) is not None:
            return await super().commit(key, change)
        await asyncio.sleep(0)
        self._states.pop(key, None)
        return await super().commit(key, change)


@fails(Concurrency, "reads_since_among_writers", "readers_see_whole_turns")
class InfoThenRecords(MemoryBackend):
    """Reads the info, and then the records in a second step."""

    async def read(self, key: Key, **asked: Any) -> Session:
        info = (await super().read(key, **asked)).info
        await asyncio.sleep(0)
        session = await super().read(key, **asked)
        return replace(session, info=info)


@fails(Concurrency, "readers_see_whole_turns", "the_same_change_from_many_tasks")
class TurnByTurn(MemoryBackend):
    """Stores the turns of a change in separate steps."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if len(change.append) < 2 or change.expect is not None:
            return await super().commit(key, change)
        for number, record in enumerate(change.append):
            receipt = await super().commit(
                key, replace(change, id=f"{number}{change.id}", append=(record,), keep=None if number else change.keep)
            )
            await asyncio.sleep(0)
        return receipt


@fails(Concurrency, "delete_among_writers")
class DeletesInSteps(MemoryBackend):
    """Deletes the turns, and then the metadata in a second step."""

    async def delete(self, key: Key, **how: Any) -> bool:
        if not self._state(key).check_delete(how["expect"], how["for_owner"], self.clock()):
            return False
        await self.commit(key, Change(keep=0))
        await asyncio.sleep(0)
        header = self._state(key).header
        if header is not None:
            self._states[key].header = replace(header, metadata=type(header.metadata)({}))
        return True


@fails(Concurrency, "the_same_change_from_many_tasks")
class LooksThenStores(MemoryBackend):
    """Looks for a repeat, and then stores in a second step."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._receipts: dict[tuple[Key, str], Receipt] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if (key, change.id) not in self._receipts:
            await asyncio.sleep(0)
            self._receipts[key, change.id] = await super().commit(key, replace(change, id=Change(owner="").id))
        return self._receipts[key, change.id]


@fails(Concurrency, "many_sessions_at_once")
class OneAnswerForAll(MemoryBackend):
    """Returns the most recent reply to all waiting readers."""

    async def read(self, key: Key, **asked: Any) -> Session:
        self._reply = await super().read(key, **asked)
        await asyncio.sleep(0)
        return self._reply


@fails(Concurrency, "copies_at_once")
class CopiesThenChecks(MemoryBackend):
    """Checks that the target is missing, and then overwrites it in a second step."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        if await stored(self, target) is not None:
            return await super().copy(source, target, at=at, change_id=change_id, **how)
        await asyncio.sleep(0)
        self._states.pop(target, None)
        return await super().copy(source, target, at=at, change_id=change_id, **how)


# --------------------------------------------------------------------------------------------------------- cancelling


@fails(Cancelling, "others_are_not_cancelled", "sent_again_it_is_stored_once")
class RemembersThenStores(MemoryBackend):
    """Remembers the change id, and then stores the change in a second step."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = self._state(key)
        after, receipt = before.apply(change, self.clock())
        if after is not before and before.header is not None:
            header = replace(before.header, changes=before.header.changes + 1)
            known = SessionState(key, header, before._log, before._start, before._stop, after._ring, self.ttl)
            self._states[key] = known
            await asyncio.sleep(0)
            self._put(key, known, after, self.clock())
            return receipt
        return await super().commit(key, change)


@fails(Cancelling, "all_of_it_or_nothing")
class CutsThenAppends(MemoryBackend):
    """Cuts, and then appends in a second step."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.keep is None or not change.append:
            return await super().commit(key, change)
        await super().commit(key, Change(keep=change.keep))
        await asyncio.sleep(0)
        return await super().commit(key, change)


@fails(Cancelling, "a_cancelled_call_ends_as_cancelled")
class SwallowsCancellation(MemoryBackend):
    """Completes a cancelled call without `CancelledError`."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        return await super().commit(key, change)


@fails(Cancelling, "a_cancelled_call_ends_as_cancelled", "others_are_not_cancelled")
class BreaksWhenCancelled(MemoryBackend):
    """Treats a cancelled call as a broken connection, for all waiting calls."""

    async def read(self, key: Key, **asked: Any) -> Session:
        self._broken = True
        await asyncio.sleep(0)
        self._broken = False
        return await super().read(key, **asked)

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self._broken:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        if self._broken:
            raise ConnectionError("the connection is broken")
        return await super().commit(key, change)

    _broken = False


@fails(Cancelling, "the_store_goes_on")
class OneReplyBehind(MemoryBackend):
    """Returns the reply of a cancelled call to the next call."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._replies: list[Session] = []

    async def read(self, key: Key, **asked: Any) -> Session:
        self._replies.append(await super().read(key, **asked))
        await asyncio.sleep(0)
        return self._replies.pop(0)


# ------------------------------------------------------------------------------------------------------------- living


@fails(
    Lifecycle,
    "after_closing_every_call_raises_closed",
    "another_event_loop",
    "close_twice",
    "it_is_closed_when_the_block_fails",
    "open_again",
)
class NeverCloses(MemoryBackend):
    """Works after `close`."""

    async def close(self) -> None:
        """Do nothing."""


@fails(
    Lifecycle,
    "after_closing_every_call_raises_closed",
    "another_event_loop",
    "closing_leaves_nothing_running",
    "open_again",
    "two_stores_over_one_place",
    "what_is_stored_outlives_the_store",
    "with",
)
class NeverOpens(MemoryBackend):
    """Raises `Closed` even after `open`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._closed = True

    async def open(self) -> None:
        """Do nothing."""


@fails(Lifecycle, "after_closing_every_call_raises_closed")
class ForgetsToTell(MemoryBackend):
    """Answers reads after `close`."""

    async def read(self, key: Key, **asked: Any) -> Session:
        closed, self._closed = self._closed, False
        try:
            return await super().read(key, **asked)
        finally:
            self._closed = closed


@fails(Lifecycle, "after_closing_every_call_raises_closed")
class PagesWhenClosed(MemoryBackend):
    """Answers pages after `close`."""

    async def page(self, query: Query) -> Page:
        closed, self._closed = self._closed, False
        try:
            return await super().page(query)
        finally:
            self._closed = closed


@fails(Lifecycle, "close_twice")
class ClosesOnce(MemoryBackend):
    """Raises an error if closed twice."""

    async def close(self) -> None:
        self.check_open()
        await super().close()


@fails(Lifecycle, "open_again")
class OpensOnce(MemoryBackend):
    """Raises an error if opened again."""

    async def open(self) -> None:
        self.check_open()
        await super().open()


@fails(Lifecycle, "closing_leaves_nothing_running")
class LeavesASweeper(MemoryBackend):
    """Starts a task and never cancels it."""

    async def open(self) -> None:
        await super().open()
        self._sweeper = asyncio.create_task(asyncio.Event().wait())


@fails(Lifecycle, "another_event_loop")
class BoundToALoop(MemoryBackend):
    """Works only on the event loop that opened it."""

    async def open(self) -> None:
        await super().open()
        self._loop = asyncio.get_running_loop()

    async def commit(self, key: Key, change: Change) -> Receipt:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("attached to a different loop")
        return await super().commit(key, change)


@fails(Lifecycle, "two_stores_over_one_place")
class AllInOnePlace(MemoryBackend):
    """Stores the sessions of all objects in a class attribute."""

    kept: ClassVar[OrderedDict[Key, SessionState]] = OrderedDict()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._states = self.kept


@fails(Lifecycle, "two_stores_over_one_place", "what_is_stored_outlives_the_store", shared=True)
class ForgetsAtTheEnd(MemoryBackend):
    """Keeps sessions in memory although it declares that they are shared."""

    capabilities = frozenset({"shared"})

    def __init__(self, *, place: Path, **options: Any) -> None:
        super().__init__(**options)


@fails(Lifecycle, "two_stores_over_one_place", "what_is_stored_outlives_the_store", shared=True)
class ForgetsChanges(MemoryBackend):
    """Keeps sessions in its location, but remembered changes in memory."""

    capabilities = frozenset({"shared"})

    places: ClassVar[dict[Path, dict[Key, SessionState]]] = {}

    def __init__(self, *, place: Path, **options: Any) -> None:
        super().__init__(**options)
        self._place = self.places.setdefault(place, {})
        self._mine: set[tuple[Key, str]] = set()

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.check_open()
        self._states.update(self._place)
        if (key, change.id) not in self._mine:
            self._mine.add((key, change.id))
            state = self._states.get(key)
            if state is not None:
                self._states[key] = SessionState(
                    key, state.header, state._log, state._start, state._stop, type(state._ring)(), self.ttl
                )
        receipt = await super().commit(key, change)
        self._place.update(self._states)
        return receipt

    async def read(self, key: Key, **asked: Any) -> Session:
        self.check_open()
        self._states.update(self._place)
        return await super().read(key, **asked)


@fails(Lifecycle, "two_stores_over_one_place", shared=True)
class CachesForGood(MemoryBackend):
    """Reads a session from its location only once."""

    places: ClassVar[dict[Path, dict[Key, SessionState]]] = {}

    def __init__(self, *, place: Path, **options: Any) -> None:
        super().__init__(**options)
        self._place = self.places.setdefault(place, {})

    async def read(self, key: Key, **asked: Any) -> Session:
        self.check_open()
        if key in self._place:
            self._states.setdefault(key, self._place[key])
        return await super().read(key, **asked)

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.check_open()
        if key in self._place:
            self._states.setdefault(key, self._place[key])
        receipt = await super().commit(key, change)
        self._place[key] = self._states[key]
        return receipt


# ------------------------------------------------------------------------------------------------------------ agreeing


@fails(Model, "walks")
class KeepsTheTip(MemoryBackend):
    """Keeps the tip of the removed turns after a cut."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = await stored(self, key)
        receipt = await super().commit(key, change)
        header = self._state(key).header
        if change.keep is None or change.append or before is None or header is None or not header.version.generation:
            return receipt
        version = replace(header.version, tip=before.version.tip)
        self._states[key].header = replace(header, version=version)
        return replace(receipt, version=version)


@fails(Model, "walks")
class LooksAtIds(MemoryBackend):
    """Continues an open turn by its id only, whatever the number of the part."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        header = self._state(key).header
        if change.append and header is not None and header.tail is not None and change.append[0].part:
            first = change.append[0]
            if header.tail[0] == first.id:
                self._states[key].header = replace(header, tail=(first.id, first.part - 1, True))
        return await super().commit(key, change)
