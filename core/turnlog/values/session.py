"""What a store answers to a read: a snapshot of a session, its turns, and pages of infos."""

from __future__ import annotations

import base64
from contextlib import suppress
from functools import cached_property
from typing import Final

import msgspec

from ..errors import CorruptRecord, InvalidInput
from ..limits import MAX_ID_BYTES, MAX_NUMBER, MAX_PAGE, MAX_PAYLOAD_BYTES
from .ids import check_id
from .json_value import check_number, shown
from .key import Key
from .message import Message
from .metadata import Metadata
from .record import Record
from .stored import UNREADABLE, Moment
from .turn import Turn
from .version import Version, check_version


class SessionInfo(msgspec.Struct, frozen=True):
    """What is known of a session without its turns.

    Attributes:
        key: Which session: also how a reader knows that it was given the right one.
        version: Where it is.
        first: The number of the first turn that is still there.
        turns: How many turns it has seen: one more than the last one's number.
        messages: How many messages are there.
        bytes: About how many bytes its records take encoded, before a layer compresses or encrypts them.
        created: When it was made, in seconds since 1970, by the store's clock.
        updated: When turns were last written or cut, in seconds since 1970, by the store's clock; otherwise `created`.
            A change of metadata, owner or time to live leaves it as it is, and so does retention.
        owner: Whose it is; empty if nobody's.
        metadata: What the application keeps beside the turns.
        ttl: Its own time to live in seconds (0: never expires); None: the store's.
        expires_in: Seconds until it expires unless it is used; None if it does not.
    """

    key: Key
    version: Version
    first: int
    turns: int
    messages: int
    bytes: int
    created: float
    updated: float
    owner: str
    metadata: Metadata
    ttl: float | None
    expires_in: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the same as a dictionary that JSON can say, but for metadata values that are bytes."""
        return {
            "session_id": self.key.session,
            "namespace": self.key.namespace,
            "version": str(self.version),
            "first": self.first,
            "turns": self.turns,
            "messages": self.messages,
            "bytes": self.bytes,
            "created": self.created,
            "updated": self.updated,
            "owner": self.owner,
            "metadata": dict(self.metadata),
            "ttl": self.ttl,
            "expires_in": self.expires_in,
        }


class Session(msgspec.Struct, frozen=True, dict=True):
    """A snapshot: what one session was at one moment, or the part that was asked for.

    Attributes:
        info: What is known of it without its turns.
        records: What was asked for, in order.  In a continuation the first may be a later round of a turn.
        continues: Whether `records` are what follows the version named by `since`; otherwise they stand for themselves.
    """

    info: SessionInfo
    records: tuple[Record, ...]
    continues: bool = False

    def __repr__(self) -> str:
        """Return a short text: the key, and the numbers of stored turns, stored messages and records read."""
        info = self.info
        return (
            f"<Session {info.key}, {info.turns - info.first} turns, {info.messages} messages; "
            f"{len(self.records)} records read>"
        )

    @property
    def version(self) -> Version:
        """Where the session is: hand it back as `expect` or `since`."""
        return self.info.version

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The turns in `records`, in order.

        Raises:
            CorruptRecord: A record cannot be read.
        """
        turns: list[Turn] = []
        try:
            for record in self.records:
                for part in record.split() if record.rounds > 1 else (record,):
                    if turns and turns[-1].number == part.number:
                        before = turns.pop()
                        id, time, messages = before.id, before.time, before.messages + part.messages
                    else:
                        id, time, messages = part.id, part.time, part.messages
                    last = part.number + 1 == self.info.turns
                    turns.append(Turn(part.number, id, time, messages, part.open, part.open and not last))
        except CorruptRecord as error:
            error.key = self.info.key
            raise
        return tuple(turns)

    @property
    def messages(self) -> list[Message]:
        """The messages in `records`, in order; the list is the caller's own.

        Raises:
            CorruptRecord: A record cannot be read.
        """
        try:
            return Record.messages_of(self.records)
        except CorruptRecord as error:
            error.key = self.info.key
            raise


async def decoded(session: Session) -> Session:
    """Return a session; decode a large one here, and let other tasks run after each megabyte.

    A small one is decoded when its messages are needed.
    """
    if session.info.bytes > MAX_PAYLOAD_BYTES:
        from asyncio import sleep  # `import turnlog` does not pay for it

        size = 0
        for record in session.records:
            size += 0 if record.decoded else record.size
            with suppress(CorruptRecord):  # it is raised again when the messages are needed
                _ = record.messages
            if size > _AT_ONCE:
                await sleep(0)
                size = 0
    return session


_AT_ONCE: Final = 1024 * 1024
"""Bytes that are decoded in a few milliseconds."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions a page shows: those of one namespace, the last updated first.

    Attributes:
        namespace: Whose sessions.
        owner: Only the sessions of this owner; None: of all.
        limit: How many at most, 1 to 1,000.
        cursor: `Page.cursor` of the page before; None: the first page.

    Raises:
        InvalidInput: A part breaks a rule, or the cursor belongs to another query.
    """

    namespace: str
    owner: str | None = None
    limit: int = 100
    cursor: str | None = None

    def __post_init__(self) -> None:
        check_id(self.namespace, "namespace")
        if self.owner is not None and self.owner != "":
            check_id(self.owner, "owner")
        if type(self.limit) is not int or not 1 <= self.limit <= MAX_PAGE:
            raise InvalidInput(f"limit must be an int from 1 to {MAX_PAGE}, not {shown(self.limit)}")
        if self.cursor is not None:
            _ = self.after

    @property
    def after(self) -> tuple[float, str] | None:
        """The update time and the session id that the cursor stands behind; None: from the beginning."""
        if self.cursor is None:
            return None
        try:
            if type(self.cursor) is not str or len(self.cursor) > _MAX_CURSOR:
                raise ValueError
            data = base64.b64decode(self.cursor, altchars=b"-_", validate=True)
            namespace, owner, updated, session = _decode_cursor(data)
            check_id(session, "session id")
            # `abs` of -0.0 is 0.0: what is encoded in another way than by `cursor_after` came from no page
            if _cursor_of(namespace, owner, abs(updated), session) != self.cursor:
                raise ValueError
        except UNREADABLE:  # InvalidInput and binascii.Error are ValueErrors
            raise InvalidInput("cursor is not one that a page gave: begin anew without it") from None
        if (namespace, owner) != (self.namespace, self.owner):
            raise InvalidInput("cursor was given for another namespace or owner: begin anew without it")
        return updated, session

    def cursor_after(self, info: SessionInfo) -> str:
        """Return the cursor of the page after this session."""
        return _cursor_of(self.namespace, self.owner, info.updated, info.key.session)


_MAX_CURSOR = 4 * -(-(1 + 3 * (2 + MAX_ID_BYTES) + 9) // 3)
"""Characters of the longest cursor: in base64 an array of three strings and a float, with the heads of MessagePack."""

_encode_cursor = msgspec.msgpack.Encoder().encode
_decode_cursor = msgspec.msgpack.Decoder(tuple[str, str | None, Moment, str]).decode


def _cursor_of(namespace: str, owner: str | None, updated: float, session: str) -> str:
    return base64.urlsafe_b64encode(_encode_cursor((namespace, owner, float(updated), session))).decode()


class Page(msgspec.Struct, frozen=True):
    """One page of sessions.

    Attributes:
        infos: At most as many as asked for, the last updated first, equal times by session id.
        cursor: Asks for the next page; None: this was the last.
        damaged: An error for each session that cannot be read and belongs on this page, or may belong to what was asked
            for; `key` names the session where it is known.  They are not in `infos` and do not count.
    """

    infos: tuple[SessionInfo, ...]
    cursor: str | None = None
    damaged: tuple[CorruptRecord, ...] = ()


class Erased(msgspec.Struct, frozen=True):
    """What became of everything that an owner said.

    Attributes:
        sessions: How many sessions were deleted.
        traces: What may still hold fragments of them, such as a dictionary that was trained on them, for people to
            read; each layer's page says how it is removed.
        damaged: An error for each session that may be the owner's and was left, because it cannot be read: erase it by
            its id, or restore it from a backup.
    """

    sessions: int
    traces: tuple[str, ...] = ()
    damaged: tuple[CorruptRecord, ...] = ()


def check_listing(after: object, limit: object) -> None:
    """Refuse what `Backend.namespaces` cannot be asked for.

    Raises:
        InvalidInput: `after` is no namespace, or `limit` is no int from 1 to 1,000.
    """
    if after is not None:
        check_id(after, "after")
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"limit must be an int from 1 to {MAX_PAGE}, not {shown(limit)}")


def check_read(last: object, before: object, since: object) -> None:
    """Refuse what `Backend.read` cannot be asked for.

    Raises:
        InvalidInput: `last` or `before` is no number from 0 to 2**53 - 1, or `since` is no version, or given with
            `before`.
    """
    if last is not None and (type(last) is not int or not 0 <= last <= MAX_NUMBER):  # so often that a call counts
        check_number(last, "last", least=0)
    if before is not None:
        check_number(before, "before", least=0)
        if since is not None:
            raise InvalidInput("since and before cannot be given together: since reads towards the end")
    if since is not None:
        check_version(since, "since")
