"""The common part of the simulation: its writers, and the states of the sessions by the model."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import ClassVar, Final, NamedTuple

from ..backend import Backend
from ..errors import OutcomeUnknown, SessionNotFound
from ..store import Store
from ..values.change import ABSENT, PRESENT, Expect
from ..values.key import Key
from ..values.record import Record
from ..values.session import Session
from ..values.version import Version
from ._base import Clock
from ._small_model import Condition, Conversation, ModelTurn, Stamp, Write
from .faulty import FaultyBackend

_TTL: Final = 100.0
_SHORTEST_LIFE: Final = _TTL * 7 / 8  # seconds from the last use to the earliest expiry
NAMES: Final = ("a", "b", "c")
OWNERS: Final = ("u1", "u2")
RATES: Final[Mapping[str, float]] = {
    "lose_request": 0.05,
    "lose_reply": 0.08,
    "late": 0.03,
    "repeat": 0.05,
    "crash": 0.02,
}
_SHOWN: Final = 15  # number of calls that a failure shows


class Unknown(NamedTuple):
    """A change with an unknown outcome."""

    error: OutcomeUnknown
    write: Write


class Sent(NamedTuple):
    """The first round of a turn."""

    id: str
    texts: tuple[str, ...]
    open: bool
    metadata: Mapping[str, str] | None


@dataclass
class Writer:
    """One process: its stack, the versions that it has seen, and its changes with unknown outcomes."""

    faulty: FaultyBackend
    store: Store
    seen: dict[str, list[Version]] = field(default_factory=dict)
    unknown: list[Unknown] = field(default_factory=list)
    late: deque[tuple[str, Write | None, Condition, str | None]] = field(default_factory=deque)
    """The effects of the late calls: a write, or a deletion with its condition and owner."""


class SimulationBase(ABC):
    """The writers and the model; `Simulation` has the calls."""

    ttl: ClassVar[float] = _TTL
    """The time to live to give to the backend, in seconds."""

    @abstractmethod
    def backend(self) -> Backend:
        """Return a backend without layers, not yet opened, with `ttl=self.ttl` and `clock=self.clock`."""

    def stack(self, inner: Backend) -> Backend:
        """Return the layers to test over a backend; by default none."""
        return inner

    async def advance(self, seconds: float) -> None:
        """Let time pass for the backend, as in `BackendContract`."""
        self.clock.advance(seconds)

    def __init__(self, dice: Random) -> None:
        self.dice: Random = dice
        self.clock: Clock = Clock()
        self.log: deque[str] = deque(maxlen=_SHOWN)
        """The last calls."""
        self._model: dict[str, Conversation | None] = dict.fromkeys(NAMES)
        self._alive_until: dict[str, float] = dict.fromkeys(NAMES, 0.0)
        self._gone_at: dict[str, float] = dict.fromkeys(NAMES, 0.0)
        self._stamps: dict[Version, Stamp] = {}
        self._turns_at: dict[tuple[int, int], tuple[ModelTurn, ...]] = {}
        self._sent: list[Sent] = []
        self._seals: dict[str, tuple[Record, ...]] = {}
        self._made = 0
        self._exit_stack = AsyncExitStack()
        self.writers: list[Writer] = []
        """The writers."""

    @cached_property
    def folder(self) -> Path:
        """An empty folder for this run, removed at its end."""
        folder = Path(tempfile.mkdtemp(prefix="turnlog-"))
        self._exit_stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    async def open(self, *, writers: int = 2, rates: Mapping[str, float] = RATES) -> None:
        """Open the backends.

        Args:
            writers: Number of writers, each with a stack of its own.
            rates: The probability of each fault.
        """
        _ = self.folder  # removed last
        self._storage = await self._exit_stack.enter_async_context(self.backend())
        self.clean: Store = Store(self.stack(self._storage))
        for _ in range(writers):
            own = (
                await self._exit_stack.enter_async_context(self.backend())
                if "shared" in self._storage.capabilities
                else self._storage
            )
            faulty = FaultyBackend(own, dice=self.dice, **rates)
            self.writers.append(Writer(faulty, Store(self.stack(faulty))))

    def use(self, dice: Random) -> None:
        """Replace the source of all further decisions."""
        self.dice = dice
        for writer in self.writers:
            writer.faulty.dice = dice

    def restart(self, writer: Writer) -> None:
        """Let a new process take the place of one that has crashed."""
        writer.faulty.restart()
        writer.store = Store(self.stack(writer.faulty))
        writer.seen.clear()
        self.log.append(f"writer {self.writers.index(writer)} restarts")

    async def close(self) -> None:
        """Close the backends."""
        await self._exit_stack.aclose()

    # ----------------------------------------------------------------------------------------------------- the model

    async def _expire(self, name: str) -> None:
        """Let the model's session expire if it may have expired, and the backend's session has."""
        now = self._model[name]
        if now is None or self.clock() < self._alive_until[name]:
            return
        try:
            await self._storage.read(Key("default", name), last=0, touch=False)
        except SessionNotFound:
            self._model[name] = None
        else:
            assert self.clock() < self._gone_at[name], "the session should have expired"

    def _used(self, name: str, *, certain: bool = True) -> None:
        self._gone_at[name] = self.clock() + _TTL
        if certain:
            self._alive_until[name] = max(self._alive_until[name], self.clock() + _SHORTEST_LIFE)

    def _became(self, name: str, after: Conversation | None) -> None:
        self._model[name] = after
        if after is not None:
            self._turns_at[after.stamp[:2]] = after.turns
            self._used(name)

    async def _settle(self, name: str, after: Conversation | None) -> None:
        """Find out whether a call with an unknown outcome was executed, and change the model accordingly."""
        now = self._model[name]
        if after is now:
            return
        try:
            stored = await self.clean.session(name, touch=False)
        except SessionNotFound:
            executed = after is None
        else:
            executed = after is not None and _fits(stored, after, after.turns)
            if executed and now is not None and _fits(stored, now, now.turns):  # both states look the same
                executed = stored.version not in self._stamps
        if executed:
            self._became(name, after)

    async def _check(self, name: str) -> None:
        """Compare the stored session with the model."""
        now = self._model[name]
        try:
            session = await self.clean.session(name, touch=False)
        except SessionNotFound:
            assert now is None or self.clock() >= self._alive_until[name], "the session was lost"
            self._model[name] = None
            return
        assert now is not None, "the session should not exist"
        self._compare(session, now, now.turns)
        self._pair(session.version, now.stamp)

    def _compare(self, session: Session, now: Conversation, turns: tuple[ModelTurn, ...]) -> None:
        assert _fits(session, now, turns), f"{session.turns!r} of {session.info!r} instead of {turns!r} of {now!r}"

    def _see(self, writer: Writer, name: str, version: Version, stamp: Stamp) -> None:
        self._pair(version, stamp)
        writer.seen.setdefault(name, []).append(version)

    def _pair(self, version: Version, stamp: Stamp) -> None:
        """Check that equal versions stand for equal states, and different ones for different states."""
        assert self._stamps.setdefault(version, stamp) == stamp, "a version stands for two states"
        assert sum(1 for one in self._stamps.values() if one == stamp) == 1, "two versions stand for one state"

    # ------------------------------------------------------------------------------------------------------- decisions

    def _condition(self, writer: Writer, name: str) -> tuple[Expect, Condition]:
        """Return a condition, for a call and for the model."""
        seen, dice = writer.seen.get(name, []), self.dice
        if not seen or dice.random() < 0.6:
            marks: list[tuple[Expect, str]] = [(None, "none"), (ABSENT, "absent"), (PRESENT, "present")]
            expect, kind = dice.choices(marks, [8, 1, 1])[0]
            return expect, (kind, None)
        version = seen[-1] if dice.random() < 0.7 else dice.choice(seen)
        kind = dice.choice(["session", "version", "version", "exact"])
        conditions: dict[str, Expect] = {"session": version.session, "version": version, "exact": version.exact}
        return conditions[kind], (kind, self._stamps[version])

    def _owner(self) -> str | None:
        return self.dice.choices([None, *OWNERS], [6, 1, 1])[0]

    @staticmethod
    def _view(writer: Writer, owner: str | None) -> Store:
        return writer.store if owner is None else writer.store.for_owner(owner)

    def _word(self, kind: str) -> str:
        self._made += 1
        return f"{kind}{self._made}"

    def _texts(self) -> tuple[str, ...]:
        return tuple(self._word("m") + "." * self.dice.choice([0, 5, 400]) for _ in range(self.dice.randint(1, 3)))

    def _note(self, writer: Writer, name: str, what: str) -> None:
        self.log.append(f"writer {self.writers.index(writer)}, session {name}: {what}")
        if name in self._model:
            self._used(name, certain=False)  # the call may restart the time to live, even if it fails


def _fits(session: Session, now: Conversation, turns: tuple[ModelTurn, ...]) -> bool:
    """Return whether a session equals that of the model; the model does not know the ids of turns that `save` made."""
    info = session.info
    if (info.first, info.turns, info.messages, info.owner) != (now.first, now.next, now.messages, now.owner):
        return False
    if dict(info.metadata) != now.metadata or len(session.turns) != len(turns):
        return False
    return [
        (turn.number, turn.id if model.id else "", tuple(m.text for m in turn.messages), turn.open)
        for turn, model in zip(session.turns, turns, strict=True)
    ] == [(turn.number, turn.id, turn.texts, turn.open) for turn in turns]
