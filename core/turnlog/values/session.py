"""The results of reads: snapshots of sessions, and pages of session infos."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import Final

import msgspec

from ..errors import CorruptRecord, InvalidInput
from ..limits import MAX_NUMBER, MAX_PAYLOAD_BYTES
from .checks import check_number
from .json_value import JSON
from .key import Key
from .message import Message, to_dicts
from .metadata import Metadata
from .record import Record
from .turn import Turn
from .version import Version, check_version


class SessionInfo(msgspec.Struct, frozen=True):
    """The data of a session except its turns.

    Attributes:
        key: The key of the session.
        version: The version of the session.
        first: The number of the first stored turn.
        turns: One more than the number of the last turn.
        messages: Number of stored messages.
        bytes: Estimated size of the encoded records in bytes, before a layer compresses or encrypts them.
        created: Time of creation, in seconds since 1970, by the store's clock.
        updated: Time of the last write or cut of turns, in seconds since 1970, by the store's clock; `created` if there
            was none.  A change of metadata, owner or time to live does not change it, and retention does not either.
        owner: The owner; empty if the session has none.
        metadata: The metadata of the application.
        ttl: The session's own time to live in seconds (0: never expires); None: the time to live of the store.
        expires_in: Seconds until the session expires if it is not used; None if it does not expire.
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
        """Return the info as a dictionary of JSON values; metadata values of layers may be bytes."""
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
    """A snapshot of a session, or of a part of it.

    Attributes:
        info: The info of the session.
        records: The requested records, in order.  In a continuation the first record may be a later round of a turn.
        continues: Whether `records` continue the version in `since`.  If False, they are the answer without `since`.
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
        """The version of the session, for `expect` or `since`."""
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
        """The messages in `records`, in order, as a new list.

        Raises:
            CorruptRecord: A record cannot be read.
        """
        try:
            return Record.messages_of(self.records)
        except CorruptRecord as error:
            error.key = self.info.key
            raise

    def to_dicts(self) -> list[dict[str, JSON]]:
        """Return the messages in `records` as new dictionaries, for a provider's client: the fastest form of all.

        Raises:
            CorruptRecord: A record cannot be read.
        """
        try:
            return to_dicts(self.messages)
        except CorruptRecord as error:
            error.key = self.info.key
            raise


async def decoded(session: Session) -> Session:
    """Return a session; decode a large session now, and let other tasks run after each megabyte.

    A small session is decoded when its messages are needed.
    """
    if session.info.bytes > MAX_PAYLOAD_BYTES:
        from asyncio import sleep  # imported late, to keep `import turnlog` fast

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
"""Number of bytes to decode before other tasks run: a few milliseconds."""


class Page(msgspec.Struct, frozen=True):
    """One page of sessions.

    Attributes:
        infos: At most `Query.limit` infos, in the order of `Query`.
        cursor: The cursor for the next page; None: this is the last page.  A page of all namespaces may have a cursor
            and fewer infos than `Query.limit`, even none.
        damaged: An error for each damaged session that belongs on this page, or may match the query.  The `key` of an
            error is None if the session is unknown.  Damaged sessions are not in `infos` and do not count.
    """

    infos: tuple[SessionInfo, ...]
    cursor: str | None = None
    damaged: tuple[CorruptRecord, ...] = ()


class Erased(msgspec.Struct, frozen=True):
    """The result of `Store.erase_owner`.

    Attributes:
        sessions: Number of deleted sessions.
        traces: Descriptions of data that may still hold fragments of the sessions, such as a dictionary that was
            trained on them.  The page of each layer explains their removal.
        damaged: An error for each damaged session that may belong to the owner and was not deleted: erase it by its id,
            or restore it from a backup.
    """

    sessions: int
    traces: tuple[str, ...] = ()
    damaged: tuple[CorruptRecord, ...] = ()


def check_read(last: object, before: object, since: object) -> None:
    """Check the arguments of `Backend.read`.

    Raises:
        InvalidInput: `last` or `before` is not a number from 0 to 2**53 - 1, `since` is not a version, or both `since`
            and `before` are given.
    """
    if last is not None and (type(last) is not int or not 0 <= last <= MAX_NUMBER):  # a call would slow down every read
        check_number(last, "last", least=0)
    if before is not None:
        check_number(before, "before", least=0)
        if since is not None:
            raise InvalidInput("since and before cannot be given together: since reads towards the end")
    if since is not None:
        check_version(since, "since")
