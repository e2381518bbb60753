"""Contract: a backend gives the same answers as `SessionState`, the model.

Each of the other tests is about one sentence.  This test makes random calls, the same in every run, and compares each
answer of the backend with the answer of the model.  Their versions differ, so the test maps one to the other.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from ..backend import Backend
from ..errors import SplitsSealed, TurnlogError
from ..rules.state import SessionState
from ..values.change import ABSENT, PRESENT, Change, Expect, Receipt
from ..values.key import Key
from ..values.record import Record
from ..values.session import Session
from ..values.version import Version
from ._base import Clock, ContractBase
from ._material import diverged, key, later, record, texts

_STEPS: Final = 50


class _Walk:
    """Random calls to one session of a backend, and to the model.

    Args:
        backend: The backend.
        key: The session.
        clock: The clock of the backend and the model.
        seed: The seed of the random calls.
    """

    def __init__(self, backend: Backend, key: Key, clock: Clock, seed: int) -> None:
        self.backend, self.key, self.clock = backend, key, clock
        self.state = SessionState.absent(key, ttl=backend.ttl)
        self.dice = random.Random(seed)  # noqa: S311 - dice, not keys
        self.pairs: dict[Version, Version] = {}  # from the backend's version to the model's
        self.changes: list[Change] = []
        self.made = 0

    # --------------------------------------------------------------------------------------------------------- calls

    def change(self) -> Change:
        """Return a random change, often one that must be refused."""
        dice, header = self.dice, self.state.header
        if self.changes and dice.random() < 0.15:
            again = dice.choice(self.changes[-70:])
            return replace(again, owner="another", asked=None) if dice.random() < 0.2 else again
        parts: dict[str, Any] = {}
        if dice.random() < 0.7:
            parts["append"] = self.records()
        if dice.random() < 0.25:
            parts["keep"] = dice.randrange((header.turns if header is not None else 0) + 2)
        if dice.random() < 0.2:
            parts["retain"] = dice.randint(1, 6)
        if dice.random() < 0.2:
            parts["metadata"] = {dice.choice("ab"): dice.choice([None, 1, [2]])}
        if dice.random() < 0.1:
            parts["owner"] = dice.choice(["", "u1"])
        if dice.random() < 0.1:
            parts["ttl"] = dice.choice([0.0, 80.0])
        return Change(**parts) if parts else Change(metadata={"a": 0})

    def records(self) -> tuple[Record, ...]:
        """Return rounds and turns; most of them follow the last record."""
        dice, header = self.dice, self.state.header
        found: list[Record] = []
        tail = header.tail if header is not None else None
        for _ in range(dice.choice([1, 1, 2, 3])):
            self.made += 1
            said = [f"{self.made}.{place}" for place in range(dice.randint(1, 3))]
            if tail is not None and (tail[2] or (not found and dice.random() < 0.1)) and dice.random() < 0.7:
                tail = (tail[0], tail[1] + 1, dice.random() < 0.4)
                if not tail[2] and dice.random() < 0.3:
                    said = []  # the round only closes the turn
            else:
                tail = (f"turn {self.made}", 0, dice.random() < 0.3)
            found.append(record(*said, id=tail[0], part=tail[1], open=tail[2]))
        return tuple(found)

    def versions(self) -> tuple[Version | None, Version | None]:
        """Return a version of the backend and of the model: a seen one, a wrong one, or None."""
        if not self.pairs or self.dice.random() < 0.6:
            return None, None
        pairs = list(self.pairs.items())
        theirs, ours = self.dice.choice(pairs[-5:] if self.dice.random() < 0.7 else pairs)
        strange = self.dice.random()
        if strange < 0.08:
            return later(theirs), later(ours)
        return (diverged(theirs), diverged(ours)) if strange < 0.16 else (theirs, ours)

    def conditions(self) -> tuple[Expect, Expect]:
        """Return a condition for the backend, and the same condition for the model."""
        theirs, ours = self.versions()
        if theirs is None or ours is None:
            marks: list[Expect] = [None, ABSENT, PRESENT]
            mark = self.dice.choices(marks, [8, 1, 1])[0]
            return mark, mark
        kind = self.dice.randrange(4)
        if kind == 0:
            return theirs.session, ours.session
        return (theirs.exact, ours.exact) if kind == 1 else (theirs, ours)

    def owner(self) -> str | None:
        """Return the owner for a call, or None."""
        return self.dice.choices([None, "u1", "u2"], [8, 1, 1])[0]

    # ---------------------------------------------------------------------------------------------------- comparison

    def see(self, theirs: Version, ours: Version) -> None:
        """Check that versions of the backend are equal if and only if the versions of the model are equal."""
        assert self.pairs.setdefault(theirs, ours) == ours, "a version stands for two states of the session"
        assert list(self.pairs.values()).count(ours) == 1, "two versions stand for one state of the session"

    async def both(self, call: Awaitable[Any], step: Callable[[], tuple[SessionState, Any]]) -> tuple[Any, Any]:
        """Return the answers of the backend and of the model, or the types of their errors."""
        theirs: Any
        ours: Any
        try:
            self.state, ours = step()
        except TurnlogError as error:
            ours = type(error)
        raised: TurnlogError | None = None
        try:
            theirs = await call
        except TurnlogError as error:
            theirs, raised = type(error), error
        assert raised is None or isinstance(ours, type), f"{raised!r} instead of {ours!r}"
        return theirs, ours

    async def commit(self) -> None:
        """Commit a change to the backend and the model."""
        change, (theirs, ours), owner = self.change(), self.conditions(), self.owner()
        sent = replace(change, expect=theirs, for_owner=owner), replace(change, expect=ours, for_owner=owner)
        call = self.backend.commit(self.key, sent[0])
        answer, model = await self.both(call, lambda: self.state.apply(sent[1], self.clock()))
        if model is SplitsSealed and isinstance(answer, Receipt):  # a layer that seals records itself makes the cut
            self.state, model = self.state.apply(self.inside(sent[1]), self.clock())
        if isinstance(model, Receipt) and isinstance(answer, Receipt):
            self.changes.append(change)
            self.see(answer.version, model.version)
            previous = None if answer.previous is None else self.pairs.get(answer.previous, answer.previous)
            answer = replace(answer, version=model.version, previous=previous, expires_in=None)
            model = replace(model, expires_in=None)
        assert answer == model, f"commit({sent[1]!r})"

    def inside(self, change: Change) -> Change:
        """Return the change with a cut before the sealed record, and with the rest of the record appended again."""
        keep = change.keep
        assert keep is not None
        sealed = next(one for one in self.state.records if one.number < keep < one.next_turn)
        return change.rewrite(keep=sealed.number, append=(sealed.until(keep), *change.append), restored=1)

    async def seal(self) -> None:
        """Seal the same records in the backend and the model, if there are any."""
        if self.state.header is None or len(self.state.records) < 3:
            return
        start = self.dice.randrange(len(self.state.records) - 2)
        stop = self.dice.randint(start + 2, len(self.state.records))
        try:
            theirs = Record.seal((await self.backend.read(self.key)).records[start:stop])
            ours = Record.seal(self.state.records[start:stop])
        except TurnlogError:
            return
        before = self.state
        answer, model = await self.both(
            self.backend.seal(self.key, theirs), lambda: self.state.seal(ours, self.clock())
        )
        if answer is None:
            self.state = before
        else:
            assert answer == model, "seal"

    async def delete(self) -> None:
        """Delete both."""
        (theirs, ours), owner = self.conditions(), self.owner()
        absent = SessionState.absent(self.key, ttl=self.backend.ttl)

        def step() -> tuple[SessionState, bool]:
            found = self.state.check_delete(ours, owner, self.clock())
            return (absent if found else self.state), found

        answer, model = await self.both(self.backend.delete(self.key, expect=theirs, for_owner=owner), step)
        assert answer == model, f"delete(expect={ours!r}, for_owner={owner!r})"

    async def read(self) -> None:
        """Read a part of the session, and compare the answers."""
        last, touch, (theirs, ours) = (
            self.dice.choice([None, 0, 1, 2, 5, 99]),
            self.dice.random() < 0.5,
            self.versions(),
        )
        before = self.dice.randrange(20) if ours is None and self.dice.random() < 0.5 else None
        call = self.backend.read(self.key, last=last, before=before, since=theirs, touch=touch)
        await self.compare(
            call, lambda: self.state.read(self.clock(), last=last, before=before, since=ours, touch=touch)
        )

    async def look(self) -> None:
        """Read the whole session, and compare the answers."""
        await self.compare(self.backend.read(self.key), lambda: self.state.read(self.clock()))

    async def compare(self, call: Awaitable[Session], step: Callable[[], tuple[SessionState, Session]]) -> None:
        """Compare the answers to a read."""
        answer, model = await self.both(call, step)
        if isinstance(model, Session) and isinstance(answer, Session):
            self.see(answer.version, model.version)
        assert _shown(answer) == _shown(model)


def _shown(answer: Session | type[TurnlogError]) -> object:
    if not isinstance(answer, Session):
        return answer
    info = answer.info
    records = [
        (r.id, r.part, r.open, r.rounds, r.turns, r.number, r.rounds_until, texts(r.messages)) for r in answer.records
    ]
    counts = (info.first, info.turns, info.messages, info.owner, dict(info.metadata), info.ttl, info.expires_in is None)
    return counts, answer.continues, records


class Model(ContractBase):
    _walks: ClassVar[int] = 12  # turnlog's tests have a faulty backend that passes fewer walks

    async def test_walks(self) -> None:
        """A backend gives the same answers as `SessionState` to the same calls."""
        for seed in range(self._walks):
            store = await self.opened(ttl=80.0 if seed % 3 == 0 else None)
            walk = _Walk(store.backend, key(store, f"walk {seed}"), self.clock, seed)
            for _ in range(_STEPS):
                step = walk.dice.choices([walk.commit, walk.seal, walk.delete], [20, 3, 1])[0]
                await step()
                await walk.read()
                await walk.look()
                # a session lives at least 70 seconds after its last use, and at most 80
                passed = walk.dice.choices([0, 1, 30, 100], [20, 4, 4, 1])[0]
                if passed and self.moves_time:
                    await self.advance(passed)
