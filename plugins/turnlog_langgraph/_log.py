"""`ThreadLog`: the turns of a thread that a process has read.

A turn is a checkpoint or the writes of a task.  Its first message holds the data.  The further messages of a checkpoint
are the new messages of the conversation, in LangChain's own form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    PendingWrite,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from turnlog import CorruptRecord, Message, Receipt, Session, Version

CHECKPOINT: Final = "checkpoint"
WRITES: Final = "writes"
"""The roles of the first message of a turn."""

_MESSAGES: Final[dict[str, type[BaseMessage]]] = {
    "ai": AIMessage,
    "chat": ChatMessage,
    "function": FunctionMessage,
    "human": HumanMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
}
"""The classes of LangChain messages that are stored as messages, by their `type`: no other class is constructed."""

Entry: TypeAlias = dict[str, Any]
"""The value of a channel in a checkpoint:

    channel, version    the name and the version of the channel; without a further entry, it has no value
    value               a serialized value: its type and its bytes
    base, kept          for a list: the turn with the earlier list, or the serialized list itself, and the number of its
                        items that remain; no base: a new list
    items               for a list: the serialized list of the further items; or
    messages            the first and the last position, plus one, of these items among the messages of the turn
    size                for a list: the number of bytes of all serialized items
"""


class Incomplete(Exception):
    """The log lacks a turn, which an earlier part of the session may hold."""


class Digests(NamedTuple):
    """A digest of each item of a list, and the number of bytes of all serialized items."""

    items: list[bytes]
    size: int


class Stored(NamedTuple):
    """A stored checkpoint: the number of its turn, its data, and the new messages of the conversation."""

    turn: int
    data: dict[str, Any]
    messages: tuple[Message, ...]


class ThreadLog:
    """The turns of a thread from some turn on, with the latest version that was read.

    Args:
        thread: The id of the thread, for errors.
        session: The session, or its last turns; None: the session does not exist.
        first: The number of the first turn of a session that does not exist.

    Attributes:
        version: The version up to which all turns are known; None: the session did not exist.
        seen: The last version that a read or a write returned.
        first: The number of the session's first turn.
        whole: Whether no earlier turn exists.
        size: Number of bytes of all turns.
        messages: Number of messages of all turns.
        turns: One more than the number of the last turn.
        digests: The version and the digests of the last list of a channel that this process has written, by the
            checkpoint namespace and the channel.
    """

    def __init__(self, thread: str, session: Session | None = None, *, first: int = 0) -> None:
        self.thread = thread
        self.version: Version | None = None
        self.seen: Version | None = None
        self.first = self.turns = first
        self.size, self.messages, self.whole = 0, 0, True
        self.checkpoints: dict[tuple[str, str], Stored] = {}
        self._turns: dict[int, Stored | None] = {}
        self._heads: dict[str, Stored] = {}
        self._values: dict[tuple[str, str, object], tuple[Stored, Entry]] = {}
        self._writes: dict[tuple[str, str], dict[tuple[str, int], Sequence[Any]]] = {}
        self._full: dict[str, int] = {}
        self.digests: dict[tuple[str, str], tuple[object, Digests]] = {}
        if session is not None:
            self.first = session.info.first
            self.whole = not session.turns or session.turns[0].number == self.first
            self.extend(session)

    def extend(self, session: Session) -> None:
        """Add the turns of a continuation."""
        for turn in session.turns:
            self.add(turn.number, turn.messages)
        self.version = self.seen = session.version
        self.turns = session.info.turns

    def appended(self, receipt: Receipt, messages: tuple[Message, ...]) -> None:
        """Add a turn that this process has written."""
        if self.version is None and receipt.previous is not None:  # the session has turns that were not read
            self.whole = False
        if receipt.previous == self.version:
            self.version = receipt.version
        self.seen = receipt.version
        assert receipt.number is not None
        self.add(receipt.number, messages)

    def add(self, number: int, messages: tuple[Message, ...]) -> None:
        """Add a turn, unless it is known.  Turns that no saver wrote are ignored."""
        if number in self._turns:
            return
        head = messages[0]
        found = self._turns[number] = Stored(number, head.to_dict(), messages[1:]) if head.role == CHECKPOINT else None
        self.turns = max(self.turns, number + 1)
        self.messages += len(messages)
        self.size += sum([message.size for message in messages])
        if found is not None:
            self._add_checkpoint(found)
        elif head.role == WRITES:
            data: dict[str, Any] = head.to_dict()
            slot = self._writes.setdefault((data["ns"], data["id"]), {})
            for index, *write in data["writes"]:
                if index < 0 or (data["task"], index) not in slot:  # a repeated task does not change its writes
                    slot[data["task"], index] = (data["path"], *write)

    def _add_checkpoint(self, found: Stored) -> None:
        data, place = found.data, (found.data["ns"], found.data["id"])
        if place not in self.checkpoints and (place[0] not in self._heads or self._heads[place[0]].turn < found.turn):
            self._heads[place[0]] = found
        self.checkpoints[place] = found
        for entry in data["channels"]:
            self._values[place[0], entry["channel"], entry["version"]] = found, entry
        if data["full"]:
            self._full[place[0]] = self.size

    # ------------------------------------------------------------------------------------------------------- questions

    def namespaces(self) -> list[str]:
        """Return the checkpoint namespaces of the thread."""
        return list(self._heads)

    def head(self, ns: str) -> Stored | None:
        """Return the checkpoint that was added last to a checkpoint namespace."""
        return self._known(self._heads.get(ns))

    def checkpoint(self, ns: str, id: str) -> Stored | None:
        """Return a checkpoint by its id."""
        return self._known(self.checkpoints.get((ns, id)))

    def _known(self, found: Stored | None) -> Stored | None:
        if found is None and not self.whole:
            raise Incomplete
        return found

    def pending(self, ns: str, id: str, serde: SerializerProtocol) -> list[PendingWrite]:
        """Return the writes that belong to a checkpoint, in LangGraph's order."""
        slot = self._writes.get((ns, id), {})
        places = sorted(slot, key=lambda place: writes_sort_key(slot[place][0], *place))
        return [(task, slot[task, index][1], load(slot[task, index][2:], serde)) for task, index in places]

    def writes(self) -> Iterator[tuple[tuple[str, str], Message]]:
        """Yield the checkpoint namespace and id, and the message, of the writes of each task."""
        for (ns, id), slot in self._writes.items():
            for task in {task: None for task, _ in slot}:
                mine = {index: write for (owner, index), write in slot.items() if owner == task}
                path = next(iter(mine.values()))[0]
                yield (ns, id), writes_message(ns, id, task, path, [[i, *write[1:]] for i, write in mine.items()])

    def size_since_full(self, ns: str) -> int:
        """Return the size of the turns since the last checkpoint with all values, in bytes."""
        return self.size - self._full.get(ns, 0)

    def versions(self, ns: str, id: str | None, serde: SerializerProtocol) -> ChannelVersions | None:
        """Return the channel versions of a checkpoint; None: it is not in the log."""
        found = None if id is None else self.checkpoints.get((ns, id))
        if found is None:
            return None
        versions: ChannelVersions = load(found.data["state"], serde)["channel_versions"]
        return versions

    def turn_of(self, ns: str, channel: str, version: object) -> int:
        """Return the number of the turn with the value of a channel; -1: it is not in the log."""
        found = self._values.get((ns, channel, version))
        return -1 if found is None else found[0].turn

    def size_of(self, ns: str, channel: str, version: object) -> int:
        """Return the size of a channel's serialized value in bytes."""
        found = self._values.get((ns, channel, version))
        if found is None:
            return 0
        return len(found[1]["value"][1]) if "value" in found[1] else int(found[1].get("size", 0))

    def value(self, ns: str, channel: str, version: object, serde: SerializerProtocol) -> list[Any]:
        """Return the value of a channel in a list; an empty list: the channel has no value.

        Raises:
            Incomplete: The value may be in an earlier turn.
            CorruptRecord: The session has dropped a turn that holds a part of the value.
        """
        found = self._values.get((ns, channel, version))
        if found is None:
            if not self.whole:
                raise Incomplete
            return []
        checkpoint, entry = found
        if "value" in entry:
            return [load(entry["value"], serde)]
        return [self._list(checkpoint, entry, serde)] if "size" in entry else []

    def _list(self, checkpoint: Stored, entry: Entry, serde: SerializerProtocol) -> list[Any]:
        parts: list[list[Any]] = []
        length: int | None = None  # of the part of the list that remains in the later lists
        while True:
            if "value" in entry:
                parts.append(load(entry["value"], serde)[:length])
                break
            kept, base = entry["kept"], entry.get("base")
            if length is None or length > kept:
                parts.append(_items(checkpoint, entry, serde)[: None if length is None else length - kept])
            length = kept if length is None else min(length, kept)
            if not isinstance(base, int):
                if base is not None:
                    parts.append(load(base, serde)[:length])
                break
            earlier = self._turns.get(base)
            if earlier is None:
                if not self.whole:
                    raise Incomplete
                raise CorruptRecord(
                    f"thread {self.thread!r}: checkpoint {checkpoint.data['id']} needs turn {base}, which the session "
                    "has dropped: restore a backup, or continue from a later checkpoint",
                    turn=checkpoint.turn,
                )
            checkpoint, channel = earlier, entry["channel"]
            entry = next(entry for entry in checkpoint.data["channels"] if entry["channel"] == channel)
        return [item for part in reversed(parts) for item in part]


def dump(value: object, serde: SerializerProtocol) -> list[Any]:
    """Return a value in serialized form: the name of a format, and bytes."""
    kind, data = serde.dumps_typed(value)
    return [kind, bytes(data)]


def load(blob: Sequence[Any], serde: SerializerProtocol) -> Any:  # noqa: ANN401 - a value of the application
    """Return the value of a serialized form."""
    return serde.loads_typed((blob[0], blob[1]))


def _items(checkpoint: Stored, entry: Entry, serde: SerializerProtocol) -> list[Any]:
    if "items" in entry:
        items: list[Any] = load(entry["items"], serde)
        return items
    start, end = entry["messages"]
    return [from_message(message) for message in checkpoint.messages[start:end]]


def from_message(message: Message) -> BaseMessage:
    """Return the LangChain message for a stored one, as LangGraph's serializer does: without a check if one fails."""
    data: dict[str, Any] = message.to_dict()
    kind = _MESSAGES[data["type"]]
    try:
        return kind(**data)
    except ValueError:
        return kind.model_construct(**data)


def as_message(item: object) -> Message | None:
    """Return the message to store for a LangChain message; None: it would not be loaded exactly as it was."""
    if not isinstance(item, BaseMessage) or type(item) is not _MESSAGES.get(item.type):
        return None
    try:
        message = Message.from_dict(item.model_dump())
        return message if from_message(message) == item else None
    except ValueError:  # it holds values that are not JSON
        return None


def checkpoint_message(
    ns: str,
    parent: str | None,
    state: Checkpoint,
    metadata: CheckpointMetadata,
    entries: list[Entry],
    serde: SerializerProtocol,
    *,
    full: bool,
) -> Message:
    """Return the message that stores a checkpoint."""
    return Message.from_dict(
        {
            "role": CHECKPOINT,
            "content": f"{metadata.get('source', 'stub')}, step {metadata.get('step')}",
            "ns": ns,
            "id": state["id"],
            "parent": parent,
            "full": full,
            "state": dump({name: part for name, part in state.items() if name != "channel_values"}, serde),
            "metadata": dump(metadata, serde),
            "channels": entries,
        }
    )


def writes_message(ns: str, id: str, task: str, path: str, writes: list[list[Any]]) -> Message:
    """Return the message that stores the writes of a task: the index, the channel and the serialized value of each."""
    return Message.from_dict(
        {
            "role": WRITES,
            "content": ", ".join([str(write[1]) for write in writes]),
            "ns": ns,
            "id": id,
            "task": task,
            "path": path,
            "writes": writes,
        }
    )
