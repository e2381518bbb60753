"""Dictionaries of a namespace, trained from its turns and stored in the same backend.

They are the turns of a session of their own, `Key("turnlog:dictionaries", namespace)`.  No application can name that
namespace, so no listing shows them.  A dictionary may hold fragments of messages, so it is stored with digests of the
owners whose sessions it was trained on.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from turnlog import Backend, Change, CorruptRecord, Key, Message, Record, Version
from turnlog.errors import SessionNotFound

if TYPE_CHECKING:
    from ._zstd import Dictionary

_HOME: Final = "turnlog:dictionaries"

LOOKED_FOR: Final = 600.0
"""Seconds after which a writer looks for a newer dictionary."""

STALE: Final = 3600.0
"""Seconds after which every writer uses the newest dictionary: several times `LOOKED_FOR`, because clocks differ."""


class _Stored(NamedTuple):
    record: Record
    message: Message

    @property
    def id(self) -> int:
        try:
            return int(self.record.id)
        except ValueError:
            raise CorruptRecord(f"a dictionary has the id {self.record.id!r}") from None

    def dictionary(self) -> Dictionary:
        import zstandard

        from ._zstd import Dictionary

        try:
            found = Dictionary(base64.b64decode(self.message.text))
        except (ValueError, zstandard.ZstdError) as error:
            raise CorruptRecord(f"dictionary {self.id} cannot be read: {error}") from None
        if found.id != self.id:
            raise CorruptRecord(f"dictionary {self.id} holds another one, {found.id}")
        return found

    @property
    def owners(self) -> list[object]:
        owners = self.message.get("owners")
        return list(owners) if isinstance(owners, list) else []


class Dictionaries:
    """The stored dictionaries of all namespaces; those that were needed stay in memory.

    Args:
        backend: The backend that stores them.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._in_memory: dict[str, dict[int, Dictionary]] = {}
        self._newest: dict[str, tuple[float, Dictionary | None]] = {}

    def in_memory(self, namespace: str) -> Mapping[int, Dictionary]:
        """Return the dictionaries that were fetched so far, by id."""
        return self._in_memory.get(namespace, {})

    async def newest(self, namespace: str) -> Dictionary | None:
        """Return the dictionary to write with; one that another process stored is used within `LOOKED_FOR` seconds."""
        now = self._backend.clock()
        seen = self._newest.get(namespace)
        if seen is None or not 0 <= now - seen[0] < LOOKED_FOR:
            found = list((await self.fetch(namespace)).values())
            seen = self._newest[namespace] = now, found[-1] if found else None
        return seen[1]

    async def fetch(self, namespace: str) -> Mapping[int, Dictionary]:
        """Read all dictionaries of a namespace and return them by id, the newest last."""
        _, stored = await self._stored(namespace)
        before = self.in_memory(namespace)
        found = {one.id: before[one.id] if one.id in before else one.dictionary() for one in stored}
        self._in_memory[namespace] = found
        return found

    async def add(self, namespace: str, dictionary: Dictionary, owners: Iterable[str]) -> None:
        """Store a dictionary, and write with it from now on.

        Args:
            namespace: The namespace.
            dictionary: The dictionary.
            owners: The owners of the sessions that it was trained on.
        """
        content = base64.b64encode(dictionary.data).decode()
        message = Message.from_dict(
            {"role": "dictionary", "content": content, "owners": sorted({_digest(owner) for owner in owners})}
        )
        record = Record.of((message,), id=str(dictionary.id), time=self._backend.clock())
        await self._backend.commit(Key(_HOME, namespace), Change(append=(record,), ttl=0))
        self._newest.pop(namespace, None)

    async def trained_on(self, namespace: str, owner: str) -> list[int]:
        """Return the ids of the dictionaries that may hold fragments of an owner's messages."""
        _, stored = await self._stored(namespace)
        return [one.id for one in stored if _digest(owner) in one.owners]

    async def settled(self, namespace: str) -> bool:
        """Return whether every writer uses the newest dictionary."""
        _, stored = await self._stored(namespace)
        return not stored or stored[-1].record.time + STALE <= self._backend.clock()

    async def remove_old(self, namespace: str) -> list[int]:
        """Remove all dictionaries but the newest.

        The caller must have checked that no record needs them, and must have begun after `settled` returned True.

        Returns:
            The ids of the removed dictionaries.
        """
        version, stored = await self._stored(namespace)
        if len(stored) < 2:
            return []
        *old, newest = stored
        record = Record.of(newest.record.messages, id=newest.record.id, time=newest.record.time)
        await self._backend.commit(Key(_HOME, namespace), Change(keep=0, append=(record,), expect=version))
        return [one.id for one in old]

    async def _stored(self, namespace: str) -> tuple[Version | None, list[_Stored]]:
        try:
            session = await self._backend.read(Key(_HOME, namespace), touch=False)
        except SessionNotFound:
            return None, []
        return session.version, [_Stored(record, record.messages[0]) for record in session.records]


def _digest(owner: str) -> str:
    return sha256(owner.encode()).hexdigest()[:16]
