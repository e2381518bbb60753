"""The reads of the simulation, and the passing of time."""

from __future__ import annotations

from collections.abc import Awaitable

from ..errors import SessionNotFound, Unavailable
from ..values.session import Session
from ._simulation_base import NAMES, OWNERS, SimulationBase, Writer


class Reads(SimulationBase):
    async def load(self, writer: Writer, name: str) -> None:
        """Read a window."""
        dice, now, owner = self.dice, self._model[name], self._owner()
        last = dice.choice([None, 1, 2, 5, 20])
        before = dice.randrange(12) if dice.random() < 0.2 else None
        touch = dice.random() < 0.8
        self._note(writer, name, f"load last={last} before={before} owner={owner}")
        try:
            session = await _found(self._view(writer, owner).session(name, last=last, before=before, touch=touch))
        except Unavailable:
            return
        if now is None or owner not in {None, now.owner}:
            assert session is None, "the session does not exist, but was read"
            return
        assert session is not None, "the session was not found"
        self._used(name, certain=touch)
        self._compare(session, now, now.window(last, before))
        self._see(writer, name, session.version, now.stamp)

    async def follow(self, writer: Writer, name: str) -> None:
        """Read the turns since a version."""
        now, seen = self._model[name], writer.seen.get(name)
        if now is None or not seen:
            return
        since = self.dice.choice(seen)
        self._note(writer, name, "read since a version")
        try:
            session = await _found(writer.store.session(name, since=since))
        except Unavailable:
            return
        assert session is not None, "the session was not found"
        self._used(name)
        stamp = self._stamps[since]
        old = self._turns_at[stamp[:2]]
        texts = [text for turn in now.turns for text in turn.texts]
        found = [message.text for message in session.messages]
        if session.continues:
            assert stamp[0] == now.stamp[0], "a continuation of another session"
            held = [text for turn in old if turn.number >= now.first for text in turn.texts]
            assert [*held, *found] == texts, "the continuation does not fit"
        else:
            assert found == texts
        self._see(writer, name, session.version, now.stamp)

    async def sessions(self, writer: Writer, _: str) -> None:
        """List the sessions of everybody, or of an owner."""
        for name in NAMES:
            await self._expire(name)
        owner = self.dice.choice([None, "", *OWNERS])
        self._note(writer, "*", f"list owner={owner}")
        try:
            found = {info.key.session async for info in writer.store.sessions(owner=owner)}
        except Unavailable:
            return
        expected = {
            name for name, one in self._model.items() if one is not None and (owner is None or one.owner == owner)
        }
        assert found == expected, "the list"

    async def wait(self, writer: Writer, _: str) -> None:
        """Let time pass."""
        seconds = self.dice.choice([1.0, 20.0, 40.0, 95.0, 150.0])
        self._note(writer, "*", f"{seconds} seconds pass")
        await self.advance(seconds)


async def _found(call: Awaitable[Session]) -> Session | None:
    """Return the session; None if it was not found."""
    try:
        return await call
    except SessionNotFound:
        return None
