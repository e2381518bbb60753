"""`CompressionLayer`: the base of the compression layers, with cuts inside sealed records and background sealing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from turnlog import PRESENT, Backend, Change, Key, Receipt
from turnlog.errors import Conflict, CorruptRecord, InvalidInput, OutcomeUnknown, SessionNotFound, SplitsSealed
from turnlog.values import SameSession

from . import _sealing
from ._codec import Codec
from ._recompressing import Recompressed, recompress
from ._records import CompressedRecords
from ._removing import remove_dictionary
from ._sealing import Sealer

_TRIES: Final = 100
"""Largest number of attempts to cut a session that other writers change between the read and the commit."""


class CompressionLayer(CompressedRecords):
    """Compresses new records, and reads the records of every compression layer.

    Args:
        inner: The backend to wrap.
        writes: The codec for new records.
        seal: Seal old turns in the background, 32 in a record, except the last 32.
        trained: As in `CompressedRecords`.

    Raises:
        InvalidInput: An argument breaks a rule, or a layer in `inner` must be outside of this one.
    """

    def __init__(
        self, inner: Backend, writes: Codec, *, seal: bool, trained: Callable[..., Codec] | None = None
    ) -> None:
        if seal is not True and seal is not False:
            raise InvalidInput(f"seal must be True or False, not {seal!r}")
        super().__init__(inner, writes, trained=trained)
        self._sealer = Sealer(self) if seal else None

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            try:
                receipt = await super().commit(key, change)
            except SplitsSealed:
                receipt = await self._cut_inside(key, change)
        except OutcomeUnknown as error:
            error.change = change  # a repeat passes through this layer again
            raise
        if self._sealer is not None and change.append and receipt.turns >= _sealing.RUN + _sealing.REST:
            self._sealer.note(key, change, receipt)
        return receipt

    async def close(self) -> None:
        if self._sealer is not None:
            await self._sealer.close()
        await super().close()

    async def traces(self, namespace: str, owner: str | None) -> tuple[str, ...]:
        found = await self.dictionaries.trained_on(namespace, owner)
        return (*await super().traces(namespace, owner), *(f"dictionary {id} of {namespace!r}" for id in found))

    async def _cut_inside(self, key: Key, change: Change) -> Receipt:
        """Cut inside a sealed record.  Other writers may replace or remove the record meanwhile; then try again."""
        tries = 0
        while True:
            tries += 1
            around = await self._around(key, change)
            try:
                return await super().commit(key, around)
            except (Conflict, SplitsSealed) as error:
                if tries == _TRIES or (around.expect is change.expect and isinstance(error, Conflict)):
                    raise  # otherwise another writer has changed the session between the read and the commit

    async def _around(self, key: Key, change: Change) -> Change:
        """Return a change that cuts before the sealed record, and appends the record's turns before `keep` again."""
        assert change.keep is not None
        try:
            session = await self.read(key, last=1, before=change.keep, touch=False)
        except SessionNotFound:
            return change
        if not session.records or session.records[-1].next_turn <= change.keep:
            return change  # another writer has removed the sealed record
        expect = change.expect
        if type(expect) is SameSession and not expect.met_by(session.version):
            return change  # the commit refuses it
        record = session.records[-1]
        try:
            rest = record.until(change.keep)
        except CorruptRecord as error:
            error.key = key
            raise
        weak = expect is None or expect is PRESENT or type(expect) is SameSession
        return change.rewrite(
            keep=record.number,
            append=(rest, *change.append),
            restored=change.restored + 1,
            expect=session.version if weak else None,
        )

    def recompress(
        self, namespace: str, *, idle: float | None = None, rate: float | None = None
    ) -> AsyncIterator[Recompressed]:
        """Rewrite the sessions of a namespace with the codec that this layer writes now, and seal old turns.

        A call may be stopped at any time; another call with the same arguments continues it.  Only one call can run in
        a namespace.  If a call was killed, the next one waits for 20 seconds and then continues it.

        Args:
            namespace: The namespace.
            idle: Seconds; also seal all turns of sessions whose turns have not changed for at least this time.
            rate: The maximum number of sessions per second.

        Yields:
            The result for each session.

        Raises:
            InvalidInput: An argument breaks a rule, or the backend does not support seals.
            Conflict: Another call is running, or has taken over because this one has written nothing for 20 seconds.
        """
        if idle is not None and not idle >= 0:
            raise InvalidInput(f"idle must be a number of seconds, at least 0, not {idle!r}")
        if rate is not None and not rate > 0:
            raise InvalidInput(f"rate must be greater than 0 sessions a second, not {rate!r}")
        return recompress(self, namespace, idle=idle, rate=rate)

    async def remove_dictionary(self, namespace: str, id: int) -> None:
        """Remove a dictionary that may contain fragments of messages (`Erased.traces`).

        First stop all processes that write to the namespace.  A process that still runs may compress turns with the
        removed dictionary, and these turns can never be read.  Dictionaries are removed only by this method.

        Args:
            namespace: The namespace.
            id: The dictionary's id.

        Raises:
            InvalidInput: The namespace has no such dictionary.
            Conflict: A record needs the dictionary, or a session was changed during the search for such a record, or a
                recompress is running.
            CorruptRecord: A session is damaged, and may need the dictionary.
        """
        await remove_dictionary(self.inner, self.dictionaries, namespace, id)
