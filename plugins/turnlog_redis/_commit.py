"""`Commit`: the commit of a change, usually in one round trip."""

from __future__ import annotations

from time import monotonic
from typing import Any

import msgspec

from turnlog import AccessError, Change, Key, OutcomeUnknown, Receipt, Unavailable
from turnlog.errors import TurnlogError
from turnlog.rules import NOTHING, Header, Remembered, needs
from turnlog.runtime import BoundedMap

from . import _layout, _scripts
from ._commit_plan import CommitPlan, Seen, commit_plan, receipt_of
from ._layout import Keys
from ._retry import RetryingServer
from ._writer import Waiting, Writer


class Commit(msgspec.Struct, gc=False):
    """The commit of a change."""

    server: RetryingServer
    seen: BoundedMap[Key, Seen]
    """The last seen headers; the commit updates that of its session."""
    writer: Writer
    key: Key
    keys: Keys
    change: Change
    hashed: bytes
    """The hash of the change."""
    ttl: float | None
    """The backend's time to live in seconds."""
    until: float
    """The deadline of the operation."""
    waiting: Waiting
    """The change while it waits for its turn."""
    sure: bool = False
    """True after a read of the session for this change.  Before, the commit relies on the last seen header."""
    together: bool = True
    """True if the same script may also commit the changes of waiting tasks."""
    done: Receipt | None = None
    """The receipt, if the session remembers the change."""

    async def run(self) -> Receipt:
        """Commit the change, as `Backend.commit`."""
        key, writer = self.key, self.writer
        held = writer.locks.try_acquire(key) or await self._wait()
        if isinstance(held, Receipt):
            return held
        try:
            seen = self.seen.get(key)
            while not self.done:
                work = await self._plan(seen)
                if work is None:
                    seen = await self._look()
                    continue
                sent = monotonic()
                answer = await self._send(work)
                if answer[0] == b"stored":
                    return self._stored(work, seen, answer[1], answer[2])
                seen = await self._otherwise(work, seen, sent, answer)
        except TurnlogError as error:
            await writer.leave(key, self.until)
            if isinstance(error, AccessError | Unavailable) and self.waiting.sent:
                raise self._unknown(str(error)) from error
            if isinstance(error, OutcomeUnknown):
                error.key, error.change = key, self.change
            raise
        else:
            return self.done
        finally:
            if held:
                writer.locks.release(key)

    async def _wait(self) -> Receipt | bool:
        """Wait until no other task of this event loop writes to the session, as `KeyedLocks.wait`."""
        try:
            return await self.writer.locks.wait(self.key, self.until, self.waiting)
        except Unavailable as error:
            if not self.waiting.sent:
                raise
            raise self._unknown(f"{self.server.location.name}: no answer in time") from error

    def _unknown(self, said: str) -> OutcomeUnknown:
        """Return the error for a change that another task has sent, without an answer."""
        error = OutcomeUnknown(said)
        error.key, error.change = self.key, self.change
        return error

    async def _plan(self, seen: Seen | None) -> CommitPlan | None:
        """Return the plan of the commit; None if the header must be read first."""
        if seen is None and not self.sure:
            return None
        key, change, writer = self.key, self.change, self.writer
        try:
            near, elements = needs(key, None if seen is None else seen.header, change), None
            others = writer.locks.waiting(key) if near is NOTHING and self.together else []
            if near.keep is not None and seen is not None:
                names = (self.keys.session,)
                there, elements, cut, row = await self.server.run(self.until, _scripts.AROUND, names, near.keep)
                if there != seen.raw:
                    return None
                below = _layout.records_from(key, [row])[0] if row else None
                near = msgspec.structs.replace(near, below=below, cut=cut)
            return commit_plan(
                *(key, self.keys, change, self.hashed, seen, near, elements),
                others=others,
                ttl=self.ttl,
                writer=writer.name,
            )
        except TurnlogError:
            if self.sure:  # if not, the header may be outdated, or the session may remember the change
                raise
            return None

    async def _look(self) -> Seen | None:
        """Read the header; None: the session does not exist.  Set `done` if the session remembers the change."""
        answer = await self.server.run(self.until, _scripts.LOOK, (self.keys.session,), self.hashed)
        self.sure = True
        if answer is None:
            return None
        raw, metadata, left, entry = answer
        seen = Seen(_layout.header_from(self.key, raw, metadata, left), raw, metadata)
        if entry:
            await self._repeat(seen.header, entry)
        return seen

    async def _repeat(self, header: Header, entry: bytes) -> None:
        """Set `done` to the receipt of a remembered change, and restart the session's time to live."""
        slid = header.slide(0.0, self.ttl)
        receipt = Remembered.unpack(header.key, entry).receipt(slid, self.change, 0.0)
        if slid is not header:
            await self.server.run(self.until, _scripts.TOP, (self.keys.session,), _layout.ttl_text(self.ttl), "1")
        self.done = receipt

    async def _send(self, work: CommitPlan) -> list[Any]:
        """Run the script of the commit and return its answer.

        If the answer is lost, the changes of other tasks stay marked as sent: they may have been stored.
        """
        marked = [other.waiting for other in work.others if not other.waiting.sent]
        for waiting in marked:
            waiting.sent = True
        stored = True
        try:
            answer: list[Any] = await self.server.run(
                self.until, _scripts.COMMIT, work.keys, *work.arguments, writes=True
            )
            stored = answer[0] == b"stored"
        except (AccessError, Unavailable):
            stored = False
            raise
        finally:
            if not stored:
                for waiting in marked:
                    waiting.sent = False
        return answer

    def _stored(self, work: CommitPlan, seen: Seen | None, raw: bytes, left: int) -> Receipt:
        """Return the receipt of a stored change, and give the other tasks their receipts."""
        self.writer.first.discard(self.key)
        todo = work.others[-1].todo if work.others else work.todo
        after = _layout.completed(todo.header, raw, left)
        self.seen[self.key] = Seen(after, raw, work.metadata or (b"" if seen is None else seen.metadata))
        for other in work.others:
            if not other.turn.done():
                other.turn.set_result(receipt_of(other.todo, after))
        return receipt_of(work.todo, after)

    async def _otherwise(self, work: CommitPlan, seen: Seen | None, sent: float, found: list[Any]) -> Seen | None:
        """Return the last seen header after the script stored nothing; set `done` if the change is a repeat."""
        kind, *answer = found
        if kind == b"repeat":
            raw, left, entry = answer
            await self._repeat(_layout.header_from(self.key, raw, None, left), entry)
        elif kind == b"wait":
            await self.writer.wait(answer[0], sent, self.until)
        elif kind == b"moved":
            self.writer.first.add(self.key)
            raw, left, metadata = answer
            seen = Seen(_layout.header_from(self.key, raw, metadata, left), raw, metadata) if raw else None
            self.sure = True
            await self.writer.wait(0, sent, self.until)
        elif work.others:  # another change is a repeat, or all changes together are too large
            self.together = False
        else:
            before = 0 if seen is None else seen.header.bytes
            header = msgspec.structs.replace(work.todo.header, bytes=int(answer[0]))
            header.check_bytes(self.change.max_bytes, before)
        return seen
