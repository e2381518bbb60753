"""`SessionState` against a brute-force model, and its helper functions."""

from __future__ import annotations

import contextlib
import unicodedata
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import model as by_hand
from model import Ask, Condition, Model, Piece, Placed, Point, Round
from turnlog import (
    ABSENT,
    PRESENT,
    Change,
    Expect,
    Key,
    Metadata,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    SessionInfo,
    Version,
    user,
)
from turnlog.errors import CorruptRecord, IdReused, InvalidInput, SessionNotFound, SplitsSealed, TooLarge, TurnlogError
from turnlog.rules import SessionState, file_key, page, page_of, page_of_all
from turnlog.values import SameSession

KEY = Key("shop", "alice")
OLD_STATES = 6  # number of earlier states to read, expect and continue from

small = st.integers(0, 7)
kinds = st.sampled_from(["session", "turns", "exact", by_hand.ABSENT, by_hand.PRESENT])
owners = st.sampled_from([None, None, "ann", "bob"])
rounds = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=4)


def record(round: Round, time: float = 0.0) -> Record:
    """Return the record of a round."""
    return Record.of(
        tuple(user(text) for text in round.texts), id=round.id, part=round.part, open=round.open, time=time
    )


def head(one: Record) -> tuple[object, ...]:
    """Return all fields of a record but its body."""
    return (
        one.id,
        one.part,
        one.open,
        one.time,
        one.count,
        one.rounds,
        one.turns,
        one.number,
        one.rounds_until,
        one.messages_until,
        one.tip,
        one.size,
    )


def shape(records: tuple[Record, ...]) -> tuple[Piece, ...]:
    """Return records as pieces of the model."""
    pieces = []
    for whole in records:
        placed = []
        for part in whole.split():
            texts = tuple(message.text for message in part.messages)
            placed.append(Placed(Round(part.id, part.part, part.open, texts), part.number, part.rounds_until))
        pieces.append(tuple(placed))
    return tuple(pieces)


class StateMachine(RuleBasedStateMachine):
    """Applies each step to a state and to the model, and compares all visible results."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.names = self.epochs = 0
        self.ttl: float | None = None
        self.state, self.model = SessionState.absent(KEY), Model()
        self.old: list[tuple[SessionState, Model]] = []
        self.points: dict[Version, Point] = {}
        self.follower: Session | None = None
        self.followed: tuple[Placed, ...] = ()

    # The calls of the state.  A planted bug overrides one of them.

    def apply(self, state: SessionState, change: Change) -> tuple[SessionState, Receipt]:
        return state.apply(change, self.now, nonce=self.nonce)

    def read(self, state: SessionState, **options: Any) -> tuple[SessionState, Session]:
        return state.read(self.now, **options)

    def seal_run(self, state: SessionState, record: Record) -> tuple[SessionState, bool]:
        return state.seal(record, self.now)

    def may_delete(self, state: SessionState, expect: Expect, for_owner: str | None) -> bool:
        return state.check_delete(expect, for_owner, self.now)

    def nonce(self, size: int) -> bytes:
        return self.epochs.to_bytes(size, "big")

    # -------------------------------------------------------------------------------------------------------- comparing

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    def versions(self) -> list[Version]:
        """Return every version seen so far, in that order: of this session, its branches and earlier epochs."""
        return list(self.points)

    def see(self, version: Version, point: Point | None) -> None:
        """Check that versions are equal if and only if their points are."""
        assert point is not None
        assert self.points.setdefault(version, point) == point
        assert point not in [other for seen, other in self.points.items() if seen != version]

    def expected(self, expect: Condition | str | None) -> Expect:
        """Return the condition of a change for a condition of the model."""
        if isinstance(expect, Condition):
            version = next(seen for seen, point in self.points.items() if point == expect.point)
            conditions: dict[str, Expect] = {"session": version.session, "turns": version, "exact": version.exact}
            return conditions[expect.kind]
        marks: dict[str | None, Expect] = {by_hand.ABSENT: ABSENT, by_hand.PRESENT: PRESENT, None: None}
        return marks[expect]

    def condition(self, kind: str | None, which: int) -> Condition | str | None:
        """Return a condition of this kind on a version seen so far, mostly on one of the last six."""
        if kind is None or kind in (by_hand.ABSENT, by_hand.PRESENT):
            return kind
        if not self.points:
            return None
        versions = self.versions()[-6:] if which % 3 else self.versions()
        return Condition(kind, self.points[versions[which % len(versions)]])

    def advance_to(self, state: SessionState, model: Model) -> None:
        self.old = [*self.old, (self.state, self.model)][-OLD_STATES:]
        self.state, self.model = state, model

    def slid(self, model: Model, state: SessionState, *, used: bool) -> Model:
        """Return the model with the expiry of the state, after a check of its range."""
        header = state.header
        assert header is not None
        ttl = self.ttl if model.ttl is None else model.ttl
        if not used:
            assert header.expires == model.expires
        elif not ttl:
            assert header.expires is None
        else:
            assert header.expires is not None
            assert 7 / 8 * ttl < header.expires - self.now <= ttl
        return replace(model, expires=header.expires)

    def same(self, state: SessionState, model: Model) -> None:
        """Compare everything that can be read from a state without a change."""
        header = state.header
        assert (header is None) == (model.point is None)
        if header is None:
            assert state.lines() == []
            return
        self.see(header.version, model.point)
        records = state.records
        assert shape(records) == model.pieces
        assert header.bytes == sum(one.size for one in records)
        assert header.changes == len(model.remembered)
        assert (header.first, header.turns) == (model.first, model.turns)
        assert header.messages_until - header.start == model.messages
        assert (header.owner, dict(header.metadata), header.ttl) == (model.owner, model.metadata, model.ttl)
        assert (header.created, header.updated) == (model.created, model.updated)
        until, number = header.start, header.first
        for one in records:
            until += one.count
            assert (one.messages_until, one.number) == (until, number if one.turns else number - 1)
            number += one.turns
        assert (header.messages_until, header.turns) == (until, number)
        if not header.alive(self.now):
            with pytest.raises(SessionNotFound):
                state.read(self.now)
            return
        after, session = state.read(self.now, touch=False)
        assert after is state
        info = session.info
        assert session.records == records and not session.continues
        assert (info.first, info.turns, info.messages, info.bytes) == (
            model.first,
            model.turns,
            model.messages,
            header.bytes,
        )
        assert [t.number for t in session.turns] == list(range(model.first, model.turns))
        assert [m.text for m in session.messages] == [text for placed in model.rounds for text in placed.round.texts]

    @invariant()
    def same_now(self) -> None:
        self.same(self.state, self.model)

    # ---------------------------------------------------------------------------------------------------------- writing

    def commit(self, ask: Ask, *, max_bytes: int | None = None) -> None:
        """Apply a change to both, and compare the results."""
        change = Change(
            id=ask.id,
            append=tuple(record(one, self.now) for one in ask.append),
            keep=ask.keep,
            retain=ask.retain,
            max_bytes=max_bytes,
            metadata=ask.metadata,
            owner=ask.owner,
            ttl=ask.ttl,
            expect=self.expected(ask.expect),
            for_owner=ask.for_owner,
            first=ask.first,
        )
        note(f"{change} at {self.now}")
        state, model = self.state, self.model
        repeated = model.alive(self.now) and any(known.id == ask.id for known, _ in model.remembered)
        refused: TurnlogError | None = None
        try:
            wanted, answer = model.apply(ask, self.now, self.epochs + 1)
        except TurnlogError as error:
            refused = error
        try:
            self.epochs += 1
            after, receipt = self.apply(state, change)
        except TurnlogError as error:
            assert refused is not None, error
            assert type(error) is type(refused)
            if isinstance(error, SplitsSealed) and isinstance(refused, SplitsSealed):
                assert error.boundary == refused.boundary
            return
        assert refused is None, f"it should raise {refused!r}"
        assert after.header is not None
        wanted = self.slid(wanted, after, used=True)
        if repeated:
            assert after is state or after.header.expires != model.expires
        assert (receipt.first, receipt.turns, receipt.messages) == (wanted.first, wanted.turns, wanted.messages)
        assert receipt.number == answer.number
        self.see(receipt.version, answer.point)
        assert (receipt.previous is None) == (answer.previous is None)
        if receipt.previous is not None:
            assert self.points[receipt.previous] == answer.previous
        assert receipt.expires_in == (None if wanted.expires is None else wanted.expires - self.now)
        self.advance_to(after, wanted)

    def turns(self, sizes: list[tuple[int, int]], *, goes_on: bool = False) -> tuple[Round, ...]:
        """Return rounds of new turns with these numbers of messages; the first may continue the open turn."""
        made: list[Round] = []
        tail = self.model.pieces[-1][-1].round if goes_on and self.model.pieces else None
        for count, kind in sizes:
            texts = tuple(self.name() for _ in range(count))
            if tail is not None and tail.open:
                tail = Round(tail.id, tail.part + 1, kind == 1, texts)
            else:
                tail = Round(self.name(), 0, kind in (1, 2), texts)
            made.append(tail)
            if kind == 2:  # interrupted: the next round starts a turn
                tail = None
        return tuple(made)

    @rule(sizes=rounds, goes_on=st.booleans())
    def append(self, sizes: list[tuple[int, int]], goes_on: bool) -> None:
        self.commit(Ask(self.name(), self.turns(sizes, goes_on=goes_on)))

    @rule(part=st.integers(1, 3), stranger=st.booleans())
    def append_wrong_part(self, part: int, stranger: bool) -> None:
        tail = self.model.pieces[-1][-1].round if self.model.pieces else None
        id = tail.id if tail is not None and not stranger else self.name()
        self.commit(Ask(self.name(), (Round(id, part, False, (self.name(),)),)))

    @rule(back=small)
    def keep(self, back: int) -> None:
        self.commit(Ask(self.name(), keep=max(0, self.model.turns - back)))

    @rule(back=small, sizes=rounds)
    def keep_and_append(self, back: int, sizes: list[tuple[int, int]]) -> None:
        self.commit(Ask(self.name(), self.turns(sizes), keep=max(0, self.model.turns - back)))

    @rule(retain=st.integers(1, 5), sizes=st.none() | rounds)
    def retain(self, retain: int, sizes: list[tuple[int, int]] | None) -> None:
        self.commit(Ask(self.name(), self.turns(sizes) if sizes else (), retain=retain))

    @rule(retain=st.integers(1, 40))
    def append_many(self, retain: int) -> None:
        self.commit(Ask(self.name(), self.turns([(1, 0)] * 90), retain=retain))

    @rule(name=st.sampled_from("abc"), value=st.none() | st.integers(0, 3) | st.just([1, {"x": None}]))
    def metadata(self, name: str, value: Any) -> None:
        self.commit(Ask(self.name(), metadata={name: value}))

    @rule(owner=st.sampled_from(["", "ann", "bob"]))
    def owner(self, owner: str) -> None:
        self.commit(Ask(self.name(), owner=owner))

    @rule(ttl=st.sampled_from([0.0, 10.0, 1_000.0]))
    def own_ttl(self, ttl: float) -> None:
        self.commit(Ask(self.name(), ttl=ttl))

    @rule(
        sizes=rounds,
        goes_on=st.booleans(),
        back=st.none() | small,
        retain=st.none() | st.integers(1, 4),
        owner=st.none() | st.just("ann"),
        ttl=st.none() | st.just(50.0),
    )
    def all_at_once(
        self,
        sizes: list[tuple[int, int]],
        goes_on: bool,
        back: int | None,
        retain: int | None,
        owner: str | None,
        ttl: float | None,
    ) -> None:
        keep = None if back is None else max(0, self.model.turns - back)
        append = self.turns(sizes, goes_on=goes_on)
        self.commit(Ask(self.name(), append, keep, retain, {"a": self.names}, owner, ttl))

    @rule(
        kind=kinds,
        which=st.integers(0, 1_000),
        for_owner=owners,
        does=st.sampled_from(["append", "goes on", "keep", "owner", "both"]),
    )
    def expect(self, kind: str | None, which: int, for_owner: str | None, does: str) -> None:
        append = self.turns([(1, which % 3)], goes_on=does == "goes on") if does not in ("keep", "owner") else ()
        keep = max(0, self.model.turns - 1) if does == "keep" else None
        owner = "ann" if does in ("owner", "both") else None
        expect = self.condition(kind, which)
        self.commit(Ask(self.name(), append, keep, owner=owner, expect=expect, for_owner=for_owner))

    @rule(first=st.integers(0, 5), sizes=st.none() | rounds, for_owner=owners)
    def create(self, first: int, sizes: list[tuple[int, int]] | None, for_owner: str | None) -> None:
        """Create a session as a copy does: an existing session is a conflict."""
        append, owner = (self.turns(sizes), None) if sizes else ((), "ann")
        ask = Ask(self.name(), append, owner=owner, expect=by_hand.ABSENT, for_owner=for_owner, first=first)
        self.commit(ask)

    @precondition(lambda self: self.model.remembered)
    @rule(
        which=st.integers(0, 63),
        kind=st.sampled_from(["same", "another retain", "other"]),
        expect=st.none() | kinds,
        version=st.integers(0, 1_000),
        for_owner=owners,
    )
    def repeat(self, which: int, kind: str, expect: str | None, version: int, for_owner: str | None) -> None:
        known, _ = self.model.remembered[-1 - which % min(64, len(self.model.remembered))]
        if not self.model.alive(self.now):
            return
        if kind == "other":
            if known.append:
                first = known.append[0]
                other = Round(first.id, first.part, first.open, (*first.texts, "more"))
                ask = replace(known, append=(*known.append[:0], other) if len(known.append) == 1 else known.append[:-1])
            else:
                ask = replace(known, owner=(known.owner or "") + "x")
        else:
            # A repeat may have another `expect`, `for_owner` and `retain` than the first time.
            ask = replace(known, retain=None if kind == "same" or not known.append else 1)
        ask = replace(ask, expect=self.condition(expect, version), for_owner=for_owner)
        if (
            ask.append
            or ask.keep is not None
            or ask.metadata
            or ask.owner is not None
            or ask.ttl is not None
            or ask.retain
        ):
            self.commit(ask)

    @precondition(lambda self: len(self.model.remembered) > 64 and self.model.alive(self.now))
    @rule(which=st.integers(0, 1_000))
    def repeat_forgotten(self, which: int) -> None:
        """Send a change older than the last 64: it is either recognised as a repeat or applied as a new change."""
        known, answer = self.model.remembered[which % (len(self.model.remembered) - 64)]
        if (
            known.keep is not None
            or known.metadata is not None
            or known.ttl is not None
            or not (known.append or known.owner)
        ):
            return  # a cut without an effect looks like a repeat
        model = self.model
        try:
            after, receipt = self.apply(
                self.state, Change(id=known.id, append=tuple(map(record, known.append)), owner=known.owner)
            )
        except TurnlogError:
            return  # it was forgotten and is refused: the invariant checks that nothing was stored
        if receipt.previous == receipt.version:
            self.see(receipt.version, answer.point)
            self.advance_to(after, self.slid(model, after, used=True))

    @rule(count=st.integers(20, 70))
    def change_often(self, count: int) -> None:
        for _ in range(count):
            self.commit(Ask(self.name(), owner="ann"))

    @rule(sizes=rounds, retain=st.none() | st.integers(1, 3), back=st.none() | small, room=st.sampled_from([0, -1, 1]))
    def max_bytes(self, sizes: list[tuple[int, int]], retain: int | None, back: int | None, room: int) -> None:
        """Set a limit close to the resulting size, which a trial on the state determines."""
        keep = None if back is None else max(0, self.model.turns - back)
        ask = Ask(self.name(), self.turns(sizes), keep, retain)
        change = Change(id=ask.id, append=tuple(map(record, ask.append)), keep=keep, retain=retain)
        try:
            trial, _ = self.apply(self.state, change)
        except SplitsSealed:
            return
        assert trial.header is not None
        limit = trial.header.bytes + room
        here = self.state.header
        before = here.bytes if here is not None and here.alive(self.now) else 0
        if room < 0 and trial.header.bytes > before:  # a session over the limit may shrink
            with pytest.raises(TooLarge):
                self.apply(self.state, msgspec.structs.replace(change, max_bytes=limit))
        else:
            self.commit(ask, max_bytes=limit)

    @precondition(lambda self: self.model.point is not None)
    @rule(
        stale=small,
        start=st.integers(0, 30),
        length=st.integers(2, 12),
        later=st.booleans(),
        wait=st.sampled_from([0.0, 20.0]),
    )
    def seal(self, stale: int, start: int, length: int, later: bool, wait: float) -> None:
        """Seal a run of the current or an earlier state; the result is False if the records have changed since."""
        self.now += wait
        state, model = self.state, self.model
        if later and self.old:
            state, model = self.old[stale % len(self.old)]
        records = state.records
        if not records or not self.model.alive(self.now):
            return
        start %= len(records)
        run = records[start : start + length]
        try:
            sealed = Record.seal(run)
        except InvalidInput:
            assert len(run) < 2 or run[0].part
            return
        pieces = model.pieces[start : start + length]
        assert model.point is not None and self.model.point is not None
        wanted = self.model.seal(tuple(placed for piece in pieces for placed in piece), model.point.trail)
        if model.point.epoch != self.model.point.epoch:
            wanted = self.model
        note(f"{sealed} at {self.now}")
        after, done = self.seal_run(self.state, sealed)
        assert done == (wanted is not self.model)
        if not done:
            assert after is self.state
        else:
            assert after.header is not None and self.state.header is not None
            assert msgspec.structs.replace(after.header, bytes=0) == msgspec.structs.replace(self.state.header, bytes=0)
            self.advance_to(after, wanted)

    @precondition(lambda self: self.model.point is not None)
    @rule()
    def seal_all(self) -> None:
        self.seal(0, 0, 1_000, False, 20.0)

    @rule(kind=st.none() | kinds, which=st.integers(0, 1_000), for_owner=owners)
    def delete(self, kind: str | None, which: int, for_owner: str | None) -> None:
        expect = self.condition(kind, which)
        found: object
        wanted: object
        try:
            wanted = self.model.delete(self.now, expect, for_owner)
        except TurnlogError as error:
            wanted = type(error)
        try:
            found = self.may_delete(self.state, self.expected(expect), for_owner)
        except TurnlogError as error:
            found = type(error)
        assert found == wanted
        if found is True:
            self.advance_to(SessionState.absent(KEY, ttl=self.ttl), Model())

    @rule(
        kind=st.sampled_from(["session", "exact", by_hand.PRESENT]), which=st.integers(0, 1_000), deletes=st.booleans()
    )
    def condition_alone(self, kind: str, which: int, deletes: bool) -> None:
        """Use the conditions that other rules rarely reach, in a change without another reason for an error."""
        if deletes:
            self.delete(kind, which, None)
        else:
            self.commit(Ask(self.name(), self.turns([(1, 0)]), expect=self.condition(kind, which)))

    # ------------------------------------------------------------------------------------------------- time and reading

    @initialize(ttl=st.sampled_from([None, 100.0]))
    def configure(self, ttl: float | None) -> None:
        self.ttl = ttl
        self.state = SessionState.absent(KEY, ttl=ttl)

    @rule(seconds=st.sampled_from([0.5, 5.0, 11.0, 20.0, 95.0, 2_000.0]))
    def advance(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        last=st.none() | st.integers(0, 12),
        before=st.none() | small,
        since=st.none() | st.integers(0, 1_000),
        newest=st.booleans(),
        touch=st.booleans(),
    )
    def read_part(self, last: int | None, before: int | None, since: int | None, newest: bool, touch: bool) -> None:
        version = None
        if since is not None and self.points:
            versions = self.versions()[-6:] if newest else self.versions()
            version, before = versions[since % len(versions)], None
        if before is not None:
            before += self.model.first
        self.compare_read(self.state, self.model, last, before, version, touch)

    def compare_read(
        self,
        state: SessionState,
        model: Model,
        last: int | None,
        before: int | None,
        since: Version | None,
        touch: bool,
    ) -> Session | None:
        refused: TurnlogError | None = None
        try:
            pieces, continues = model.read(self.now, last, before, None if since is None else self.points[since])
        except TurnlogError as error:
            refused = error
        try:
            after, session = self.read(state, last=last, before=before, since=since, touch=touch)
        except TurnlogError as error:
            assert refused is not None, error
            assert type(error) is type(refused)
            return None
        assert refused is None, f"it should raise {refused!r}"
        assert (shape(session.records), session.continues) == (pieces, continues)
        model = self.slid(model, after, used=touch)
        if state is self.state and after is not state:
            assert touch
            self.advance_to(after, model)
        assert session.info.expires_in == (None if model.expires is None else model.expires - self.now)
        return session

    @rule(last=st.none() | st.integers(1, 9))
    def follow(self, last: int | None) -> None:
        """Read only new records, and compare the collected ones with a full read."""
        if self.follower is None or not self.model.alive(self.now):
            session = self.compare_read(self.state, self.model, None, None, None, True)
            self.followed = ()
        else:
            session = self.compare_read(self.state, self.model, None, None, self.follower.version, True)
            if (
                session is None or session.info.first < self.follower.info.first
            ):  # turns were lost or removed: start again
                session = self.compare_read(self.state, self.model, None, None, None, True)
                self.followed = ()
        self.follower = session
        if session is not None:
            new = tuple(placed for piece in shape(session.records) for placed in piece)
            held = (*self.followed, *new) if session.continues else new
            self.followed = tuple(placed for placed in held if placed.number >= session.info.first)
            assert self.followed == self.model.rounds

    @precondition(lambda self: self.old)
    @rule(which=small, last=st.none() | st.integers(0, 9), since=st.integers(0, 1_000))
    def read_old(self, which: int, last: int | None, since: int) -> None:
        """Read an earlier state: later changes must not have affected it."""
        for state, model in self.old:
            self.same(state, model)
        state, model = self.old[which % len(self.old)]
        self.compare_read(
            state, model, last, None, self.versions()[since % len(self.points)] if self.points else None, False
        )

    @precondition(lambda self: self.old)
    @rule(which=small)
    def go_on_from_old(self, which: int) -> None:
        """Continue from an earlier state, as after a fail-over that lost the last writes."""
        self.advance_to(*self.old[which % len(self.old)])

    @precondition(lambda self: self.old)
    @rule(which=small, sizes=rounds)
    def lose_and_grow(self, which: int, sizes: list[tuple[int, int]]) -> None:
        """Lose writes in a fail-over and append others: a reader of the lost writes must get an error."""
        lost = self.state.header
        self.advance_to(*self.old[which % len(self.old)])
        for size in sizes:
            self.append([size], False)
        if lost is not None:
            self.compare_read(self.state, self.model, None, None, lost.version, True)

    @rule()
    def reload(self) -> None:
        """Load the state from its lines: it must be the same."""
        lines = self.state.lines()
        state = SessionState.from_lines(lines, KEY, ttl=self.ttl)
        assert state.lines() == lines
        assert [head(one) for one in state.records] == [head(one) for one in self.state.records]
        assert state.header == self.state.header
        self.same(state, self.model)
        self.advance_to(state, self.model)

    def teardown(self) -> None:
        for state, model in self.old:
            self.same(state, model)


def check(machine: type[StateMachine], examples: int, steps: int) -> None:
    """Run a machine.  A planted bug stops at the first failure, without shrinking."""
    phases = settings().phases if machine is StateMachine else (Phase.generate,)
    chosen = settings(max_examples=examples, stateful_step_count=steps, phases=phases, report_multiple_bugs=False)
    run_state_machine_as_test(machine, settings=chosen)


def test_a_state_agrees_with_the_model() -> None:
    check(StateMachine, settings().max_examples, 40)


class SinceIgnoresTheTip(StateMachine):
    """Planted: `since` matches any version with the same number of rounds."""

    def read(self, state: SessionState, **options: Any) -> tuple[SessionState, Session]:
        since = options["since"]
        if since is not None:
            for one in state.records:
                if one.rounds_until == since.rounds:
                    options["since"] = msgspec.structs.replace(since, tip=one.tip)
        return super().read(state, **options)


class RetainDropsOneTooMany(StateMachine):
    """Planted: `retain` drops one turn too many."""

    def apply(self, state: SessionState, change: Change) -> tuple[SessionState, Receipt]:
        if change.retain is not None and change.retain > 1:
            change = msgspec.structs.replace(change, retain=change.retain - 1)
        return super().apply(state, change)


class RepeatAppliesAgain(StateMachine):
    """Planted: a repeat is stored again."""

    def apply(self, state: SessionState, change: Change) -> tuple[SessionState, Receipt]:
        if any(known.id == change.id for known, _ in self.model.remembered):
            change = msgspec.structs.replace(change, id=self.name(), expect=None)
        return super().apply(state, change)


class SealExtendsTheLife(StateMachine):
    """Planted: a seal extends the expiry."""

    def seal_run(self, state: SessionState, record: Record) -> tuple[SessionState, bool]:
        after, done = super().seal_run(state, record)
        return after.read(self.now)[0], done


class AppendReachesOlderStates(StateMachine):
    """Planted: an append changes the header of the previous state."""

    def apply(self, state: SessionState, change: Change) -> tuple[SessionState, Receipt]:
        after, receipt = super().apply(state, change)
        if change.append and state.header is not None and after.header is not None:
            state.header = after.header
        return after, receipt


class SessionComparesTurns(StateMachine):
    """Planted: `version.session` is compared like a plain version."""

    def apply(self, state: SessionState, change: Change) -> tuple[SessionState, Receipt]:
        expect = change.expect.version if isinstance(change.expect, SameSession) else change.expect
        return super().apply(state, msgspec.structs.replace(change, expect=expect))


class PresentMakesASession(StateMachine):
    """Planted: `PRESENT` is ignored."""

    def apply(self, state: SessionState, change: Change) -> tuple[SessionState, Receipt]:
        expect = None if change.expect is PRESENT else change.expect
        return super().apply(state, msgspec.structs.replace(change, expect=expect))


class RepeatIsAnsweredToAnyOwner(StateMachine):
    """Planted: a repeat is recognised before the owner is compared."""

    def apply(self, state: SessionState, change: Change) -> tuple[SessionState, Receipt]:
        if any(known.id == change.id for known, _ in self.model.remembered):
            change = msgspec.structs.replace(change, for_owner=None)
        return super().apply(state, change)


class NewSessionIsNobodys(StateMachine):
    """Planted: `for_owner` does not set the owner of a new session."""

    def apply(self, state: SessionState, change: Change) -> tuple[SessionState, Receipt]:
        if state.header is None:
            change = msgspec.structs.replace(change, for_owner=None)
        return super().apply(state, change)


class DeleteReachesAnyOwner(StateMachine):
    """Planted: a deletion ignores `for_owner`."""

    def may_delete(self, state: SessionState, expect: Expect, for_owner: str | None) -> bool:
        return super().may_delete(state, expect, None)


@pytest.mark.parametrize(
    "planted",
    [
        SinceIgnoresTheTip,
        RetainDropsOneTooMany,
        RepeatAppliesAgain,
        SealExtendsTheLife,
        AppendReachesOlderStates,
        SessionComparesTurns,
        PresentMakesASession,
        RepeatIsAnsweredToAnyOwner,
        NewSessionIsNobodys,
        DeleteReachesAnyOwner,
    ],
)
def test_the_machine_finds_what_is_planted(planted: type[StateMachine]) -> None:
    seed(8)(planted)  # without a seed, the text of the test decides, and a search takes up to 20 s
    with pytest.raises(AssertionError):
        check(planted, 2_000, 40)  # it stops at the first failure


def test_a_record_whose_body_was_encoded_meanwhile_takes_as_many_bytes_as_it_was_counted_with() -> None:
    state, _ = SessionState.absent(KEY).apply(Change(append=(record(Round("a", 0, False, ("\u00e9" * 1_000,))),)), 0.0)
    assert state.records[0].payload  # a reader may encode the body
    assert state.header is not None
    assert state.header.bytes == state.records[0].size
    empty, _ = state.apply(Change(keep=0), 0.0)
    assert empty.header is not None
    assert empty.header.bytes == 0


# ---------------------------------------------------------------------------------------------------------------- pages


def info(namespace: str, session: str, updated: float, owner: str) -> SessionInfo:
    version = Version(b"e", 0, 0, b"e", b"e")
    return SessionInfo(Key(namespace, session), version, 0, 0, 0, 0, 0.0, updated, owner, Metadata({}), None, None)


infos = st.dictionaries(
    st.tuples(
        st.sampled_from(["shop", "bank"]),
        st.sampled_from(["a", "b", "c", "Z", "\u00e9", "\uffff", "\U0001f600", "10", "9"]),
    ),
    st.tuples(st.sampled_from([0.0, 1.0, 1.5, 2e9]), st.sampled_from(["", "ann", "bob"])),
)


@given(
    infos=infos,
    limit=st.integers(1, 4),
    namespace=st.sampled_from(["shop", None]),
    owner=st.sampled_from([None, "", "ann", "nobody"]),
    prefix=st.sampled_from([None, "", "1", "\u00e9"]),
    turned=st.booleans(),
)
def test_pages_are_complete_and_in_order(
    infos: dict[tuple[str, str], tuple[float, str]],
    limit: int,
    namespace: str | None,
    owner: str | None,
    prefix: str | None,
    turned: bool,
) -> None:
    every = [info(*key, *value) for key, value in infos.items()]
    wanted = [one for one in every if owner in (None, one.owner) and one.key.session.startswith(prefix or "")]
    wanted = [one for one in wanted if namespace in (None, one.key.namespace)]
    # The order of UTF-8 bytes, not of code units, as in databases and in other languages.
    wanted.sort(key=lambda one: (one.key.namespace, -one.updated, one.key.session.encode()))
    found: list[SessionInfo] = []
    cursor = None
    while True:
        query = Query(namespace=namespace, owner=owner, prefix=prefix, limit=limit, cursor=cursor)
        shown = page(reversed(every) if turned else every, query)
        assert len(shown.infos) <= limit
        found += shown.infos
        cursor = shown.cursor
        if cursor is None:
            break
        assert len(shown.infos) == limit
    assert found == wanted


@pytest.mark.parametrize("limit", [1, 7, 1_000])
@pytest.mark.parametrize("owner", [None, "ann"])
async def test_pages_of_all_namespaces_are_made_of_the_pages_of_each(limit: int, owner: str | None) -> None:
    """All sessions are found in the same order, and each page reads a bounded number of namespaces."""
    every = [info("turnlog:own", "a", 1.0, "ann")]
    for number in range(330):
        whose = "ann" if number % 100 in (3, 4) else "bob"
        every += [info(f"n{number:03}", name, 1.0, whose) for name in ("abc" if number % 5 else "a")]
    names = sorted({one.key.namespace for one in every})
    read: list[Query] = []

    async def namespaces(*, after: str | None = None, limit: int = 1_000) -> list[str]:
        return [name for name in names if after is None or name > after][:limit]

    async def of_one(query: Query) -> Page:
        read.append(query)
        return page(every, query)

    found: list[SessionInfo] = []
    query = Query(namespace=None, owner=owner, limit=limit)
    while True:
        shown = await page_of_all(namespaces, of_one, query)
        assert len(shown.infos) <= limit
        assert len(read) <= 101, "with the namespace that the page before has begun"
        read.clear()
        found += shown.infos
        if shown.cursor is None:
            break
        query = msgspec.structs.replace(query, cursor=shown.cursor)
    assert found == [one for one in every[1:] if owner in (None, one.owner)]


def test_a_page_goes_on_where_the_last_one_ended_though_its_last_session_is_gone() -> None:
    every = [info("shop", name, 1.0, "") for name in "abcde"]
    shown = page(every, Query(namespace="shop", limit=2))
    rest = page([one for one in every if one.key.session != "b"], Query(namespace="shop", limit=9, cursor=shown.cursor))
    assert [one.key.session for one in rest.infos] == ["c", "d", "e"]


# ----------------------------------------------------------------------------------------------------------- file names

signs = st.sampled_from(
    ["a", "A", "1", "2", ":", "-", ".", "/", "\\", "%", " ", "\u00e9", "e\u0301", "\u00df", "ss", "SS"]
)
parts = st.lists(signs, min_size=1, max_size=4).map("".join).filter(lambda text: not text.isspace())


@given(st.lists(st.tuples(parts, parts), min_size=2, max_size=30, unique=True))
def test_no_two_keys_share_a_file(pairs: list[tuple[str, str]]) -> None:
    names = {unicodedata.normalize("NFC", file_key(Key(*pair))).casefold() for pair in pairs}
    assert len(names) == len(pairs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b:c"), ("a:b", "c")),
        (("1", "1:a"), ("11", ":a")),
        (("1", "23"), ("12", "3")),
        (("a-b", "c"), ("a", "b-c")),
        (("a", "b"), ("b", "a")),
        (("a", "b"), ("a", "B")),
        (("a", "b"), ("a", "b ")),
        (("a", "caf\u00e9"), ("a", "cafe\u0301")),
        (("2:ab", "c"), ("2", "abc")),
    ],
)
def test_keys_that_look_alike_have_files_of_their_own(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert file_key(Key(*one)).casefold() != file_key(Key(*other)).casefold()


@given(parts, parts)
def test_a_file_name_is_safe_everywhere(namespace: str, session: str) -> None:
    name = file_key(Key(namespace, session))
    assert set(name) <= set("0123456789abcdef-") and 1 <= len(name) <= 100
    assert file_key(Key(namespace, session)) == name


@pytest.mark.parametrize("session", ["..", "../../x", "C:\\x", "CON", "nul", "a" * 255, "*", "~", "-rf"])
def test_a_name_that_means_something_to_a_file_system_means_nothing(session: str) -> None:
    assert set(file_key(Key("..", session))) <= set("0123456789abcdef-")


# --------------------------------------------------------------------------------------------------------- single rules


def test_the_same_object_is_given_back_when_nothing_must_be_stored() -> None:
    change = Change(append=(record(Round("a", 0, False, ("hello",))),))
    state, first = SessionState.absent(KEY).apply(change, 0.0)
    again, second = state.apply(change, 1.0)
    assert again is state
    assert (second.version, second.number, second.previous) == (first.version, first.number, first.version)
    assert state.read(2.0)[0] is state


def test_an_id_is_looked_up_before_expect_is_compared() -> None:
    change = Change(append=(record(Round("a", 0, False, ("hello",))),), expect=ABSENT)
    state, first = SessionState.absent(KEY).apply(change, 0.0)
    assert state.apply(change, 0.0)[1].version == first.version
    with pytest.raises(IdReused):
        state.apply(Change(id=change.id, append=(record(Round("a", 0, False, ("hallo",))),), expect=ABSENT), 0.0)


def test_the_last_64_changes_are_remembered() -> None:
    state = SessionState.absent(KEY)
    changes = [Change(id=f"c{n}", owner="ann") for n in range(65)]
    for change in changes:
        state, _ = state.apply(change, 0.0)
    for change in changes[1:]:
        assert state.apply(change, 0.0)[0] is state


def test_a_cut_inside_a_sealed_record_says_where_it_begins() -> None:
    turns = tuple(record(Round(f"t{n}", 0, False, ("x",))) for n in range(4))
    state, _ = SessionState.absent(KEY).apply(Change(append=turns), 0.0)
    state, done = state.seal(Record.seal(state.records[1:]), 0.0)
    assert done
    with pytest.raises(SplitsSealed) as caught:
        state.apply(Change(keep=3), 0.0)
    assert caught.value.boundary == 1


def test_a_version_from_elsewhere_is_no_crash() -> None:
    state, receipt = SessionState.absent(KEY).apply(Change(owner="ann"), 0.0)
    for version in (
        msgspec.structs.replace(receipt.version, rounds=-1),
        Version(b"", 0, 0, b"", b""),
        Version(b"x", -1, 2**60, b"", b""),
    ):
        with contextlib.suppress(TurnlogError):
            assert not state.read(0.0, since=version)[1].continues


def test_a_page_of_an_index_reports_damage_once() -> None:
    """The damaged sessions after the last info belong to the next page, which begins after that info."""
    damage = [CorruptRecord(f"damaged {number}") for number in range(3)]
    first, second, third = (info("shop", name, 1.0, "") for name in "abc")
    query = Query(namespace="shop", limit=2)
    found: list[SessionInfo | CorruptRecord | None] = [damage[0], first, None, damage[1], second, damage[2], third]
    shown = page_of(query, found, is_last=True)
    assert shown is not None
    assert (shown.infos, shown.damaged) == ((first, second), tuple(damage[:2]))
    assert shown.cursor == query.cursor_after(second)
    rest = page_of(msgspec.structs.replace(query, cursor=shown.cursor), found[5:], is_last=True)
    assert rest is not None
    assert (rest.infos, rest.damaged, rest.cursor) == ((third,), (damage[2],), None)
    assert page_of(query, found[:6], is_last=False) is None, "more sessions may follow the damaged one"
