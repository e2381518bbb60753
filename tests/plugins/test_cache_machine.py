"""Two caches over one backend, compared with a plain model.

The model lists the states of a session and the time at which each ended. The first cache validates. The second
validates or trusts. A trusting cache may show a state that ended at most `max_age` ago, unless it has shown a later
one. Through both caches a change is accepted only if its condition holds in the backend.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from typing import Any, ClassVar, Final, TypeVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from turnlog import (
    ABSENT,
    ANY,
    PRESENT,
    Backend,
    Change,
    Conflict,
    Expect,
    Key,
    Receipt,
    Record,
    Session,
    SessionNotFound,
    SplitsSealed,
    Store,
    Version,
    user,
)
from turnlog.testing import Clock
from turnlog_cache import CacheLayer
from turnlog_cache._entry import Entry
from turnlog_cache._layer import Mode
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend
from watched import Hold, Kind, Watched

T = TypeVar("T")

TTL: Final = 100.0
MAX_AGE: Final = 10.0
NAMES: Final = ("s0", "s1")
THOROUGH: Final = settings().max_examples > 100
EXAMPLES: Final = 500 if THOROUGH else 15


@dataclass(frozen=True)
class State:
    """The state of a session: its turns as (number, id, texts, open), and its metadata."""

    turns: tuple[tuple[int, str, tuple[str, ...], bool], ...] = ()
    first: int = 0
    next: int = 0
    metadata: tuple[tuple[str, object], ...] = ()
    owner: str = ""
    version: Version | None = None

    @property
    def texts(self) -> list[str]:
        """Return the texts of all messages."""
        return [text for turn in self.turns for text in turn[2]]

    def part(self, last: int | None, before: int | None) -> list[tuple[int, str, tuple[str, ...], bool]]:
        """Return the turns of a window."""
        turns = [turn for turn in self.turns if before is None or turn[0] < before]
        if last is None:
            return turns
        place, held = len(turns), 0
        while place and held < last:
            place -= 1
            held += len(turns[place][2])
        return turns[place:]

    def cut(self, keep: int) -> State:
        """Return the state without the turns from a number on."""
        turns = tuple(turn for turn in self.turns if turn[0] < keep)
        return replace(self, turns=turns, next=keep, first=min(self.first, keep))

    def with_turn(self, id: str, texts: Sequence[str], *, open: bool = False) -> State:
        """Return the state with one more turn."""
        return replace(self, turns=(*self.turns, (self.next, id, tuple(texts), open)), next=self.next + 1)


@dataclass
class Past:
    """The states of a session. None: the session does not exist."""

    states: list[State | None] = field(default_factory=lambda: [None])
    ended: list[float] = field(default_factory=lambda: [inf])
    alive_until: float = -inf

    @property
    def now(self) -> State | None:
        """Return the last state."""
        return self.states[-1]


class Held:
    """A call that the backend has applied but not answered."""

    def __init__(self, name: str, cache: int, hold: Hold, task: asyncio.Task[Any], since: int) -> None:
        self.name, self.cache, self.hold, self.task, self.since = name, cache, hold, task, since


class Machine(RuleBasedStateMachine):
    """The operations on both caches and from another process."""

    second: ClassVar[Mode] = "validate"

    def make(self, **options: Any) -> Backend:
        """Return the backend."""
        return MemoryBackend(**options)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.ends = ExitStack()
        self.clock, self.timer = Clock(), Clock(1_000.0)
        self.backend = self.make(ttl=TTL, clock=self.clock)
        self.other_process = Store(self.backend)
        self.ids = count()
        self.past = {name: Past() for name in NAMES}
        self.shown: list[dict[str, int]] = [dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)]
        self.seen: list[dict[str, Version]] = [{}, {}]
        self.sent: dict[str, tuple[str, list[Any]]] = {}
        self.held: list[Held] = []

    @initialize(sessions=st.sampled_from([1, 2]), size=st.sampled_from([3_500, 10_000, 10**6]))
    def begin(self, sessions: int, size: int) -> None:
        self.watched = [Watched(self.backend), Watched(self.backend)]
        self.caches = [
            CacheLayer(
                watched, mode=mode, max_age=MAX_AGE, max_sessions=sessions, max_bytes=size, idle=50.0, timer=self.timer
            )
            for watched, mode in zip(self.watched, ("validate", self.second), strict=True)
        ]
        self.stores = [Store(cache) for cache in self.caches]
        self.run(self.backend.open())

    def teardown(self) -> None:
        for held in self.held:
            held.hold.answer()
            self.run(asyncio.wait([held.task]))
            if not held.task.cancelled():
                held.task.exception()
        self.run(self.backend.close())
        self.loop.close()
        self.ends.close()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call in the machine's event loop."""
        return self.loop.run_until_complete(call)

    # ------------------------------------------------------------------------------------------------------- the model

    def look(self, name: str) -> State | None:
        """Return the state by the model. After 7/8 of its time to live, the backend decides whether it has expired."""
        past = self.past[name]
        if past.now is not None:
            try:
                self.run(self.backend.read(Key("default", name), last=0, touch=False))
            except SessionNotFound:
                assert self.timer() >= past.alive_until, "lost"
                past.ended[-1] = -inf  # no cache may show an expired session
                past.states.append(None)
                past.ended.append(inf)
                self.sent.pop(name, None)
        return past.now

    def became(self, name: str, state: State | None, cache: int | None, version: Version | None = None) -> None:
        """Record a change that was acknowledged to a cache or to another process."""
        past = self.past[name]
        past.ended[-1] = self.timer()
        past.states.append(None if state is None else replace(state, version=version))
        past.ended.append(inf)
        past.alive_until = self.timer() + TTL * 7 / 8
        if state is None:
            self.sent.pop(name, None)
        if cache is not None:
            self.shown[cache][name] = len(past.states) - 1

    def allowed(self, cache: int, name: str, *, since: int | None = None) -> set[int]:
        """Return the states that a cache may show to a read that begins now, or that began at state `since`."""
        past = self.past[name]
        newest = len(past.states) - 1
        least = self.shown[cache][name]
        if since is not None:
            return set(range(min(since, least), newest + 1))
        if self.caches[cache].mode == "validate":
            return {newest}
        return {n for n in range(least, newest + 1) if past.ended[n] >= self.timer() - MAX_AGE}

    def compare(
        self, cache: int, name: str, session: Session | None, part: tuple[int | None, int | None], allowed: set[int]
    ) -> None:
        """Compare the answer of a cache with the model."""
        past = self.past[name]
        if session is None:
            places = [n for n in allowed if past.states[n] is None]
            assert places, "the session was not found"
        else:
            version = session.version
            places = [n for n in allowed if (state := past.states[n]) is not None and state.version == version]
            assert places, "stale"
            state = past.states[places[-1]]
            assert state is not None
            info = session.info
            assert [(t.number, t.id, tuple(m.text for m in t.messages), t.open) for t in session.turns] == state.part(
                *part
            )
            assert (info.first, info.turns, info.messages) == (state.first, state.next, len(state.texts))
            assert (dict(info.metadata), info.owner) == (dict(state.metadata), state.owner)
            self.seen[cache][name] = version
            if self.caches[cache].mode == "validate":
                past.alive_until = max(past.alive_until, self.timer() + TTL * 7 / 8)
        self.shown[cache][name] = max(self.shown[cache][name], places[-1])

    def text(self) -> str:
        """Return a new text."""
        number = next(self.ids)
        return f"{number}" + "x" * (number * 37 % 200)

    def write(self, cache: int, name: str, call: Coroutine[Any, Any, Receipt], new: State, *, fine: bool) -> None:
        """Make a change. It must be accepted if its condition holds, and otherwise refused."""
        try:
            receipt = self.run(call)
        except (Conflict, SessionNotFound):
            assert not fine, "refused"
        else:
            assert fine, "accepted"
            self.became(name, new, cache, receipt.version)

    def expected(self, cache: int, name: str, how: str) -> tuple[Expect, bool]:
        """Return a condition, and whether the session meets it."""
        now = self.past[name].now
        if how == "absent":
            return ABSENT, now is None
        if how == "present":
            return PRESENT, now is not None
        seen = self.seen[cache].get(name)
        if not how or seen is None:
            return None, True
        here = None if now is None else now.version
        if here is None or how == "exact":
            return (seen.exact if how == "exact" else seen), here == seen
        if how == "session":
            return seen.session, here.epoch == seen.epoch
        return seen, (here.epoch, here.generation, here.tip) == (seen.epoch, seen.generation, seen.tip)

    # ---------------------------------------------------------------------------------------------------------- reading

    caches_ = st.sampled_from([0, 1])
    names = st.sampled_from(["s0", "s0", "s0", "s1"])
    hows = st.sampled_from(["", "", "", "turns", "turns", "turns", "exact", "exact", "session", "present", "absent"])
    lasts = st.none() | st.integers(1, 12)
    befores = st.none() | st.none() | st.integers(0, 12)

    @rule(cache=caches_, name=names, last=lasts, before=befores, touch=st.booleans())
    def load(self, cache: int, name: str, last: int | None, before: int | None, touch: bool) -> None:
        self.look(name)
        allowed = self.allowed(cache, name)
        session: Session | None = None
        with suppress(SessionNotFound):
            session = self.run(self.stores[cache].session(name, last=last, before=before, touch=touch))
        alive = self.past[name].alive_until
        self.compare(cache, name, session, (last, before), allowed)
        if not touch:
            self.past[name].alive_until = alive

    load_again = load

    @rule(cache=caches_, name=names)
    def info(self, cache: int, name: str) -> None:
        state = self.look(name)
        try:
            assert self.run(self.stores[cache].info(name)).version == (None if state is None else state.version)
        except SessionNotFound:
            assert state is None
        self.shown[cache][name] = len(self.past[name].states) - 1

    @precondition(lambda self: len(self.held) < 3)
    @rule(cache=caches_, name=names)
    def begin_reading(self, cache: int, name: str) -> None:
        self.look(name)
        self._hold(cache, name, "read", self.stores[cache].session(name, last=1_000 + next(self.ids)))

    @precondition(lambda self: len(self.held) < 3)
    @rule(cache=caches_, name=names)
    def begin_appending(self, cache: int, name: str) -> None:
        now, text = self.look(name) or State(), self.text()
        held = self._hold(cache, name, "commit", self.stores[cache].append(name, [user(text)], turn_id=text[:9]))
        assert held is not None
        version = self.run(self.other_process.info(name)).version
        self.became(name, now.with_turn(text[:9], [text]), None, version)
        held.since = len(self.past[name].states) - 1

    def _hold(self, cache: int, name: str, kind: Kind, call: Coroutine[Any, Any, Any]) -> Held | None:
        async def applied() -> Held | None:
            hold = self.watched[cache].hold(kind)
            task = asyncio.ensure_future(call)
            sent = asyncio.ensure_future(hold.sent.wait())
            await asyncio.wait([sent, task], return_when=asyncio.FIRST_COMPLETED)
            if not sent.done():  # the cache answered the call
                sent.cancel()
                self.watched[cache].holds[kind].remove(hold)
                task.exception()
                return None
            await hold.apply()
            return Held(name, cache, hold, task, len(self.past[name].states) - 1)

        held = self.run(applied())
        if held is not None:
            self.held.append(held)
        return held

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self._answer(self.held[data.draw(st.integers(0, len(self.held) - 1), label="which")])

    @precondition(lambda self: len(self.held) < 3)
    @rule(cache=caches_, name=names, by=st.sampled_from(["append", "info", "describe"]))
    def be_overtaken(self, cache: int, name: str, by: str) -> None:
        """Begin a read that is answered after its cache has seen a later state."""
        self.look(name)
        held = self._hold(cache, name, "read", self.stores[cache].session(name, last=1_000 + next(self.ids)))
        if by == "append":
            self.append(cache, name, "", 1, None)
        elif by == "describe":
            self.describe(cache, name, "", False, 1)
        else:
            self.another_process_appends(name)
            self.info(cache, name)
        if held is not None:
            self._answer(held)

    def _answer(self, held: Held) -> None:
        self.held.remove(held)
        held.hold.answer()
        self.look(held.name)
        try:
            answer = self.run(_outcome(held.task))
        except SessionNotFound:
            answer = None
        if isinstance(answer, Receipt):
            shown = self.shown[held.cache]
            shown[held.name] = max(shown[held.name], held.since)
        else:
            alive = self.past[held.name].alive_until
            self.compare(
                held.cache,
                held.name,
                answer,
                (None, None),
                self.allowed(held.cache, held.name, since=held.since),
            )
            self.past[held.name].alive_until = alive

    # ---------------------------------------------------------------------------------------------------------- writing

    @rule(cache=caches_, name=names, how=hows, messages=st.integers(1, 4), retain=st.sampled_from([None, None, 3]))
    def append(self, cache: int, name: str, how: str, messages: int, retain: int | None) -> None:
        now = self.look(name) or State()
        expect, fine = self.expected(cache, name, how)
        texts, id = [self.text() for _ in range(messages)], f"t{next(self.ids)}"
        said = [user(text) for text in texts]
        store = self.stores[cache]
        new = now.with_turn(id, texts)
        if retain is None:
            self.write(cache, name, store.append(name, said, turn_id=id, expect=expect), new, fine=fine)
            if fine:
                self.sent[name] = (id, said)
        else:
            change = Change(append=(Record.of(tuple(said), id=id, time=0.0),), retain=retain, expect=expect)
            self.write(cache, name, self.caches[cache].commit(Key("default", name), change), new, fine=fine)
            if fine:
                self._dropped(name)

    def _dropped(self, name: str) -> None:
        """Adopt the turns that the backend dropped. Sealed turns stay together, but no retained turn is dropped."""
        past = self.past[name]
        state = past.now
        assert state is not None
        first = self.run(self.other_process.info(name)).first
        assert first <= max(state.first, state.next - 3)
        turns = tuple(turn for turn in state.turns if turn[0] >= first)
        past.states[-1] = replace(state, first=first, turns=turns)

    @rule(cache=caches_, name=names)
    def append_again(self, cache: int, name: str) -> None:
        self.look(name)
        if name in self.sent:
            id, said = self.sent[name]
            self.run(self.stores[cache].append(name, said, turn_id=id))
            self.past[name].alive_until = self.timer() + TTL * 7 / 8

    @rule(cache=caches_, name=names, open=st.booleans())
    def append_a_round(self, cache: int, name: str, open: bool) -> None:
        now, text = self.look(name) or State(), self.text()
        store = self.stores[cache]
        if now.turns and now.turns[-1][3]:
            number, id, texts, _ = now.turns[-1]
            part = len(texts)
            new = replace(now, turns=(*now.turns[:-1], (number, id, (*texts, text), open)))
        else:
            id, part = f"r{next(self.ids)}", 0
            new = now.with_turn(id, [text], open=open)
        self.write(cache, name, store.append(name, [user(text)], turn_id=id, part=part, open=open), new, fine=True)

    @rule(name=names)
    def another_process_appends(self, name: str) -> None:
        now, text = self.look(name) or State(), self.text()
        receipt = self.run(self.other_process.append(name, [user(text)], turn_id=text[:9]))
        self.became(name, now.with_turn(text[:9], [text]), None, receipt.version)

    @rule(cache=caches_, name=names, how=hows | st.just("any"), keep=st.integers(0, 5))
    def save(self, cache: int, name: str, how: str, keep: int) -> None:
        now, text = self.look(name), self.text()
        texts = [] if now is None else now.texts
        expect, fine = self.expected(cache, name, "" if how == "any" else how)
        condition = ANY if how == "any" else expect
        if condition is None or condition is PRESENT:
            keep = len(texts)
        wanted = [*texts[:keep], text]
        try:
            receipt = self.run(self.stores[cache].save(name, [user(one) for one in wanted], expect=condition))
        except SplitsSealed:
            self._unchanged(name)
        except Conflict:
            assert not fine, "refused"
            self._unchanged(name)
        except SessionNotFound:  # or `trust` remembers for a second that the session did not exist
            assert not fine or self.caches[cache].mode == "trust", "refused"
            assert expect is PRESENT
            self._unchanged(name)
        else:
            assert fine, "accepted"
            self._rewritten(cache, name, now, receipt.version, wanted)

    def _rewritten(self, cache: int, name: str, before: State | None, version: Version, wanted: list[str]) -> None:
        session = self.run(self.other_process.session(name, touch=False))
        assert session.version == version
        assert [message.text for message in session.messages] == wanted
        turns = tuple((t.number, t.id, tuple(m.text for m in t.messages), t.open) for t in session.turns)
        state = replace(before or State(), turns=turns, first=session.info.first, next=session.info.turns)
        self.became(name, state, cache, version)

    def _unchanged(self, name: str) -> None:
        now, version = self.past[name].now, None
        with suppress(SessionNotFound):
            version = self.run(self.other_process.session(name, touch=False)).version
        assert version == (None if now is None else now.version)

    @rule(
        cache=caches_, name=names, amount=st.integers(1, 4), by=st.sampled_from(["turns", "messages", "pop"]), how=hows
    )
    def undo(self, cache: int, name: str, amount: int, by: str, how: str) -> None:
        now = self.look(name)
        if now is None or not now.turns:
            return
        store = self.stores[cache]
        expect, fine = self.expected(cache, name, "" if by == "pop" else how)
        if by == "pop":
            amount = 1
        amount = min(amount, len(now.texts) if by == "messages" else len(now.turns))
        try:
            if by == "pop":
                turn = self.run(store.pop(name))
                if turn is None:  # a trusted read shows no turns
                    assert self.caches[cache].mode == "trust"
                    self._unchanged(name)
                    return
                assert turn.number == now.next - 1
            elif by == "turns":
                self.run(store.rewind(name, turns=amount, expect=expect))
            else:
                self.run(store.rewind(name, messages=amount, expect=expect))
        except SplitsSealed:
            self._unchanged(name)
        except Conflict:
            assert not fine, "refused"
            self._unchanged(name)
        except (SessionNotFound, ValueError):  # a trusted read shows no session, or one with fewer messages
            assert self.caches[cache].mode == "trust" and by != "turns"
            self._unchanged(name)
        else:
            assert fine, "accepted"
            wanted = now.texts[:-amount] if by == "messages" else now.cut(now.next - amount).texts
            self._rewritten(cache, name, now, self.run(self.other_process.info(name)).version, wanted)

    @rule(cache=caches_, source=names, at=st.none() | st.integers(0, 6), how=hows)
    def fork(self, cache: int, source: str, at: int | None, how: str) -> None:
        target = "s0" if source == "s1" else "s1"
        now, existing = self.look(source), self.look(target)
        expect, fine = self.expected(cache, source, how)
        try:
            receipt = self.run(self.stores[cache].fork(source, target, at=at, expect=expect))
        except SessionNotFound:
            assert now is None
        except Conflict:
            assert existing is not None or not fine
        else:
            assert now is not None and existing is None and fine
            self.became(target, now if at is None or at >= now.next else now.cut(at), cache, receipt.version)
            self.past[source].alive_until = max(self.past[source].alive_until, self.timer())

    @rule(cache=st.sampled_from([0, 1, None]), name=names, how=hows)
    def erase(self, cache: int | None, name: str, how: str) -> None:
        now = self.look(name)
        if cache is None:
            if self.run(self.other_process.erase(name)):
                self.became(name, None, None)
            return
        expect, fine = self.expected(cache, name, how)
        try:
            assert self.run(self.stores[cache].erase(name, expect=expect)) is (now is not None)
        except (Conflict, SessionNotFound):
            assert not fine
        else:
            assert fine
            if now is not None:
                self.became(name, None, cache)

    @rule(cache=caches_, name=names, how=hows, owner=st.booleans(), value=st.none() | st.integers(0, 3))
    def describe(self, cache: int, name: str, how: str, owner: bool, value: int | None) -> None:
        now = self.look(name) or State()
        expect, fine = self.expected(cache, name, how)
        metadata = dict(now.metadata) | {"a": value}
        new = replace(now, metadata=tuple((n, v) for n, v in metadata.items() if v is not None))
        if owner:
            new = replace(new, owner=f"owner {value}")
        call = self.stores[cache].merge_metadata(
            name, {"a": value}, owner=f"owner {value}" if owner else None, expect=expect
        )
        self.write(cache, name, call, new, fine=fine)

    @rule(name=names, start=st.integers(0, 6), length=st.integers(2, 5))
    def seal(self, name: str, start: int, length: int) -> None:
        if self.look(name) is None:
            return
        records = self.run(self.backend.read(Key("default", name), touch=False)).records
        while start < len(records) and not records[start].turns:
            start += 1
        run = records[start : start + length]
        if len(run) >= 2 and (start + length >= len(records) or records[start + length].turns):
            done = self.run(self.backend.seal(Key("default", name), Record.seal(run)))
            assert done or run[-1].open, "only the open end of a session is not sealed"

    @rule(seconds=st.sampled_from([0.5, 4.0, 11.0, 60.0, 90.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.timer.advance(seconds)

    @invariant()
    def counts(self) -> None:
        for cache in getattr(self, "caches", ()):
            entries = cache._entries.values()
            assert cache.counters.bytes == sum(entry.size for entry in entries) <= cache.max_bytes
            assert len(entries) <= cache.max_sessions


async def _outcome(task: asyncio.Task[T]) -> T:
    return await task


class Trusting(Machine):
    """The first cache validates, and the second trusts."""

    second = "trust"


class OverSQLite(Machine):
    """Both caches validate, over a SQLite file."""

    def make(self, **options: Any) -> Backend:
        folder = self.ends.enter_context(tempfile.TemporaryDirectory(prefix="turnlog-"))
        return SQLiteBackend(f"sqlite:///{folder}/t.db", synchronous="NORMAL", sweep=0, **options)


class TrustingOverSQLite(OverSQLite):
    """The first cache validates, and the second trusts, over a SQLite file."""

    second = "trust"


CHOSEN: Final = settings(max_examples=EXAMPLES, stateful_step_count=50)


@pytest.mark.parametrize("machine", [Machine, Trusting, OverSQLite, TrustingOverSQLite])
def test_two_caches_agree_with_a_plain_model(machine: type[Machine]) -> None:
    """The thorough profile runs 500 examples of 50 steps over memory, and a fifth of that over SQLite."""
    examples = EXAMPLES // (5 if THOROUGH else 3) if issubclass(machine, OverSQLite) else EXAMPLES
    run_state_machine_as_test(machine, settings=settings(CHOSEN, max_examples=examples))


def _found(machine: type[Machine]) -> None:
    briefly = settings(CHOSEN, max_examples=500, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=briefly)


def test_a_cache_that_keeps_every_answer_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    put = CacheLayer._put

    def naive(self: CacheLayer, key: Key, base: Entry | None, entry: Entry, *_: object) -> None:
        put(self, key, self._entries.get(key), entry)

    monkeypatch.setattr(CacheLayer, "_put", naive)
    _found(Trusting)
