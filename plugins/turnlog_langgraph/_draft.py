"""`make_draft`: makes the messages that store a checkpoint."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, NamedTuple

from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from turnlog import Message

from ._log import Digests, Entry, Incomplete, ThreadLog, as_message, checkpoint_message, dump

_FULL_BYTES: Final = 4 * 1024 * 1024
"""Largest size of a checkpoint that is stored with all values, in bytes: well below the 16 MiB of a record."""

_NEW_MESSAGES: Final = 1_000
"""Largest number of messages that a checkpoint stores as messages; a record may hold about 8,000 (100,000 values)."""


class Draft(NamedTuple):
    """The messages of a turn that stores a checkpoint.

    Attributes:
        messages: The messages.
        needs: The number of the earliest turn that they refer to; None: they refer to no turn.
    """

    messages: tuple[Message, ...]
    needs: int | None


def make_draft(
    log: ThreadLog,
    serde: SerializerProtocol,
    ns: str,
    parent: str | None,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
) -> Draft:
    """Return the turn that stores a checkpoint.

    A list is stored without the items at its beginning that the list of the parent also has.  A checkpoint is stored
    with all values as soon as the turns since the last such checkpoint are larger.  These checkpoints at most double
    the size of the session, and a reader of the last checkpoint reads little more than twice its size.

    Args:
        log: The turns of the thread that are known.
        serde: The serializer.
        ns: The checkpoint namespace.
        parent: The id of the parent.
        checkpoint: The checkpoint.
        metadata: Its metadata.
        new_versions: The versions of the channels that have changed since the parent.
    """
    values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
    lists = {name: _digests(values[name], serde) for name in new_versions if type(values.get(name)) is list}
    blobs = {name: dump(values[name], serde) for name in new_versions if name in values and name not in lists}
    earlier = log.versions(ns, parent, serde)
    size = sum([one.size for one in lists.values()]) + sum([len(blob[1]) for blob in blobs.values()])
    size += sum([log.size_of(ns, name, version) for name, version in versions.items() if name not in new_versions])
    full = earlier is None or size <= min(log.size_since_full(ns), _FULL_BYTES)
    entries: list[Entry] = []
    messages: list[Message] = []
    needs: list[int] = []
    for name, version in new_versions.items():
        entry: Entry = {"channel": name, "version": version}
        if name in blobs:
            entry["value"] = blobs[name]
        elif name in lists:
            value, digests = values[name], lists[name]
            before = (earlier or {}).get(name)
            kept, base = _common(log, serde, ns, name, before, digests), log.turn_of(ns, name, before)
            log.digests[ns, name] = version, digests
            if kept and full:
                entry["base"] = dump(value[:kept], serde)
            elif kept:
                entry["base"] = base
                needs.append(base)
            entry |= {"kept": kept, "size": digests.size}
            new = _as_messages(value[kept:], serde)
            if new is None:
                entry["items"] = dump(value[kept:], serde)
            else:
                entry["messages"] = [len(messages), len(messages) + len(new)]
                messages += new
        entries.append(entry)
    if full:
        entries += _carried(log, serde, ns, checkpoint, new_versions)
    head = checkpoint_message(ns, parent, checkpoint, metadata, entries, serde, full=full)
    return Draft((head, *messages), min(needs, default=None))


def _common(log: ThreadLog, serde: SerializerProtocol, ns: str, name: str, version: object, new: Digests) -> int:
    """Return the number of items that a list has in common with an earlier list, at the beginning of both."""
    known, earlier = log.digests.get((ns, name), (None, None))
    if earlier is None or known != version:  # another process stored it, or the run has branched off
        try:
            value = log.value(ns, name, version, serde)
        except Incomplete:
            return 0
        if not value or type(value[0]) is not list:
            return 0
        earlier = _digests(value[0], serde)
    for position, (old, item) in enumerate(zip(earlier.items, new.items, strict=False)):
        if old != item:
            return position
    return min(len(earlier.items), len(new.items))


def _digests(value: list[Any], serde: SerializerProtocol) -> Digests:
    blobs = [serde.dumps_typed(item) for item in value]
    items = [blake2b(data, digest_size=16, person=kind.encode()[:16]).digest() for kind, data in blobs]
    return Digests(items, sum([len(data) for _, data in blobs]))


def _as_messages(items: list[Any], serde: SerializerProtocol) -> list[Message] | None:
    """Return the messages that store the items of a list; None: store them serialized."""
    if not isinstance(serde, JsonPlusSerializer) or len(items) > _NEW_MESSAGES:  # another serializer may encrypt
        return None
    messages: list[Message] = []
    for item in items:
        message = as_message(item)
        if message is None:
            return None
        messages.append(message)
    return messages


def _carried(
    log: ThreadLog, serde: SerializerProtocol, ns: str, checkpoint: Checkpoint, new_versions: ChannelVersions
) -> list[Entry]:
    """Return the entries of the channels that have not changed since the parent."""
    entries: list[Entry] = []
    for name, version in checkpoint["channel_versions"].items():
        if name in new_versions:
            continue
        if name in checkpoint["channel_values"]:
            stored = [checkpoint["channel_values"][name]]
        else:
            try:  # the snapshot of a DeltaChannel is in the log, but not in the checkpoint
                stored = log.value(ns, name, version, serde)
            except Incomplete:
                continue
        entry: Entry = {"channel": name, "version": version}
        entries.append({**entry, "value": dump(stored[0], serde)} if stored else entry)
    return entries
