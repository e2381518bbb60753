"""Dictionaries: what the turns of a namespace have in common, trained from them and kept beside them.

They are the turns of a session of their own in the store itself, `Key("turnlog:dictionaries", namespace)`, in a
namespace that no application can name: no listing shows them.  A dictionary may hold fragments of what it was trained
on, so it is kept with digests of the owners of that.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from turnlog import Backend, Change, Key, Message, Record, Version
from turnlog.errors import SessionNotFound

if TYPE_CHECKING:
    from ._zstd import Dictionary

_HOME: Final = "turnlog:dictionaries"

LOOKED_FOR: Final = 600.0
"""Seconds after which a writer looks whether there is a newer one."""

STALE: Final = 3600.0
"""Seconds after which no writer uses any but the newest: several times `LOOKED_FOR`, as clocks differ."""


class _Kept(NamedTuple):
    record: Record
    message: Message

    @property
    def id(self) -> int:
        return int(self.record.id)

    @property
    def owners(self) -> list[object]:
        owners = self.message.get("owners")
        return list(owners) if isinstance(owners, list) else []


class Dictionaries:
    """The dictionaries of all namespaces of a store, as far as they were needed.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: Backend) -> None:
        self._store = store
        self._at_hand: dict[str, dict[int, Dictionary]] = {}
        self._newest: dict[str, tuple[float, Dictionary | None]] = {}

    def at_hand(self, namespace: str) -> Mapping[int, Dictionary]:
        """Those that were needed so far, by id."""
        return self._at_hand.get(namespace, {})

    async def newest(self, namespace: str) -> Dictionary | None:
        """The one to write with; there may be a newer one that is not `LOOKED_FOR` seconds old."""
        now = self._store.clock()
        seen = self._newest.get(namespace)
        if seen is None or not 0 <= now - seen[0] < LOOKED_FOR:
            found = list((await self.fetch(namespace)).values())
            seen = self._newest[namespace] = now, found[-1] if found else None
        return seen[1]

    async def fetch(self, namespace: str) -> Mapping[int, Dictionary]:
        """All there are, by id, the newest last."""
        from ._zstd import Dictionary

        _, kept = await self._kept(namespace)
        before = self.at_hand(namespace)
        found = {
            one.id: before[one.id] if one.id in before else Dictionary(base64.b64decode(one.message.text))
            for one in kept
        }
        self._at_hand[namespace] = found
        return found

    async def add(self, namespace: str, dictionary: Dictionary, owners: Iterable[str]) -> None:
        """Keep one, and write with it from now on."""
        content = base64.b64encode(dictionary.data).decode()
        message = Message.from_dict(
            {"role": "dictionary", "content": content, "owners": sorted({_digest(owner) for owner in owners})}
        )
        record = Record.of((message,), id=str(dictionary.id), time=self._store.clock())
        await self._store.commit(Key(_HOME, namespace), Change(append=(record,), ttl=0))
        self._newest.pop(namespace, None)

    async def trained_on(self, namespace: str, owner: str) -> list[int]:
        """Those that may hold fragments of what an owner said, by id."""
        _, kept = await self._kept(namespace)
        return [one.id for one in kept if _digest(owner) in one.owners]

    async def settled(self, namespace: str) -> bool:
        """Whether nobody writes with any but the newest any more."""
        _, kept = await self._kept(namespace)
        return not kept or kept[-1].record.time + STALE <= self._store.clock()

    async def forget(self, namespace: str) -> list[int]:
        """Remove those that no record needs: all but the newest.

        It is for whoever has just seen to it that no record needs them, and began when that was settled.

        Returns:
            Which they were.
        """
        version, kept = await self._kept(namespace)
        if len(kept) < 2:
            return []
        record = Record.of(kept[-1].record.messages, id=kept[-1].record.id, time=kept[-1].record.time)
        await self._store.commit(Key(_HOME, namespace), Change(keep=0, append=(record,), expect=version))
        return [one.id for one in kept[:-1]]

    async def _kept(self, namespace: str) -> tuple[Version | None, list[_Kept]]:
        try:
            session = await self._store.read(Key(_HOME, namespace), touch=False)
        except SessionNotFound:
            return None, []
        return session.version, [_Kept(record, record.messages[0]) for record in session.records]


def _digest(owner: str) -> str:
    return sha256(owner.encode()).hexdigest()[:16]
