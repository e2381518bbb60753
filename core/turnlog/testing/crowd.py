"""`crowd`: many writers at once, on a stack with faults; at the end, nothing is lost and nothing is stored twice.

Each writer is a task with a stack of its own.  It appends turns, and counts in the metadata by compare-and-set.  It
sends a change with an unknown outcome again until it is answered.  In between it reads the session, whole or since a
version.  Delays reorder the calls of the tasks.  The seed decides everything.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

from ..errors import Conflict, OutcomeUnknown, SessionNotFound, Unavailable
from ..store import Store
from ..values.message import user
from ..values.session import Session
from ..values.version import Version
from ._simulation_base import Writer
from .simulation import Simulation

__all__ = ["crowd"]

T = TypeVar("T")

_RATES: Final = {"delay": 0.5, "lose_request": 0.04, "lose_reply": 0.08, "late": 0.03, "repeat": 0.05, "crash": 0.01}
_NAMES: Final = ("a", "b")
_CALLS: Final = 25  # calls of each writer


def crowd(kind: type[Simulation], seed: int, *, writers: int = 4) -> None:
    """Run several writers at once.

    Args:
        kind: The stack, as for `simulate`.
        seed: The seed of all decisions.
        writers: Number of writers.

    Raises:
        AssertionError: A turn was lost, stored twice or reordered, or a reader saw another history; the note of the
            error names the seed.
    """
    asyncio.run(_run(kind, seed, writers))


async def _run(kind: type[Simulation], seed: int, writers: int) -> None:
    run = kind(Random(seed))  # noqa: S311 - dice, not keys
    try:
        await run.open(writers=writers, rates=_RATES)
        members = [_Member(run, writer, Random(seed * 1_000 + n), f"w{n}") for n, writer in enumerate(run.writers)]  # noqa: S311
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(member.work())
        for member in members:
            while member.writer.faulty.late:
                await member.writer.faulty.deliver()
        await _check(run, members)
    except BaseException as error:
        error.add_note(f"To repeat: crowd({kind.__name__}, seed={seed}, writers={writers})")
        raise
    finally:
        await run.close()


async def _check(run: Simulation, members: list[_Member]) -> None:
    """Compare the stored sessions with the answers that the writers have received."""
    for name in _NAMES:
        said = [member.said[name] for member in members]
        try:
            session = await run.clean.session(name)
        except SessionNotFound:
            assert not any(said), "a session was lost"
            continue
        texts = [message.text for message in session.messages]
        assert len(texts) == len(set(texts)), "a turn is stored twice"
        assert set(texts) == {text for one in said for text in one}, "a turn was lost, or was never acknowledged"
        for one in said:
            assert [text for text in texts if text in one] == one, "turns of one writer have changed places"
        counted = sum(member.counted[name] for member in members)
        assert session.info.metadata.get("n", 0) == counted, "a compare-and-set was lost"


class _Member:
    """One writer.

    Args:
        run: The simulation with the stack.
        writer: The process.
        dice: The source of its decisions.
        name: Its name, which begins each of its texts.
    """

    def __init__(self, run: Simulation, writer: Writer, dice: Random, name: str) -> None:
        self.run, self.writer, self.dice, self.name = run, writer, dice, name
        self.said: dict[str, list[str]] = defaultdict(list)
        self.counted: dict[str, int] = defaultdict(int)
        self.read: dict[str, tuple[Version, list[str]]] = {}

    @property
    def store(self) -> Store:
        """The store over the stack; after a crash, over a new stack."""
        if self.writer.faulty.crashed:
            self.run.restart(self.writer)
        return self.writer.store

    async def work(self) -> None:
        """Make random calls."""
        for number in range(_CALLS):
            session = self.dice.choice(_NAMES)
            (call,) = self.dice.choices(
                [self.append, self.count, self.load, self.follow, self.deliver], [8, 3, 5, 4, 1]
            )
            await call(session, number)

    async def append(self, session: str, number: int) -> None:
        """Append a turn, and send it again until it is answered."""
        text = f"{self.name}.{number}" + "." * self.dice.choice([0, 400])
        await self.until_answered(lambda: self.store.append(session, [user(text)], turn_id=text[:9]))
        self.said[session].append(text)

    async def count(self, session: str, _: int) -> None:
        """Add one to a number in the metadata."""
        while True:
            try:
                info = await self.until_answered(lambda: self.store.info(session))
            except SessionNotFound:
                return
            value = info.metadata.get("n", 0)
            assert isinstance(value, int)
            try:
                await self.resend_until_answered(
                    lambda: self.store.merge_metadata(session, {"n": value + 1}, expect=info.version.exact)  # noqa: B023
                )
            except Conflict:
                continue
            self.counted[session] += 1
            return

    async def load(self, session: str, _: int) -> None:
        """Read the session: the writer's own turns are there, in order."""
        try:
            found = await self.until_answered(lambda: self.store.session(session))
        except SessionNotFound:
            assert not self.said[session], "an acknowledged turn is missing"
            return
        self.check(session, found, [message.text for message in found.messages])

    async def follow(self, session: str, number: int) -> None:
        """Read what was added since the last read."""
        if session not in self.read:
            await self.load(session, number)
            return
        version, texts = self.read[session]
        found = await self.until_answered(lambda: self.store.session(session, since=version))
        new = [message.text for message in found.messages]
        self.check(session, found, [*texts, *new] if found.continues else new)

    def check(self, session: str, found: Session, texts: list[str]) -> None:
        """Check a history that was read."""
        own = [text for text in texts if text.startswith(f"{self.name}.")]
        assert own == self.said[session], "an acknowledged turn is missing, or is there twice"
        if session in self.read:
            before = self.read[session][1]
            assert texts[: len(before)] == before, "the history has changed"
        assert len(texts) == found.info.messages
        self.read[session] = found.version, texts

    async def deliver(self, _: str, __: int) -> None:
        """Let a late call arrive."""
        if self.writer.faulty.late:
            await self.writer.faulty.deliver()

    async def until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call that may be repeated until it is answered."""
        while True:
            try:
                return await call()
            except (OutcomeUnknown, Unavailable):
                continue

    async def resend_until_answered(self, call: Callable[[], Awaitable[object]]) -> None:
        """Make a call, and send its change again until it is answered."""
        try:
            await call()
        except OutcomeUnknown as error:
            unknown = error
            await self.until_answered(lambda: self.store.backend.commit(unknown.key, unknown.change))
        except Unavailable:  # nothing was stored
            await self.resend_until_answered(call)
