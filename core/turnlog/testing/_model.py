"""Contract: whatever comes, a store does as `SessionState` does.

The other chapters hold a store to one sentence at a time; this one to all of them at once, by walks that are the same
in every run.  Versions of the two differ, so each is translated: equal where the other's are equal.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from ..errors import SplitsSealed, TurnlogError
from ..rules.state import SessionState
from ..store import Store
from ..values.change import ABSENT, Change, Receipt
from ..values.record import Record
from ..values.session import Session
from ..values.version import Version
from ._base import Chapter, Clock
from ._material import ahead, beside, key, record, texts

_WALKS, _STEPS = 12, 50


class _Walk:
    """One session in a store, and its state beside it."""

    def __init__(self, store: Store, clock: Clock, seed: int) -> None:
        self.store, self.clock = store, clock
        self.key = key(store, f"walk {seed}")
        self.state = SessionState.absent(self.key, ttl=store.ttl)
        self.dice = random.Random(seed)  # noqa: S311 - dice, not keys
        self.pairs: dict[Version, Version] = {}  # the store's version, the state's
        self.changes: list[Change] = []
        self.made = 0

    # ------------------------------------------------------------------------------------------------- what is done

    def change(self) -> Change:
        """A change as it might be asked for, often one that must be refused."""
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
        """Rounds and turns, mostly such as follow what is there."""
        dice, header = self.dice, self.state.header
        found: list[Record] = []
        tail = header.tail if header is not None else None
        for _ in range(dice.choice([1, 1, 2, 3])):
            self.made += 1
            said = [f"{self.made}.{place}" for place in range(dice.randint(1, 3))]
            if tail is not None and (tail[2] or (not found and dice.random() < 0.1)) and dice.random() < 0.7:
                tail = (tail[0], tail[1] + 1, dice.random() < 0.4)
            else:
                tail = (f"turn {self.made}", 0, dice.random() < 0.3)
            found.append(record(*said, id=tail[0], part=tail[1], open=tail[2]))
        return tuple(found)

    def versions(self) -> tuple[Version | None, Version | None]:
        """A version that was seen, the store's and the state's; now and then one that never was."""
        if not self.pairs or self.dice.random() < 0.6:
            return None, None
        pair = self.dice.choice(list(self.pairs.items())[-5:] if self.dice.random() < 0.7 else list(self.pairs.items()))
        strange = self.dice.random()
        return tuple(ahead(one) if strange < 0.08 else beside(one) if strange < 0.16 else one for one in pair)  # type: ignore[return-value]

    # ---------------------------------------------------------------------------------------------- what is compared

    def told(self, version: Version | None) -> Version | None:
        """The state's version for one of the store's."""
        return None if version is None else self.pairs.get(version, version)

    def see(self, theirs: Version, ours: Version) -> None:
        """Versions are equal exactly where the state's are."""
        assert self.pairs.setdefault(theirs, ours) == ours, "a version stands for two states of the session"
        assert list(self.pairs.values()).count(ours) == 1, "two versions stand for one state of the session"

    async def both(self, call: Awaitable[Any], step: Callable[[], tuple[SessionState, Any]]) -> tuple[Any, Any]:
        """What both answer, or the types of their errors."""
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
        assert raised is None or isinstance(ours, type), f"{raised!r}, where there should be {ours!r}"
        return theirs, ours

    async def commit(self) -> None:
        """Commit a change to both."""
        change, (theirs, ours) = self.change(), self.versions()
        if self.dice.random() < 0.1:
            asked = replace(change, expect=ABSENT), replace(change, expect=ABSENT)
        else:
            asked = replace(change, expect=theirs), replace(change, expect=ours)
        call = self.store.commit(self.key, asked[0])
        told, meant = await self.both(call, lambda: self.state.apply(asked[1], self.clock()))
        if meant is SplitsSealed and isinstance(told, Receipt):  # a layer that seals cuts where it is asked to
            self.state, meant = self.state.apply(self.inside(asked[1]), self.clock())
        if isinstance(meant, Receipt) and isinstance(told, Receipt):
            self.changes.append(change)
            self.see(told.version, meant.version)
            told = replace(told, version=meant.version, previous=self.told(told.previous))
            told, meant = replace(told, expires_in=None), replace(meant, expires_in=None)
        assert told == meant, f"commit({change!r}, expect={ours!r})"

    def inside(self, change: Change) -> Change:
        """The same change, with what it cuts too much of a sealed record put back."""
        keep = change.keep
        assert keep is not None
        sealed = next(one for one in self.state.records if one.number < keep < one.next_turn)
        return change.rewrite(keep=sealed.number, append=(sealed.until(keep), *change.append), restored=1)

    async def seal(self) -> None:
        """Seal the same run in both, if there is one."""
        if self.state.header is None or len(self.state.records) < 3 or not self.store.can_seal:
            return
        start = self.dice.randrange(len(self.state.records) - 2)
        stop = self.dice.randint(start + 2, len(self.state.records))
        try:
            theirs = (await self.store.read(self.key)).records[start:stop]
            seals = Change(seal=Record.seal(theirs)), Change(seal=Record.seal(self.state.records[start:stop]))
        except TurnlogError:
            return
        call = self.store.commit(self.key, seals[0])
        told, meant = await self.both(call, lambda: self.state.apply(seals[1], self.clock()))
        assert isinstance(told, Receipt) == isinstance(meant, Receipt)

    async def delete(self) -> None:
        """Delete both."""
        theirs, ours = self.versions()
        call = self.store.delete(self.key, expect=theirs)
        absent = SessionState.absent(self.key, ttl=self.store.ttl)
        told, meant = await self.both(call, lambda: (absent, self.state.check(ours, self.clock())))
        assert told == meant, f"delete(expect={ours!r})"

    async def read(self) -> None:
        """Read a part of both, and compare all that is handed out."""
        last, touch, (theirs, ours) = (
            self.dice.choice([None, 0, 1, 2, 5, 99]),
            self.dice.random() < 0.5,
            self.versions(),
        )
        before = self.dice.randrange(20) if ours is None and self.dice.random() < 0.5 else None
        call = self.store.read(self.key, last=last, before=before, since=theirs, touch=touch)
        await self.compare(
            call, lambda: self.state.read(self.clock(), last=last, before=before, since=ours, touch=touch)
        )

    async def look(self) -> None:
        """Read all of both."""
        await self.compare(self.store.read(self.key), lambda: self.state.read(self.clock()))

    async def compare(self, call: Awaitable[Session], step: Callable[[], tuple[SessionState, Session]]) -> None:
        """Compare all that a read hands out."""
        told, meant = await self.both(call, step)
        if isinstance(meant, Session) and isinstance(told, Session):
            self.see(told.version, meant.version)
        assert _shown(told) == _shown(meant)


def _shown(answer: Session | type[TurnlogError]) -> object:
    if not isinstance(answer, Session):
        return answer
    info = answer.info
    records = [
        (r.id, r.part, r.open, r.rounds, r.turns, r.number, r.rounds_until, texts(r.messages)) for r in answer.records
    ]
    counts = (info.first, info.turns, info.messages, info.owner, dict(info.metadata), info.ttl, info.expires_in is None)
    return counts, answer.continues, records


class Agreeing(Chapter):
    async def test_walks(self) -> None:
        """SessionState: the rules of the contract, executable: every answer of a store is the one that it gives."""
        for seed in range(_WALKS):
            store = await self.opened(ttl=80.0 if seed % 3 == 0 else None)
            walk = _Walk(store, self.clock, seed)
            for _ in range(_STEPS):
                step = walk.dice.choices([walk.commit, walk.seal, walk.delete], [20, 3, 1])[0]
                await step()
                await walk.read()
                await walk.look()
                # a session that was used lives 70 seconds for certain, and never more than 80
                passed = walk.dice.choices([0, 1, 30, 100], [20, 4, 4, 1])[0]
                if passed:
                    await self.advance(passed)
