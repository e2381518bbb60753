"""`SessionCopier`: copies one session, and can be killed at any moment and continued.

Before each change, the state stores the id and the digest of the change; after it, the version that the target has
returned.  After a kill, the outcome of at most one change is therefore unknown.  The target reveals this outcome,
because a session remembers the ids of its last changes.  A session of the target is changed or removed only at a
version that this copy has written.  All data is decoded first, so that damage in the source does not change the target.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from turnlog import ABSENT, Change, Key, Metadata, Receipt, Record, SessionInfo, SessionNotFound, Store, Times, Version
from turnlog.errors import Conflict, HistoryRegressed, OutcomeUnknown, TurnlogError
from turnlog.values import JSON

from ._copy_state import CopyState, Entry
from ._snapshot import batches, check_rounds, checked_snapshot, contents, read_back, snapshot

_ROUNDS: Final = 1_000
"""Largest number of new rounds that are appended.  A session with more new rounds is copied again from its beginning,
in parts, because rounds after a version can only be read all at once."""

_CLOCKS: Final = 60.0
"""Largest difference between the clocks of two servers in seconds: expiries that differ by less count as equal."""

_NO_SESSION: Final = Version(bytes(16), 0, 0, bytes(16), bytes(16)).session
"""A condition that no session meets, because an epoch is 16 random bytes.  A change with it stores nothing."""

_encode = msgspec.msgpack.Encoder().encode


class Done(NamedTuple):
    """The result of copying a session.

    Attributes:
        changed: Whether the target was changed.
        messages: The number of written messages.
        bytes: The approximate size of the written messages in bytes.
    """

    changed: bool
    messages: int = 0
    bytes: int = 0


class SessionCopier:
    """Copies sessions of one namespace into another store's namespace.

    Args:
        name: The name of the namespace in the state.
        source: The store to copy.
        target: The store to write to.
        state: The versions of earlier copies.

    Attributes:
        source: The store to copy.
    """

    def __init__(self, name: str, source: Store, target: Store, state: CopyState) -> None:
        self._name = name
        self.source = source
        self._target = target
        self._state = state

    async def is_copied(self, info: SessionInfo) -> bool:
        """Return whether the present version of the session was copied, and its copy exists.

        Args:
            info: The session in the source.

        Raises:
            Conflict: Another writer has changed the copy.
        """
        entry = self._state.get(self._name, info.key.session)
        if entry is None or (entry.source, entry.first) != (str(info.version), info.first):
            return False
        held = await self._held(info.key.session)
        if held is not None and str(held.version) != entry.target:
            raise _foreign(held.key)
        if held is not None and not _same_times(info, held):
            info = await self.source.info(info.key.session)  # `info` may be old: it was read with a page
        return held is not None and _same_times(info, held)

    async def copy(self, info: SessionInfo) -> Done:
        """Make the target's session equal to the source's.

        Args:
            info: The session in the source.

        Raises:
            Changed: The session was cut or replaced while it was read.
            SessionNotFound: The source does not have the session.
            CorruptRecord: The session is damaged; the target's session stays unchanged.
            Conflict: Another writer has created or changed the target's session.
        """
        id = info.key.session
        entry = self._state.get(self._name, id)
        if entry is None:
            held = await self._held(id)
            if held is None:
                return await self._write_new(id, None)
            entry = await self._accept(id, held)
        if entry.source is not None:
            done = await self._extend(info, entry)
            if done is not None:
                return done
        return await self._write_new(id, entry)

    async def remove(self, session_id: str) -> None:
        """Remove the copy of a session that the source no longer has.

        Raises:
            Conflict: Another writer has changed the target's session.
        """
        entry = self._state.get(self._name, session_id)
        if entry is not None:
            await self._clear(session_id, entry)
            self._state.forget(self._name, session_id)

    # -------------------------------------------------------------------------------------------------------- writing

    async def _write_new(self, id: str, entry: Entry | None) -> Done:
        """Create the target's session; first remove the copy of `entry`, if there is one."""
        now = self.source.backend.clock()
        info, parts = await checked_snapshot(self.source, id)
        if entry is not None:
            await self._clear(id, entry)
        return await self._write(info, parts, Times.of(info, now))

    async def _write(self, info: SessionInfo, parts: AsyncIterator[tuple[Record, ...]], times: Times) -> Done:
        """Create the target's session, which must not exist."""
        id = info.key.session
        entry, version = Entry(None, info.first, None), None
        begins = Change(
            metadata=info.metadata, owner=info.owner, ttl=info.ttl, times=times, first=info.first, expect=ABSENT
        )
        async for records in parts:
            for batch in batches(records):
                change = (
                    msgspec.structs.replace(begins, append=batch)
                    if version is None
                    else Change(append=batch, times=times, expect=version.exact)
                )
                entry, version = await self._commit(id, entry, change)
                await self._verify(id, batch)
        if version is None:
            entry, version = await self._commit(id, entry, begins)
        await self._finish(info, version)
        return Done(changed=True, messages=info.messages, bytes=info.bytes)

    async def _extend(self, info: SessionInfo, entry: Entry) -> Done | None:
        """Append the new rounds of the source; return None if the target's session must be recreated.

        Raises:
            Conflict: Another writer has changed the target's session.
        """
        assert entry.source is not None
        then = Version.parse(entry.source)
        held = await self._held(info.key.session)
        if held is None or info.version.rounds - then.rounds > _ROUNDS:
            return None
        if str(held.version) != entry.target:
            raise _foreign(held.key)
        now = self.source.backend.clock()
        try:
            part = await self.source.backend.read(info.key, since=then, touch=False)
        except HistoryRegressed:  # the source was restored from a backup
            return None
        if not part.continues:
            return None
        info, records = part.info, [one for record in part.records for one in record.split()]
        check_rounds(records)
        version, messages, size = held.version, 0, 0
        changes = _differences(info, held, list(batches(records)), Times.of(info, now))
        for change in changes:
            # until `_finish`, the target's session equals neither the old nor the new version of the source
            entry, version = await self._commit(
                info.key.session,
                entry._replace(source=None),
                msgspec.structs.replace(change, expect=version.exact),
            )
            if change.append:
                await self._verify(info.key.session, change.append)
            messages += sum([record.count for record in change.append])
            size += sum([record.size for record in change.append])
        await self._finish(info, version)
        return Done(changed=bool(changes), messages=messages, bytes=size)

    async def _commit(self, id: str, entry: Entry, change: Change) -> tuple[Entry, Version]:
        """Commit a change to the target, and return the new entry and the target's version."""
        self._state.set(self._name, id, entry._replace(change=change.id, digest=change.digest))
        try:
            receipt: Receipt = await self._target.backend.commit(self._there(id), change)
        except OutcomeUnknown as error:
            receipt = await self._target.resend(error)
        entry = entry._replace(target=str(receipt.version), change=None, digest=None)
        self._state.set(self._name, id, entry)
        return entry, receipt.version

    async def _clear(self, id: str, entry: Entry) -> None:
        """Remove the target's session if only this copy has written to it.

        Raises:
            Conflict: Another writer has changed it.
        """
        held = await self._held(id)
        if held is None:
            return
        made = [entry.target]
        if entry.change is not None:
            probe = Change(id=entry.change, metadata={}, asked=entry.digest, expect=_NO_SESSION)
            try:  # for a stored change, the target returns its receipt before it checks the condition
                receipt = await self._target.backend.commit(held.key, probe)
            except Conflict:
                pass
            else:
                made.append(str(receipt.version))
        if str(held.version) not in made:
            raise _foreign(held.key)
        await self._target.backend.delete(held.key, expect=held.version.exact)

    # ------------------------------------------------------------------------------------------------------ comparing

    async def _accept(self, id: str, held: SessionInfo) -> Entry:
        """Accept an existing session of the target if it equals the source's, except for its times.

        Raises:
            Conflict: The sessions differ.
        """
        infos, digests = [], []
        for store in (self.source, self._target):
            info, parts = await snapshot(store, id)
            digest = sha256()
            async for records in parts:
                for record in records:
                    *head, _ = contents(record)
                    digest.update(_encode((head, [message.canonical() for message in record.messages])))
            infos.append(info)
            digests.append(digest.digest())
        here, there = infos
        if _described(here) != _described(there) or digests[0] != digests[1]:
            raise _foreign(held.key)
        entry = Entry(str(here.version), here.first, str(there.version))
        self._state.set(self._name, id, entry)
        return entry

    async def _verify(self, id: str, records: Sequence[Record]) -> None:
        """Read rounds back, and compare them with the written ones."""
        part = await read_back(self._target, id, records)
        held = {(record.number, record.part): contents(record) for record in part.records}
        for record in records:
            if held.get((record.number, record.part)) != contents(record):
                raise _not_equal(part.info.key, f"turn {record.number}")

    async def _finish(self, info: SessionInfo, version: Version) -> None:
        """Compare the info with the source's, and store in the state that the session is copied."""
        held = await self._held(info.key.session)
        if held is None or held.version != version:
            raise _foreign(self._there(info.key.session))
        if _described(held) != _described(info) or (held.created, held.updated) != (info.created, info.updated):
            raise _not_equal(held.key, "its info")
        self._state.set(self._name, info.key.session, Entry(str(info.version), info.first, str(version)))

    async def _held(self, session_id: str) -> SessionInfo | None:
        try:
            return await self._target.info(session_id)
        except SessionNotFound:
            return None

    def _there(self, session_id: str) -> Key:
        return Key(self._target.namespace, session_id)


def _differences(info: SessionInfo, held: SessionInfo, groups: list[tuple[Record, ...]], times: Times) -> list[Change]:
    """Return the changes that make the target's session equal, without their conditions.

    Args:
        info: The session in the source.
        held: The session in the target.
        groups: The missing rounds.
        times: The times of the session in the source.
    """
    # compared as bytes, because 1, 1.0 and True are equal in Python
    old, new = Metadata.of(held.metadata).canonical(), Metadata.of(info.metadata).canonical()
    patch: dict[str, JSON] = {name: info.metadata[name] for name, value in new.items() if old.get(name) != value}
    patch |= dict.fromkeys([name for name in old if name not in new])
    owner = info.owner if info.owner != held.owner else None
    ttl = info.ttl if info.ttl != held.ttl else None
    retain = info.turns - info.first if info.first > held.first else None
    changes = [Change(append=group, times=times) for group in groups]
    if patch or owner is not None or ttl is not None:
        changes.insert(0, Change(metadata=patch or None, owner=owner, ttl=ttl, times=times))
    if retain is not None:
        changes.append(Change(retain=retain, times=times))
    return changes if changes or _same_times(info, held) else [Change(times=times)]


def _same_times(info: SessionInfo, held: SessionInfo) -> bool:
    """Return whether two infos, which were just read, have the same times."""
    if (held.created, held.updated) != (info.created, info.updated):
        return False
    if info.expires_in is None:
        return True
    return held.expires_in is not None and abs(held.expires_in - info.expires_in) < _CLOCKS


def _described(info: SessionInfo) -> tuple[object, ...]:
    metadata = Metadata.of(info.metadata).canonical()
    return info.first, info.turns, info.messages, info.owner, info.ttl, metadata


def _foreign(key: Key) -> Conflict:
    return Conflict(
        f"session {key} of the target was changed by another writer: it stays unchanged; to copy it, erase it in the "
        "target"
    )


def _not_equal(key: Key, what: str) -> TurnlogError:
    return TurnlogError(f"session {key} of the target does not read back as it was written: {what} differs")
