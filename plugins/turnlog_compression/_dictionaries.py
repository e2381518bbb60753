"""Dictionaries of a namespace, trained from its turns and stored in the same backend.

Each dictionary is a turn of the session `Key("turnlog:dictionaries", namespace)`.  Applications cannot name that
namespace, and listings do not show its sessions.  A dictionary may contain fragments of messages.  It is therefore
stored with digests of the owners whose sessions it was trained on.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from turnlog import Backend, Change, Key, Message, Record, Version
from turnlog.errors import CorruptRecord, SessionNotFound

if TYPE_CHECKING:
    from ._zstd import Dictionary

_HOME: Final = "turnlog:dictionaries"

LOOKED_FOR: Final = 600.0
"""Seconds between two searches of a writer for a newer dictionary."""


class Stored(NamedTuple):
    """The dictionaries of a namespace, as the backend stores them.

    Attributes:
        version: The version of the session of the dictionaries; None: the session does not exist.
        records: One record for each dictionary, oldest first.
    """

    version: Version | None = None
    records: tuple[Record, ...] = ()


class Dictionaries:
    """The stored dictionaries of all namespaces, and those that were fetched into memory.

    A dictionary that is not in memory is looked for in the backend each time it is needed.

    Args:
        backend: The backend that stores the dictionaries.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._in_memory: dict[str, dict[int, Dictionary]] = {}
        self._newest: dict[str, tuple[float, Dictionary | None]] = {}

    def in_memory(self, namespace: str) -> Mapping[int, Dictionary]:
        """Return the fetched dictionaries by id."""
        return self._in_memory.get(namespace, {})

    async def newest(self, namespace: str, *, fresh: bool = False) -> Dictionary | None:
        """Return the newest dictionary, for writing.

        A dictionary that another process stores is found within `LOOKED_FOR` seconds.

        Args:
            namespace: The namespace.
            fresh: Look in the backend now.
        """
        now = self._backend.clock()
        seen = self._newest.get(namespace)
        if fresh or seen is None or not 0 <= now - seen[0] < LOOKED_FOR:
            stored = (await self.stored(namespace)).records
            every = self._remember(namespace, stored)
            names = {str(id): one for id, one in every.items()}
            newest = next((names[record.id] for record in reversed(stored) if record.id in names), None)
            seen = self._newest[namespace] = now, newest
        return seen[1]

    async def fetch(self, namespace: str) -> Mapping[int, Dictionary]:
        """Read the stored dictionaries of a namespace, and return all dictionaries in memory by id."""
        return self._remember(namespace, (await self.stored(namespace)).records)

    async def add(self, namespace: str, dictionary: Dictionary, owners: Iterable[str]) -> None:
        """Store a dictionary, and use it for the next records.

        Args:
            namespace: The namespace.
            dictionary: The dictionary.
            owners: The owners of the sessions of its training.
        """
        content = base64.b64encode(dictionary.data).decode()
        message = Message.from_dict(
            {"role": "dictionary", "content": content, "owners": sorted({_digest(owner) for owner in owners})}
        )
        record = Record.of((message,), id=str(dictionary.id), time=self._backend.clock())
        await self._backend.commit(Key(_HOME, namespace), Change(append=(record,), ttl=0))
        self._newest.pop(namespace, None)

    async def trained_on(self, namespace: str, owner: str | None) -> list[int]:
        """Return the ids of the dictionaries that may contain fragments of an owner's messages.

        Args:
            namespace: The namespace.
            owner: The owner; None: return the ids of all dictionaries.
        """
        stored = await self.stored(namespace)
        return [_id(record) for record in stored.records if owner is None or _may_hold(record, _digest(owner))]

    async def remove(self, namespace: str, id: int, stored: Stored) -> None:
        """Remove a dictionary.  The caller must have checked that no record needs it.

        Args:
            namespace: The namespace.
            id: The dictionary's id.
            stored: The dictionaries that were read before the check.

        Raises:
            Conflict: Another dictionary was trained or removed since.
        """
        rest = tuple([record for record in stored.records if _id(record) != id])
        await self._backend.commit(Key(_HOME, namespace), Change(keep=0, append=rest, expect=stored.version))
        self._newest.pop(namespace, None)

    async def stored(self, namespace: str) -> Stored:
        """Read the dictionaries of a namespace from the backend."""
        try:
            session = await self._backend.read(Key(_HOME, namespace), touch=False)
        except SessionNotFound:
            return Stored()
        return Stored(session.version, session.records)

    def _remember(self, namespace: str, records: Iterable[Record]) -> Mapping[int, Dictionary]:
        """Add dictionaries to those in memory, without damaged ones: only records that need them cannot be read."""
        every = self._in_memory.setdefault(namespace, {})
        for record in records:
            with suppress(CorruptRecord):
                if (id := _id(record)) not in every:
                    every[id] = _dictionary(id, record)
        return every


def _id(record: Record) -> int:
    try:
        return int(record.id)
    except ValueError:
        raise CorruptRecord(f"a dictionary has the id {record.id!r}") from None


def _dictionary(id: int, record: Record) -> Dictionary:
    """Return the dictionary of a record.

    Raises:
        CorruptRecord: The record is damaged, or has another dictionary.
    """
    import zstandard

    from ._zstd import Dictionary

    try:
        found = Dictionary(base64.b64decode(record.messages[0].text))
        found.compressor(1).compress(b"")  # raises for a damaged dictionary, before a turn is written with it
    except (ValueError, zstandard.ZstdError) as error:
        raise CorruptRecord(f"dictionary {id} cannot be read: {error}") from None
    if found.id != id:
        raise CorruptRecord(f"the record of dictionary {id} has another dictionary, {found.id}")
    return found


def _may_hold(record: Record, digest: str) -> bool:
    """Return whether a dictionary may contain fragments of an owner's messages; True if it cannot be read."""
    try:
        owners = record.messages[0].get("owners")
    except CorruptRecord:
        return True
    return not isinstance(owners, list) or digest in owners


def _digest(owner: str) -> str:
    return sha256(owner.encode()).hexdigest()[:16]
