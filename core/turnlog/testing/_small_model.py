"""A session as plain Python values: the model of the simulation.  It shares no code with `turnlog.rules`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeAlias

_stamps = count(1)

Stamp: TypeAlias = tuple[int, int, int]
"""The state that a version stands for: the session, the state of its turns, and the state of its metadata."""

Condition: TypeAlias = tuple[str, Stamp | None]
"""The kind of an `expect`, and the state that it names."""


class Refused(Exception):
    """A session does not meet the condition of a write, or does not exist for its owner."""


@dataclass(frozen=True)
class ModelTurn:
    """A turn: its number, its id, the texts of each round, and whether more rounds may follow."""

    number: int
    id: str
    rounds: tuple[tuple[str, ...], ...]
    open: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for one in self.rounds for text in one)


@dataclass(frozen=True)
class Conversation:
    """A session."""

    owner: str = ""
    turns: tuple[ModelTurn, ...] = ()
    first: int = 0
    next: int = 0
    metadata: Mapping[str, object] = field(default_factory=dict)
    done: Mapping[str, object] = field(default_factory=dict)
    """The changes so far, by id."""
    stamp: Stamp = (0, 0, 0)

    @property
    def messages(self) -> int:
        return sum(len(turn.texts) for turn in self.turns)

    def window(self, last: int | None, before: int | None) -> tuple[ModelTurn, ...]:
        """Return the fewest whole turns below a number that hold `last` messages."""
        turns = [turn for turn in self.turns if before is None or turn.number < before]
        place, held = len(turns), 0
        while place and (last is None or held < last):
            place -= 1
            held += len(turns[place].texts)
        return tuple(turns[place:])

    def without(self, before: int) -> Conversation:
        """Return the session without the turns before a number."""
        turns = tuple(turn for turn in self.turns if turn.number >= before)
        return replace(self, turns=turns, first=max(self.first, before))

    def meets(self, condition: Condition) -> bool:
        """Return whether the session meets a condition on an existing session."""
        kind, stamp = condition
        if stamp is None:
            return kind in {"none", "present"}
        parts = {"session": 1, "version": 2, "exact": 3}[kind]
        return self.stamp[:parts] == stamp[:parts]


@dataclass(frozen=True, kw_only=True)
class Write:
    """A change: what a commit does to a session, whenever it arrives."""

    id: str
    append: Sequence[tuple[str, int, tuple[str, ...], bool]] = ()
    """Rounds: the id of the turn, the part, the texts, and whether the turn stays open."""
    keep: int | None = None
    retain: int | None = None
    metadata: Mapping[str, object] | None = None
    condition: Condition = ("none", None)
    for_owner: str | None = None
    copy_of: Conversation | None = None

    def apply(self, now: Conversation | None) -> Conversation:
        """Return the session after the change.

        Raises:
            Refused: The session does not meet the condition.
        """
        if now is not None and self.for_owner not in {None, now.owner}:
            raise Refused
        content = self.append, self.metadata
        if now is not None and self.id in now.done:
            if now.done[self.id] != content:
                raise Refused
            return now
        absent = self.condition[0] == "absent"
        if now is None:
            if self.condition[0] not in {"none", "absent"}:
                raise Refused
            if self.copy_of is not None:
                copy = self.copy_of
                return replace(copy, done={self.id: content}, stamp=(next(_stamps), next(_stamps), next(_stamps)))
            now = Conversation(owner=self.for_owner or "", stamp=(next(_stamps), next(_stamps), next(_stamps)))
        elif absent or not now.meets(self.condition):
            raise Refused
        after = self._cut(now)
        for round in self.append:
            after = _with_round(after, *round)
        epoch, turns_stamp, data_stamp = now.stamp
        if after is not now:
            turns_stamp = next(_stamps)
        if self.retain is not None:
            after = after.without(after.next - self.retain)
        metadata = now.metadata
        if self.metadata is not None:
            data_stamp = next(_stamps)
            metadata = {name: one for name, one in {**metadata, **self.metadata}.items() if one is not None}
        return replace(
            after, metadata=metadata, done={**now.done, self.id: content}, stamp=(epoch, turns_stamp, data_stamp)
        )

    def _cut(self, now: Conversation) -> Conversation:
        if self.keep is None or self.keep >= now.next:
            return now
        turns = tuple(turn for turn in now.turns if turn.number < self.keep)
        return replace(now, turns=turns, next=self.keep, first=min(now.first, self.keep))


def _with_round(now: Conversation, id: str, part: int, texts: tuple[str, ...], open: bool) -> Conversation:  # noqa: FBT001
    if part == 0:
        turn = ModelTurn(now.next, id, (texts,), open)
        return replace(now, turns=(*now.turns, turn), next=now.next + 1)
    last = now.turns[-1] if now.turns else None
    if last is None or not last.open or (last.id, len(last.rounds)) != (id, part):
        raise Refused
    turn = replace(last, rounds=(*last.rounds, texts), open=open)
    return replace(now, turns=(*now.turns[:-1], turn))
