"""What the tests of sealing and recompressing share: a store that is watched, turns to fill it, a sealer's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from turnlog import Change, Key, Layer, Message, Receipt, Record, Session, Store, Version, assistant, user
from turnlog_compression import CompressionLayer

KEY = Key("default", "s")


class Watched(Layer):
    """Says what was asked of the store below, and holds seals back on demand.

    Args:
        inner: The store below.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.commits: list[Change] = []
        self.reads: list[Key] = []
        self.sealing = asyncio.Event()
        """Set when a seal begins."""
        self.gate: asyncio.Event | None = None
        """What seals wait for."""

    @property
    def seals(self) -> list[Record]:
        """The records that were to take the place of others."""
        return [change.seal for change in self.commits if change.seal is not None]

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        self.reads.append(key)
        return await super().read(key, last=last, before=before, since=since, touch=touch)

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.commits.append(change)
        if change.seal is not None:
            self.sealing.set()
            if self.gate is not None:
                await self.gate.wait()
        return await super().commit(key, change)


def said(number: int) -> list[Message]:
    """A turn that tells its number, and is long enough to be compressed."""
    return [user(f"turn {number}"), assistant(f"Answer {number}: " + "so it is, " * 420)]


async def fill(store: Store, session: str, count: int, *, start: int = 0) -> None:
    """Append turns."""
    for number in range(start, start + count):
        await store.append(session, said(number), turn_id=f"turn {number}")


async def settled(layer: CompressionLayer) -> None:
    """When its sealer has nothing left to do in this event loop."""
    assert layer._sealer is not None
    task = layer._sealer._tasks.get(asyncio.get_running_loop())
    if task is not None:
        await task


async def shape(store: Store, session: str = KEY.session) -> list[int]:
    """How many turns each of the stored records holds."""
    return [record.turns for record in (await store.read(Key(store.namespace, session), touch=False)).records]


def numbers(messages: Sequence[Message]) -> list[int]:
    """The turns that messages were said in."""
    return [int(message.text.split()[1]) for message in messages if message.role == "user"]
