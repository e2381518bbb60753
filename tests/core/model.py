"""A brute-force model of a session, to compare with `SessionState`: written from the contract, not from the code.

It keeps every live round in a plain tuple and searches all of them for each answer.  Its versions are `Point`s: the ids
of the changes that wrote the rounds since the epoch, and the ids of other changes.  Two versions must be equal if and
only if their points are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from turnlog.errors import Conflict, HistoryRegressed, IdReused, SessionNotFound, SplitsSealed

ABSENT = "absent"
PRESENT = "present"


@dataclass(frozen=True)
class Round:
    """A round of a turn, as requested."""

    id: str
    part: int
    open: bool
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Placed:
    """A stored round, with the number of its turn and the number of rounds up to its end."""

    round: Round
    number: int
    end: int


Piece = tuple[Placed, ...]  # one record: one round, or a sealed run


@dataclass(frozen=True)
class Point:
    """A version in the model."""

    epoch: int
    generation: int = 0
    trail: tuple[str, ...] = ()
    stamps: tuple[str, ...] = ()

    def turns(self) -> tuple[object, ...]:
        """Return the part that identifies the turns."""
        return self.epoch, self.generation, self.trail


@dataclass(frozen=True)
class Condition:
    """A condition with a version: `version.session`, `version` or `version.exact`."""

    kind: str  # "session", "turns" or "exact"
    point: Point

    def met_by(self, here: Point) -> bool:
        if self.kind == "session":
            return here.epoch == self.point.epoch
        return here.turns() == self.point.turns() if self.kind == "turns" else here == self.point


@dataclass(frozen=True)
class Ask:
    """A change in the model."""

    id: str
    append: tuple[Round, ...] = ()
    keep: int | None = None
    retain: int | None = None
    metadata: dict[str, Any] | None = None
    owner: str | None = None
    ttl: float | None = None
    expect: Condition | str | None = None
    for_owner: str | None = None
    first: int = 0

    def contents(self) -> tuple[object, ...]:
        """Return the parts that a repeat must share."""
        return (
            self.append,
            self.keep,
            None if self.metadata is None else sorted(self.metadata.items()),
            self.owner,
            self.ttl,
        )


@dataclass(frozen=True)
class Answer:
    """The receipt of a commit."""

    point: Point
    number: int | None
    previous: Point | None


@dataclass(frozen=True)
class Model:
    """A session; it does not exist if `point` is None."""

    point: Point | None = None
    first: int = 0
    turns: int = 0
    pieces: tuple[Piece, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    owner: str = ""
    ttl: float | None = None
    created: float = 0.0
    updated: float = 0.0
    expires: float | None = None
    remembered: tuple[tuple[Ask, Answer], ...] = ()

    @property
    def rounds(self) -> tuple[Placed, ...]:
        return tuple(placed for piece in self.pieces for placed in piece)

    @property
    def messages(self) -> int:
        return sum(len(placed.round.texts) for placed in self.rounds)

    def alive(self, now: float) -> bool:
        return self.point is not None and (self.expires is None or now < self.expires)

    # -------------------------------------------------------------------------------------------------------- writing

    def apply(self, ask: Ask, now: float, epoch: int) -> tuple[Model, Answer]:
        """Return the session after a change and the answer, or raise the error that the commit must raise."""
        model, previous = self, self.point
        if not self.alive(now):
            self._check_absent(ask.expect)
            if not ask.append and ask.metadata is None and ask.owner is None and ask.ttl is None:
                raise SessionNotFound("no session")
            owner = ask.for_owner or ""
            model, previous = Model(Point(epoch), ask.first, ask.first, owner=owner, created=now, updated=now), None
        else:
            if ask.for_owner is not None and ask.for_owner != self.owner:
                raise SessionNotFound("it belongs to another owner")
            for known, answer in self.remembered:
                if known.id == ask.id:
                    if known.contents() != ask.contents():
                        raise IdReused(ask.id)
                    return self, replace(answer, previous=answer.point)
            self._check(ask.expect)
        number = None
        if ask.keep is not None and ask.keep < model.turns:
            model = model._cut(ask.keep, now)
        if ask.append:
            model, number = model._extend(ask, now)
        assert model.point is not None
        if ask.metadata is not None or ask.owner is not None or ask.ttl is not None:
            merged = {**model.metadata, **(ask.metadata or {})}
            model = replace(
                model,
                point=replace(model.point, stamps=(*model.point.stamps, ask.id)),
                metadata={name: value for name, value in merged.items() if value is not None},
                owner=model.owner if ask.owner is None else ask.owner,
                ttl=model.ttl if ask.ttl is None else ask.ttl,
            )
        if ask.retain is not None:
            kept = tuple(piece for piece in model.pieces if piece[-1].number >= model.turns - ask.retain)
            if len(kept) < len(model.pieces):
                model = replace(model, pieces=kept, first=kept[0][0].number)
        assert model.point is not None
        answer = Answer(model.point, number, previous)
        return replace(model, remembered=(*model.remembered, (ask, answer))), answer

    def delete(self, now: float, expect: Condition | str | None, for_owner: str | None) -> bool:
        """Return whether a session would be deleted, or raise the error that the call must raise."""
        if not self.alive(now) or (for_owner is not None and for_owner != self.owner):
            self._check_absent(expect)
            return False
        self._check(expect)
        return True

    @staticmethod
    def _check_absent(expect: Condition | str | None) -> None:
        if expect == PRESENT:
            raise SessionNotFound("no session")
        if isinstance(expect, Condition):
            raise Conflict("no session")

    def _check(self, expect: Condition | str | None) -> None:
        assert self.point is not None
        if expect == ABSENT:
            raise Conflict("it exists")
        if isinstance(expect, Condition) and not expect.met_by(self.point):
            if expect.kind != "session":
                self._check_not_ahead(expect.point)
            raise Conflict("it moved on")

    def _check_not_ahead(self, seen: Point) -> None:
        here = self.point
        assert here is not None
        if seen.epoch != here.epoch or seen.generation < here.generation:
            return
        ahead = len(seen.trail) > len(here.trail) or (len(seen.trail) == len(here.trail) and seen.trail != here.trail)
        if seen.generation > here.generation or ahead:
            raise HistoryRegressed("newer, or diverged")

    def _cut(self, keep: int, now: float) -> Model:
        assert self.point is not None
        for piece in self.pieces:
            if piece[0].number < keep <= piece[-1].number:
                raise SplitsSealed("inside", boundary=piece[0].number)
        pieces = tuple(piece for piece in self.pieces if piece[-1].number < keep)
        end = pieces[-1][-1].end if pieces else 0
        point = replace(self.point, generation=self.point.generation + 1, trail=self.point.trail[:end])
        return replace(self, point=point, pieces=pieces, turns=keep, first=min(self.first, keep), updated=now)

    def _extend(self, ask: Ask, now: float) -> tuple[Model, int]:
        assert self.point is not None
        tail = self.pieces[-1][-1].round if self.pieces else None
        start = ask.append[0]
        if start.part and not (tail is not None and tail.open and tail.id == start.id and tail.part == start.part - 1):
            raise Conflict("it does not follow")
        turns, trail, pieces = self.turns, self.point.trail, list(self.pieces)
        for new in ask.append:
            turns += new.part == 0
            trail = (*trail, ask.id)
            pieces.append((Placed(new, turns - 1, len(trail)),))
        number = pieces[len(self.pieces)][0].number
        point = replace(self.point, trail=trail)
        return replace(self, point=point, pieces=tuple(pieces), turns=turns, updated=now), number

    def seal(self, run: tuple[Placed, ...], trail: tuple[str, ...]) -> Model:
        """Return the session with these rounds as one piece, or the session itself if the seal is refused.

        `trail` is the trail of the session when the rounds were read.
        """
        assert self.point is not None
        first, last = run[0].number, run[-1].number
        inside = [place for place, piece in enumerate(self.pieces) if first <= piece[0].number <= last]
        if not inside or self.point.trail[: run[-1].end] != trail[: run[-1].end]:
            return self
        start, stop = inside[0], inside[-1] + 1
        whole = tuple(placed for piece in self.pieces[start:stop] for placed in piece)
        open_end = stop == len(self.pieces) and whole[-1].round.open
        if whole != run or run[0].round.part or open_end:
            return self
        return replace(self, pieces=(*self.pieces[:start], whole, *self.pieces[stop:]))

    # -------------------------------------------------------------------------------------------------------- reading

    def read(
        self, now: float, last: int | None, before: int | None, since: Point | None
    ) -> tuple[tuple[Piece, ...], bool]:
        """Return the pieces that a read must return, and whether they continue `since`."""
        if not self.alive(now):
            raise SessionNotFound("no session")
        if since is not None:
            found = self._behind(since)
            if found is not None:
                return found, True
        pieces = tuple(piece for piece in self.pieces if before is None or piece[0].number < before)
        if last is None:
            return pieces, False
        if last == 0:
            return (), False
        for start in range(len(pieces) - 1, -1, -1):
            begins = pieces[start][0].round.part == 0
            if begins and sum(len(placed.round.texts) for piece in pieces[start:] for placed in piece) >= last:
                return pieces[start:], False
        return pieces, False

    def _behind(self, since: Point) -> tuple[Piece, ...] | None:
        here = self.point
        assert here is not None
        self._check_not_ahead(since)
        if (since.epoch, since.generation) != (here.epoch, here.generation):
            return None
        end = len(since.trail)
        if end == len(here.trail):
            return ()
        for place, piece in enumerate(self.pieces):
            if piece[-1].end == end:
                if here.trail[:end] != since.trail:
                    raise HistoryRegressed("diverged")
                return self.pieces[place + 1 :]
        return self.pieces if end == 0 and self.pieces[0][0].end == 1 else None
