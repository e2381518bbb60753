"""`Restoring`: stores the session of an export as it was, in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from turnlog import ABSENT, Change, Key, Metadata, Receipt, Record, Store, Times

from ._format import SessionLine
from ._naming import Differs, name_of, own_or_none
from ._result import ImportResult
from ._snapshot import batches, contents, read_back


class Restoring:
    """Stores one session of an export.  Call `add` with its rounds in order, and then `finish`.

    A session that is not there is made, with its numbers, times, owner, metadata and time to live, unless it has
    expired since the export.  One that is there is compared round by round.  Rounds that it lacks at its end are
    appended, as after an import that was interrupted.  Where it holds more, it is left alone.

    Args:
        store: The store; a view of an owner makes sessions of that owner.
        line: The number of the session's line.
        head: The session's line.
        metadata: Its metadata.
        times: When it was made, updated, and expires; None: not known.
    """

    def __init__(self, store: Store, line: int, head: SessionLine, metadata: Metadata, times: Times | None) -> None:
        self._store = store
        self._key = Key(store.namespace, head.session)
        self._line = line
        self._head = head
        self._metadata = metadata
        self._times = times
        self._expired = False
        self._receipt: Receipt | None = None
        self._written = 0
        self._compared = False

    async def begin(self) -> None:
        """Look whether the session is there.

        Raises:
            Differs: It belongs to another owner.
        """
        self._stored = await own_or_none(self._store, self._key)
        if self._stored is None and self._times is not None and self._times.expires is not None:
            self._expired = self._times.expires <= self._store.backend.clock()

    async def add(self, records: Sequence[Record]) -> None:
        """Store the next rounds, or compare them with those that are there.

        Raises:
            Differs: The session differs.
            Conflict: Another writer came between the comparison and the write.
        """
        if self._expired:
            return
        if self._stored is not None and self._receipt is None:
            records = await self._missing(records)
            if self._times is not None:
                self._times = _joined(self._times, Times.of(self._stored, self._store.backend.clock()))
        for batch in batches(records):
            await self._commit(batch)

    async def finish(self) -> ImportResult:
        """Return the result, after the last rounds.

        Raises:
            Differs: Of the turns of the export the session has kept none, so that nothing could be compared.
        """
        head, stored, receipt = self._head, self._stored, self._receipt
        if self._expired:
            return ImportResult(self._line, head.session, "expired")
        if receipt is None and stored is None:  # a session without turns
            receipt = await self._commit(())
        if receipt is None:
            assert stored is not None
            if not self._compared and (head.turns > head.first or stored.turns < head.turns):
                raise Differs(
                    f"session {self._key} already exists and holds none of the turns {head.first} to "
                    f"{head.turns - 1} of the export, so that nothing can be compared: nothing was changed"
                )
            return ImportResult(self._line, head.session, "unchanged")
        dropped = receipt.first - (head.first if stored is None else stored.first)
        outcome: Literal["stored", "extended"] = "stored" if stored is None else "extended"
        return ImportResult(self._line, head.session, outcome, self._written, dropped)

    async def _missing(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the rounds that the session lacks, once the others are found equal."""
        part = await read_back(self._store, self._key.session, records)
        self._stored = info = part.info
        held = {(record.number, record.part): record for record in part.records}
        for place, record in enumerate(records):
            if record.number < info.first:
                continue  # retention has dropped it
            found = held.get((record.number, record.part))
            if found is None and self._follows(record, part.records):
                return records[place:]
            if found is None or contents(found) != contents(record):
                raise Differs(
                    f"session {self._key} already exists and differs from the export at turn {record.number}: "
                    "nothing was changed"
                )
            self._compared = True
        return ()

    def _follows(self, record: Record, stored: Sequence[Record]) -> bool:
        """Return whether a round comes right after the end of the stored session."""
        assert self._stored is not None
        if record.turns:
            return record.number == self._stored.turns and (self._compared or not stored)
        return bool(stored) and stored[-1].number == self._stored.turns - 1 and record.follows(stored[-1])

    async def _commit(self, records: tuple[Record, ...]) -> Receipt:
        head, begins = self._head, self._stored is None and self._receipt is None
        version = self._receipt.version if self._receipt else self._stored.version if self._stored else None
        metadata: Metadata | None = self._metadata
        if not begins:  # a value that is there is newer
            held = self._stored.metadata if self._stored is not None and self._receipt is None else self._metadata
            added = {name: value for name, value in self._metadata.encoded.items() if name not in held}
            metadata = Metadata(added) if added else None
        self._receipt = await self._store.backend.commit(
            self._key,
            Change(
                # the same step from the same place has the same id: two imports at once store it once
                id=name_of(self._key.session, str(version), [(one.number, one.id, one.part) for one in records]),
                append=records,
                retain=self._store.retain if records else None,
                max_bytes=self._store.max_session_bytes,
                metadata=metadata,
                owner=(self._store.owner or head.owner) if begins else None,
                ttl=head.ttl if begins else None,
                first=head.first if begins else 0,
                expect=ABSENT if version is None else version,
                for_owner=self._store.owner,
                times=self._times,
            ),
        )
        self._written += sum([record.count for record in records])
        return self._receipt


def _joined(new: Times, stored: Times) -> Times:
    """Return the times of a stored session that is extended: none of them moves backwards, nor does its beginning."""
    expires = None if new.expires is None or stored.expires is None else max(new.expires, stored.expires)
    return Times(min(new.created, stored.created), max(new.updated, stored.updated), expires)
