"""Drafts: the messages of new turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.base import SerializerProtocol

from turnlog import Message

from ._log import CHECKPOINT, WRITES, Entry, Incomplete, ThreadLog
from ._values import Blob, Digests, as_messages, digests_of, dump

_FULL_BYTES: Final = 4 * 1024 * 1024
"""Largest size of a checkpoint that is stored with all values, in bytes: well below the 16 MiB of a record."""

_FULL_SHARE: Final = 0.5
"""The next checkpoint with all values is due if the turns since the last one have this share of its size.

A lower share makes reads faster and sessions larger.  After 200 turns with `add_messages`, this share keeps a session
below 1/20 of the file of langgraph-checkpoint-sqlite (`benchmarks/frameworks/langgraph_saver.py`)."""

_NEW_MESSAGES: Final = 1_000
"""Largest number of new messages that are stored as messages.

A turn of turnlog may hold 100,000 values, and a message has about twelve."""


class Put(NamedTuple):
    """The arguments of `put`.

    Attributes:
        ns: The checkpoint namespace.
        parent: The id of the parent; None: the checkpoint has no parent.
        checkpoint: The checkpoint.
        metadata: Its metadata.
        new_versions: The versions of the channels that have changed since the parent.
    """

    ns: str
    parent: str | None
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    new_versions: ChannelVersions


class Draft:
    """The messages of the turn that stores a checkpoint.

    A list is stored without the items at its beginning that the parent's list also has.  From time to time, a
    checkpoint is stored with all its values.  So a reader of the last checkpoint reads at most about 1.5 times its
    size.

    Args:
        log: The known turns of the thread.
        serde: The serializer.
        put: The checkpoint.

    Attributes:
        full: Whether the checkpoint is stored with all its values.
        needs: The number of the earliest turn that the messages refer to; None: they refer to no turn.
        messages: The messages.
    """

    def __init__(self, log: ThreadLog, serde: SerializerProtocol, put: Put) -> None:
        self._log, self._serde, self._put = log, serde, put
        state = {name: part for name, part in put.checkpoint.items() if name != "channel_values"}
        self._blobs = [dump(state, serde), dump(put.metadata, serde)]
        self._new: list[Message] = []
        self.needs: int | None = None
        earlier = log.versions(put.ns, put.parent, serde)
        values = {name: put.checkpoint["channel_values"].get(name, _NONE) for name in put.new_versions}
        lists = {name: digests_of(value, serde) for name, value in values.items() if type(value) is list}
        entries = {name: {"channel": name, "version": version} for name, version in put.new_versions.items()}
        for name, value in values.items():
            if name in lists:
                entries[name]["size"] = lists[name].size
            elif value is not _NONE:
                entries[name] |= self._blob(value)
        self.full = earlier is None or self._is_due(entries)
        for name, digests in lists.items():
            entries[name] |= self._list(name, values[name], digests, (earlier or {}).get(name))
            log.digests[put.ns, name] = put.new_versions[name], digests
        if self.full:
            entries |= self._unchanged()
        self.messages = (self._header([*entries.values()]), _values(self._blobs), *self._new)

    def _is_due(self, entries: Mapping[str, Entry]) -> bool:
        """Return whether the turns since the last checkpoint with all values are larger than this one would be."""
        put, size = self._put, 0
        for name, version in put.checkpoint["channel_versions"].items():
            entry = entries[name] if name in entries else self._log.entry(put.ns, name, version)[1]
            size += entry.get("size", 0)
        return size <= _FULL_BYTES and _FULL_SHARE * size <= self._log.size_since_full(put.ns)

    def _blob(self, value: object) -> Entry:
        self._blobs.append(dump(value, self._serde))
        return {"value": len(self._blobs) - 1, "size": len(self._blobs[-1][1])}

    def _list(self, name: str, value: list[Any], digests: Digests, version: object) -> Entry:
        kept = self._kept(name, digests, version)
        entry: Entry = {"kept": kept}
        if kept and self.full:
            entry["base"] = self._blob(value[:kept])["value"]
        elif kept:
            turn, _ = self._log.entry(self._put.ns, name, version)
            entry["turn"] = turn
            self.needs = turn if self.needs is None else min(self.needs, turn)
        new = as_messages(value[kept:], self._serde) if len(value) - kept <= _NEW_MESSAGES else None
        if new is None:
            return {**entry, "items": self._blob(value[kept:])["value"]}
        self._new += new
        return {**entry, "messages": [len(self._new) - len(new), len(self._new)]}

    def _kept(self, name: str, digests: Digests, version: object) -> int:
        """Return the number of items that a list has in common with its earlier version, at the beginning of both."""
        known, earlier = self._log.digests.get((self._put.ns, name), (None, None))
        if earlier is None or known != version:  # another process stored it, or the run has branched off
            try:
                value = self._log.value(self._put.ns, name, version, self._serde)
            except Incomplete:
                return 0
            if not value or type(value[0]) is not list:
                return 0
            earlier = digests_of(value[0], self._serde)
        for position, (old, item) in enumerate(zip(earlier.items, digests.items, strict=False)):
            if old != item:
                return position
        return min(len(earlier.items), len(digests.items))

    def _unchanged(self) -> dict[str, Entry]:
        """Return the entries of the channels that have not changed since the parent."""
        put = self._put
        entries: dict[str, Entry] = {}
        for name, version in put.checkpoint["channel_versions"].items():
            if name in put.new_versions:
                continue
            if name in put.checkpoint["channel_values"]:
                stored = [put.checkpoint["channel_values"][name]]
            else:
                try:  # the snapshot of a DeltaChannel is in the log, but not in the checkpoint
                    stored = self._log.value(put.ns, name, version, self._serde)
                except Incomplete:
                    continue
            entries[name] = {"channel": name, "version": version}
            if stored:
                entries[name] |= self._blob(stored[0])
        return entries

    def _header(self, entries: list[Entry]) -> Message:
        put = self._put
        return Message.from_dict(
            {
                "role": CHECKPOINT,
                "content": f"{put.metadata.get('source', 'stub')}, step {put.metadata.get('step')}",
                "ns": put.ns,
                "id": put.checkpoint["id"],
                "parent": put.parent,
                "full": self.full,
                "channels": entries,
            }
        )


def draft_writes(
    place: tuple[str, str], writes: Sequence[tuple[str, Any]], task: str, path: str, serde: SerializerProtocol
) -> tuple[Message, ...]:
    """Return the messages of the turn that stores the writes of a task to a checkpoint."""
    channels = [channel for channel, _ in writes]
    header = {
        "role": WRITES,
        "content": ", ".join(channels),
        "ns": place[0],
        "id": place[1],
        "task": task,
        "path": path,
        "channels": channels,
    }
    return Message.from_dict(header), _values([dump(value, serde) for _, value in writes])


_NONE: Final = object()


def _values(blobs: list[Blob]) -> Message:
    size = sum([len(data) for _, data in blobs])
    return Message.from_dict({"role": "values", "content": f"{size} bytes of LangGraph", "values": blobs})
