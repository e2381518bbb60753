"""`Access`: one session, read and written as a view of a store does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from .backend import Backend
from .errors import SessionNotFound
from .rules.conditions import is_met, missing, naming_owner
from .rules.expiry import expiry_is_due
from .rules.window import cut_off, exact
from .values.change import ANY, Expect, Mark, Receipt
from .values.ids import new_id
from .values.key import Key
from .values.message import Message
from .values.record import Record
from .values.session import Session, SessionInfo, decoded
from .values.version import Version

__all__ = ["Access", "read_owned"]


class _Read(Protocol):
    """Reads a session, if it belongs to the view's owner."""

    def __call__(
        self, key: Key, *, last: int | None = None, before: int | None = None, touch: bool = True
    ) -> Awaitable[Session]: ...


class _Commit(Protocol):
    """Commits a change under the view's owner and limits."""

    def __call__(
        self, key: Key, *, append: tuple[Record, ...] = (), keep: int | None = None, expect: Expect
    ) -> Awaitable[Receipt]: ...


async def read_owned(
    backend: Backend,
    owner: str,
    key: Key,
    last: int | None,
    before: int | None,
    since: Version | None,
    *,
    touch: bool,
) -> Session:
    """Read a session as `Backend.read` does, if it belongs to an owner.

    Raises:
        SessionNotFound: The session does not exist, or has another owner.
    """
    # compare the owner before the time to live is restarted: a view must not keep another owner's session alive
    with naming_owner(owner):
        session = await backend.read(key, last=last, before=before, since=since, touch=False)
    info = session.info
    if info.owner != owner:
        raise missing(key, owner)
    if touch and expiry_is_due(info.ttl if info.ttl is not None else backend.ttl, info.expires_in):
        await backend.read(key, last=0)
    return session


class Access(NamedTuple):
    """One session, read and written as a view of a store does it."""

    key: Key
    backend: Backend
    owner: str | None
    """The view's owner; None: the view shows all sessions."""
    read: _Read
    commit: _Commit
    as_read: Callable[[Message], Message] | None
    """Returns a message as a reader gets it once it is stored; None: the same message."""

    async def find(self) -> Session | None:
        """Return the whole session, decoded; None if it does not exist."""
        try:
            return await decoded(await self.read(self.key))
        except SessionNotFound:
            return None

    async def window(self, last: int, *, before: int | None = None, touch: bool = True) -> Session:
        """Return the session with the fewest whole turns, numbered below `before`, that hold `last` messages."""
        session = await self.read(self.key, last=last, before=before, touch=touch)
        if before is not None:
            session = await self._read_further(session, last, before)
        return exact(await decoded(session), last, before)

    async def _read_further(self, session: Session, last: int, before: int) -> Session:
        """Read further back if `before` falls inside a sealed record: `exact` cuts off a part of that record."""
        read = 0
        while (cut := cut_off(session, before)) > read:  # more than the last time: another task has sealed more turns
            records = session.records
            if sum([record.count for record in records]) - cut >= last or records[0].number <= session.info.first:
                break
            read = cut
            session = await self.read(self.key, last=last + cut, before=before, touch=False)
        return session

    async def info(self) -> SessionInfo:
        """Return the info.  A cache does not answer this read, and drops older turns."""
        return (await self.read(self.key, last=0, touch=False)).info

    async def may_meet(self, expect: Expect | Literal[Mark.ANY]) -> bool:
        """Return whether the session may meet a condition."""
        try:
            version = (await self.info()).version
        except SessionNotFound:
            return expect is None or expect is ANY
        return is_met(version, expect)

    def records(self, turns: Sequence[tuple[Message, ...]]) -> tuple[Record, ...]:
        """Return a record for each turn."""
        now = self.backend.clock()
        return tuple([Record.of(messages, id=new_id(), time=now) for messages in turns])
