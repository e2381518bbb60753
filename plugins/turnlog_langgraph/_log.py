"""`ThreadLog`: the turns of a thread that a process has read.

A turn is a checkpoint, or the writes of a task to a checkpoint.  Its first message is a header, its second message
holds all serialized values.  The further messages of a checkpoint are the new messages of the conversation, in
LangChain's own form.  A log decodes headers at once, and values when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias, cast

from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions, PendingWrite
from langgraph.checkpoint.serde.base import SerializerProtocol

from turnlog import CorruptRecord, Message, Receipt, Session, Version

from ._messages import from_message
from ._values import Blob, Digests, load

CHECKPOINT: Final = "checkpoint"
WRITES: Final = "writes"
"""The roles of headers."""

FULL_AT: Final = "langgraph_full_at"
"""The name in a session's metadata of the number of messages before its last checkpoint with all values."""

Entry: TypeAlias = dict[str, Any]
"""The value of a channel in the header of a checkpoint:

    channel, version    the name and the version of the channel; without a further entry, it has no value
    size                the number of bytes of the serialized value
    value               the position of the serialized value; or, for a list:
    kept                the number of items at the beginning that an earlier list also has
    turn, or base       the turn that stores this earlier list, or its position; none if `kept` is 0
    items               the position of the list of the further items; or
    messages            the first and the last position, plus one, of these items among the new messages
"""


class Incomplete(Exception):
    """The log lacks a turn, which an earlier part of the session may hold."""


class Stored:
    """A turn of a checkpoint or of writes.

    Args:
        turn: The number of the turn.
        messages: Its messages.

    Attributes:
        header: The decoded first message.
        turn: As above.
        messages: As above.
    """

    def __init__(self, turn: int, messages: tuple[Message, ...]) -> None:
        self.turn, self.messages = turn, messages
        self.header: dict[str, Any] = messages[0].to_dict()

    @property
    def place(self) -> tuple[str, str]:
        """The checkpoint namespace, and the id of the checkpoint."""
        return self.header["ns"], self.header["id"]

    @cached_property
    def _blobs(self) -> list[Blob]:
        blobs: Any = self.messages[1].get("values")
        return cast("list[Blob]", blobs)

    def load(self, position: int, serde: SerializerProtocol) -> Any:  # noqa: ANN401 - a value of the application
        """Return the value at a position."""
        return load(self._blobs[position], serde)

    def state(self, serde: SerializerProtocol) -> dict[str, Any]:
        """Return the checkpoint without the values of its channels."""
        state: dict[str, Any] = self.load(0, serde)
        return state

    def metadata(self, serde: SerializerProtocol) -> dict[str, Any]:
        """Return the metadata of the checkpoint."""
        metadata: dict[str, Any] = self.load(1, serde)
        return metadata

    def items(self, entry: Entry, serde: SerializerProtocol) -> list[Any]:
        """Return the items that a list has in addition to the earlier list."""
        if "items" in entry:
            items: list[Any] = self.load(entry["items"], serde)
            return items
        start, end = entry["messages"]
        return [from_message(message) for message in self.messages[2 + start : 2 + end]]


class _Write(NamedTuple):
    """A write of a task: where it is stored, at which position, the path of the task, and the channel."""

    stored: Stored
    position: int
    path: str
    channel: str


class ThreadLog:
    """The turns of a thread from some turn on.  A lock must serialize the methods of a log that threads share.

    Args:
        thread: The id of the thread, for errors.
        session: The session, or its last turns; None: the session does not exist.
        first: The number of the first turn of a session that does not exist.

    Attributes:
        version: The version up to which all turns are known; None: the session did not exist.
        seen: The last version that a read or a write returned.
        first: The number of the session's first turn.
        turns: One more than the number of the last turn.
        whole: Whether the log begins with the session's first turn.
        size: Number of bytes of the turns in the log.
        stored: Number of messages in the session.
        tail: Number of messages since the last checkpoint with all values, this checkpoint included.
        checkpoints: The checkpoints by namespace and id.
        digests: The version and the digests of the last list of a channel that this process has written, by namespace
            and channel.
    """

    def __init__(self, thread: str, session: Session | None = None, *, first: int = 0) -> None:
        self.thread = thread
        self.version: Version | None = None
        self.seen: Version | None = None
        self.first = self.turns = first
        self.whole, self.size, self.stored, self.tail = True, 0, 0, 0
        self.checkpoints: dict[tuple[str, str], Stored] = {}
        self.digests: dict[tuple[str, str], tuple[object, Digests]] = {}
        self._known: dict[int, Stored | None] = {}
        self._heads: dict[str, Stored] = {}
        self._values: dict[tuple[str, str, object], tuple[Stored, Entry]] = {}
        self._writes: dict[tuple[str, str], dict[tuple[str, int], _Write]] = {}
        self._full_at: dict[str, int] = {}
        if session is not None:
            self.first = session.info.first
            self.whole = session.info.turns == self.first or (
                len(session.records) > 0 and session.records[0].number == self.first
            )
            full_at = session.info.metadata.get(FULL_AT)
            self.tail = session.info.messages - (full_at if isinstance(full_at, int) else 0)
            self.extend(session)

    def extend(self, session: Session) -> None:
        """Add the turns of a continuation."""
        for record in session.records:
            for turn in record.split() if record.rounds > 1 else (record,):
                self.add(turn.number, turn.messages)
        self.version = self.seen = session.version
        self.turns, self.stored = session.info.turns, session.info.messages

    def appended(self, receipt: Receipt, messages: tuple[Message, ...]) -> None:
        """Add a turn that this process has written."""
        if self.version is None and receipt.previous is not None:  # the session has turns that were not read
            self.whole = False
        if receipt.previous == self.version:
            self.version = receipt.version
        self.seen, self.stored = receipt.version, receipt.messages
        assert receipt.number is not None
        self.add(receipt.number, messages)

    def add(self, number: int, messages: tuple[Message, ...]) -> None:
        """Add a turn, unless it is known.  A turn that no saver wrote is ignored."""
        if number in self._known:
            return
        self.turns = max(self.turns, number + 1)
        self.size += sum([message.size for message in messages])
        self._known[number] = None
        if messages[0].role == CHECKPOINT:
            self._add_checkpoint(Stored(number, messages))
        elif messages[0].role == WRITES:
            self._add_writes(Stored(number, messages))

    def _add_checkpoint(self, stored: Stored) -> None:
        ns, id = stored.place
        self._known[stored.turn] = stored
        if (ns, id) not in self.checkpoints and (ns not in self._heads or self._heads[ns].turn < stored.turn):
            self._heads[ns] = stored
        self.checkpoints[ns, id] = stored
        for entry in stored.header["channels"]:
            self._values[ns, entry["channel"], entry["version"]] = stored, entry
        if stored.header["full"]:
            self._full_at[ns] = self.size

    def _add_writes(self, stored: Stored) -> None:
        header = stored.header
        known = self._writes.setdefault(stored.place, {})
        for position, channel in enumerate(header["channels"]):
            index = WRITES_IDX_MAP.get(channel, position)
            if index < 0 or (header["task"], index) not in known:  # a repeated task does not change its writes
                known[header["task"], index] = _Write(stored, position, header["path"], channel)

    # ------------------------------------------------------------------------------------------------------- questions

    def namespaces(self) -> list[str]:
        """Return the checkpoint namespaces of the thread."""
        return list(self._heads)

    def head(self, ns: str) -> Stored | None:
        """Return the checkpoint that was added last to a checkpoint namespace."""
        return self._checked(self._heads.get(ns))

    def checkpoint(self, ns: str, id: str) -> Stored | None:
        """Return a checkpoint by its id."""
        return self._checked(self.checkpoints.get((ns, id)))

    def _checked(self, found: Stored | None) -> Stored | None:
        if found is None and not self.whole:
            raise Incomplete
        return found

    def pending(self, place: tuple[str, str], serde: SerializerProtocol) -> list[PendingWrite]:
        """Return the writes to a checkpoint, in LangGraph's order."""
        writes = self._writes.get(place, {})
        order = sorted(writes, key=lambda one: (writes[one].path, *one))  # as `writes_sort_key` of LangGraph
        return [(one[0], writes[one].channel, writes[one].stored.load(writes[one].position, serde)) for one in order]

    def pending_turns(self) -> Iterator[Stored]:
        """Yield the turns of writes, in order."""
        turns = {write.stored.turn: write.stored for writes in self._writes.values() for write in writes.values()}
        for number in sorted(turns):
            yield turns[number]

    def versions(self, ns: str, id: str | None, serde: SerializerProtocol) -> ChannelVersions | None:
        """Return the channel versions of a checkpoint; None: it is not in the log."""
        found = None if id is None else self.checkpoints.get((ns, id))
        if found is None:
            return None
        versions: ChannelVersions = found.state(serde)["channel_versions"]
        return versions

    def size_since_full(self, ns: str) -> int:
        """Return the size of the turns since the last checkpoint with all values, in bytes."""
        return self.size - self._full_at.get(ns, 0)

    def entry(self, ns: str, channel: str, version: object) -> tuple[int, Entry]:
        """Return the number of the turn with the value of a channel, and its entry; -1 and an empty one: unknown."""
        found = self._values.get((ns, channel, version))
        return (-1, {}) if found is None else (found[0].turn, found[1])

    def value(self, ns: str, channel: str, version: object, serde: SerializerProtocol) -> list[Any]:
        """Return a list with the value of a channel; an empty list: the channel has no value.

        Raises:
            Incomplete: The value may be in an earlier turn.
            CorruptRecord: The session has dropped a turn that holds a part of the value.
        """
        found = self._values.get((ns, channel, version))
        if found is None and not self.whole:
            raise Incomplete
        if found is None or "size" not in found[1]:
            return []
        stored, entry = found
        return [stored.load(entry["value"], serde) if "value" in entry else self._list(stored, entry, serde)]

    def _list(self, stored: Stored, entry: Entry, serde: SerializerProtocol) -> list[Any]:
        parts: list[list[Any]] = []
        end: int | None = None  # the end of the part that all later lists keep
        while "kept" in entry:
            kept = entry["kept"]
            if end is None or end > kept:
                parts.append(stored.items(entry, serde)[: None if end is None else end - kept])
            end = kept if end is None else min(end, kept)
            if "turn" not in entry:
                break
            stored, entry = self._earlier(stored, entry)
        position = entry.get("base", entry.get("value"))
        if position is not None:
            parts.append(stored.load(position, serde)[:end])
        return [item for part in reversed(parts) for item in part]

    def _earlier(self, stored: Stored, entry: Entry) -> tuple[Stored, Entry]:
        earlier = self._known.get(entry["turn"])
        if earlier is None:
            if not self.whole:
                raise Incomplete
            raise CorruptRecord(
                f"thread {self.thread!r}: checkpoint {stored.header['id']} needs turn {entry['turn']}, which is no "
                "longer stored: restore a backup, or continue from another checkpoint",
                turn=stored.turn,
            )
        return earlier, next(one for one in earlier.header["channels"] if one["channel"] == entry["channel"])
