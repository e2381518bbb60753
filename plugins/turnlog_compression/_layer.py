"""What the compression layers share: compress in `commit`, open in `read`, seal behind the reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from turnlog import Change, Key, Layer, Receipt, Record, Session, Store, Version
from turnlog.errors import Conflict, CorruptRecord, InvalidInput, SessionNotFound, SplitsSealed
from turnlog.payload import HEAD, PLAIN, codec_of, rewrap

from ._codec import Codec
from ._decompress import DictionaryMissing, opened
from ._dictionaries import Dictionaries
from ._recompressing import Recompressed, recompress
from ._sealing import Sealer, plain_bytes

if TYPE_CHECKING:
    from ._zstd import Dictionary

_WORTH: Final = 0.6
"""So small must a turn become to be written compressed: every window that holds it opens it; a seal takes the rest."""

_SLOW_TO_OPEN: Final = 512 * 1024  # bytes, plain: about 0.5 ms of zstd, which is what five hops to a thread cost
_TRIES: Final = 100  # so often in a row another writer may come between the read and the commit of a cut


class CompressionLayer(Layer):
    """Opens what any compression layer wrote, and compresses with the codec of the class that fills it in.

    What would hold up the event loop for about a millisecond is done in a thread.

    Args:
        inner: The store to wrap.
        codec: What writes.
        seal: Put old turns together in the background, 32 in a record, all but the last 32.

    Raises:
        InvalidInput: An argument breaks a rule, or a cache or another compression layer is below.
    """

    depth = 40

    def __init__(self, inner: Store, codec: Codec, *, seal: bool) -> None:
        if seal is not True and seal is not False:
            raise InvalidInput(f"seal must be True or False, not {seal!r}")
        super().__init__(inner)
        self._codec = codec
        self.dictionaries = Dictionaries(inner)
        self._sealer = Sealer(self) if seal and inner.can_seal else None

    async def codec(self, namespace: str) -> Codec:  # noqa: ARG002 - only a dictionary is a namespace's own
        """What writes now in a namespace."""
        return self._codec

    # ---------------------------------------------------------------------------------------------- the four methods

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        session = await self.inner.read(key, last=last, before=before, since=since, touch=touch)
        records = await self.opened(key, session.records)
        return session if records is session.records else msgspec.structs.replace(session, records=records)

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.append:
            change = change.rewrite(append=await self.written(key, change.append))
        elif change.seal is not None:
            change = change.rewrite(seal=(await self.written(key, (change.seal,)))[0])
        try:
            receipt = await self.inner.commit(key, change)
        except SplitsSealed:
            receipt = await self._commit_inside(key, change)
        if self._sealer is not None and change.append:
            self._sealer.note(key, change, receipt)
        return receipt

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        # A dictionary belongs to a namespace.  One that is forgotten between the read and the write of a copy is missed
        # by the copy: so where there are any it is written anew.
        namespace = source.namespace
        if namespace == target.namespace and await self.dictionaries.newest(namespace) is None:
            try:
                return await self.inner.copy(source, target, at=at, change_id=change_id)
            except SplitsSealed:
                pass
        return await super().copy(source, target, at=at, change_id=change_id)

    async def close(self) -> None:
        if self._sealer is not None:
            await self._sealer.close()
        await super().close()

    async def traces(self, namespace: str, owner: str) -> tuple[str, ...]:
        found = await self.dictionaries.trained_on(namespace, owner)
        return (*await super().traces(namespace, owner), *(f"dictionary {id} of {namespace!r}" for id in found))

    # ------------------------------------------------------------------------------------------------------- payloads

    async def opened(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Records with plain payloads; the same tuple, if they are plain already."""
        sizes = [plain_bytes(record) for record in records if not record.plain]
        if not sizes:
            return records
        dictionaries = self.dictionaries.at_hand(key.namespace)
        try:
            if sum(sizes) > _SLOW_TO_OPEN:
                return await asyncio.to_thread(_opened, records, dictionaries)
            return _opened(records, dictionaries)
        except DictionaryMissing:
            every = await self.dictionaries.fetch(key.namespace)
            return await asyncio.to_thread(_opened, records, every, fetched=True)

    async def written(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Records as this layer writes them; one that would not become smaller is left as it is."""
        codec = await self.codec(key.namespace)
        if sum(len(record.payload) for record in records) > codec.slow:
            return await asyncio.to_thread(_written, records, codec)
        return _written(records, codec)

    # ---------------------------------------------------------------------------------------------------- sealed runs

    async def _commit_inside(self, key: Key, change: Change) -> Receipt:
        """Cut inside a sealed record, which others may seal anew, or cut away, at any time."""
        tries = 0
        while True:
            tries += 1
            around = await self._around(key, change)
            try:
                return await self.inner.commit(key, around)
            except (Conflict, SplitsSealed) as error:
                if tries == _TRIES or (around.expect is change.expect and isinstance(error, Conflict)):
                    raise  # otherwise somebody wrote, or sealed, between the read and the commit

    async def _around(self, key: Key, change: Change) -> Change:
        """The change with a cut where a sealed record begins, that puts back what stands in it before `keep`."""
        assert change.keep is not None
        try:
            session = await self.inner.read(key, last=1, before=change.keep, touch=False)
        except SessionNotFound:
            return change
        if not session.records or session.records[-1].next_turn <= change.keep:
            return change  # it was cut away meanwhile
        (record,) = await self.opened(key, session.records[-1:])
        try:
            rest = record.until(change.keep)
        except CorruptRecord as error:
            error.key = key
            raise
        (rest,) = await self.written(key, (rest,))
        return change.rewrite(
            keep=record.number,
            append=(rest, *change.append),
            restored=change.restored + 1,
            expect=session.version if change.expect is None else None,
        )

    def recompress(self, *, idle: float | None = None, rate: float | None = None) -> AsyncIterator[Recompressed]:
        """Bring the sessions of the namespace to how this layer would write them, and seal old turns.

        It may be stopped at any time, and goes on where it stopped when it is asked for the same again.  What was
        trained before the newest dictionary is removed if nothing needs it, and this began an hour after the newest.

        Args:
            idle: Seconds: sessions that did not change for so long are sealed whole.
            rate: At most so many sessions a second.

        Yields:
            What became of each session.

        Raises:
            InvalidInput: An argument breaks a rule.
        """
        if idle is not None and not idle >= 0:
            raise InvalidInput(f"idle must be a number of seconds from 0, not {idle!r}")
        if rate is not None and not rate > 0:
            raise InvalidInput(f"rate must be a number over 0, not {rate!r}")
        return recompress(self, idle=idle, rate=rate)


def _written(records: Sequence[Record], codec: Codec) -> tuple[Record, ...]:
    return tuple([_compressed(record, codec) for record in records])


def _compressed(record: Record, codec: Codec) -> Record:
    payload = record.payload
    if codec.id == PLAIN or len(payload) < codec.floors[record.count > 2] or codec_of(payload) != PLAIN:
        return record
    body, plain = codec.compress(payload[HEAD:]), len(payload) - HEAD
    if len(body) >= plain or (record.rounds == 1 and len(body) > plain * _WORTH):
        return record
    return record.with_payload(rewrap(payload, codec.id, body))


def _opened(
    records: Sequence[Record], dictionaries: Mapping[int, Dictionary], *, fetched: bool = False
) -> tuple[Record, ...]:
    return tuple([record if record.plain else opened(record, dictionaries, fetched=fetched) for record in records])
