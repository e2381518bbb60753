"""`SessionCopier`: copies one session, so that it can be killed at any moment and go on.

Before each change the state stores its id and digest, and after it the version that the target has answered.  So after
a kill at most one change is in doubt.  The target itself tells whether it was stored: it remembers the ids of the last
changes of a session.  A session of the target is written to, or removed, only at a version that this copy has made.
Before that, all that is to be copied is decoded: damage in the source changes nothing in the target.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from turnlog import ABSENT, Change, Key, Metadata, Receipt, Record, SessionInfo, SessionNotFound, Store, Times, Version
from turnlog.errors import Conflict, HistoryRegressed, OutcomeUnknown, TurnlogError
from turnlog.values import Value

from ._copy_state import CopyState, Entry
from ._snapshot import batches, check_rounds, checked_snapshot, contents, read_back, snapshot

_ROUNDS: Final = 1_000
"""A session that has grown by more rounds is copied anew, in parts: rounds that follow a version are read at once."""

_CLOCKS: Final = 60.0
"""Seconds by which the clocks of two servers may differ: expiries that differ by less count as equal."""

_NO_SESSION: Final = Version(bytes(16), 0, 0, bytes(16), bytes(16)).session
"""A condition that no session meets, so that a change under it stores nothing: an epoch is 16 random bytes."""

_encode = msgspec.msgpack.Encoder().encode


class Done(NamedTuple):
    """The result of copying a session.

    Attributes:
        changed: Whether the target was changed.
        messages: How many messages were written.
        bytes: About how many bytes they take.
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
        state: The versions that were copied before.

    Attributes:
        source: The store to copy.
    """

    def __init__(self, name: str, source: Store, target: Store, state: CopyState) -> None:
        self._name = name
        self.source = source
        self._target = target
        self._state = state

    async def is_copied(self, info: SessionInfo) -> bool:
        """Return whether the session was copied as it is now, and its copy is there.

        Args:
            info: The session in the source.

        Raises:
            Conflict: Others wrote to the copy.
        """
        entry = self._state.get(self._name, info.key.session)
        if entry is None or (entry.source, entry.first) != (str(info.version), info.first):
            return False
        held = await self._held(info.key.session)
        if held is not None and str(held.version) != entry.target:
            raise _foreign(held.key)
        if held is not None and not _same_times(info, held):
            info = await self.source.info(info.key.session)  # it may have been read long ago, with a page of others
        return held is not None and _same_times(info, held)

    async def copy(self, info: SessionInfo) -> Done:
        """Make the target's session equal to the source's.

        Args:
            info: The session in the source.

        Raises:
            Changed: The session was cut or replaced while it was read.
            SessionNotFound: The source has no such session.
            CorruptRecord: The session is damaged; the target's stays as it is.
            Conflict: Others wrote to the target's session, or made it.
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
            Conflict: Others wrote to the target's session.
        """
        entry = self._state.get(self._name, session_id)
        if entry is not None:
            await self._clear(session_id, entry)
            self._state.forget(self._name, session_id)

    # -------------------------------------------------------------------------------------------------------- writing

    async def _write_new(self, id: str, entry: Entry | None) -> Done:
        """Make the target's session, in place of the one that an entry is about."""
        now = self.source.backend.clock()
        info, parts = await checked_snapshot(self.source, id)
        if entry is not None:
            await self._clear(id, entry)
        return await self._write(info, parts, Times.of(info, now))

    async def _write(self, info: SessionInfo, parts: AsyncIterator[tuple[Record, ...]], times: Times) -> Done:
        """Make the target's session, which does not exist."""
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
        """Append the new rounds of the source; return None if the target's session has to be made anew.

        Raises:
            Conflict: Others wrote to the target's session.
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
            # from here on the session is neither as it was nor as it will be
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
        """Remove the target's session, if only this copy wrote to it.

        Raises:
            Conflict: Others wrote to it.
        """
        held = await self._held(id)
        if held is None:
            return
        made = [entry.target]
        if entry.change is not None:
            probe = Change(id=entry.change, metadata={}, asked=entry.digest, expect=_NO_SESSION)
            try:  # a change that was stored is answered before its condition is looked at
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
        """Accept a session that is in the target already, if it equals the source's but for its times.

        Raises:
            Conflict: It does not.
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
        """Read rounds back, and compare them with those that were written."""
        part = await read_back(self._target, id, records)
        held = {(record.number, record.part): contents(record) for record in part.records}
        for record in records:
            if held.get((record.number, record.part)) != contents(record):
                raise _not_equal(part.info.key, f"turn {record.number}")

    async def _finish(self, info: SessionInfo, version: Version) -> None:
        """Compare the info with the source's, and note that the session is copied."""
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
        groups: The rounds that it lacks.
        times: The times of the session in the source.
    """
    # as bytes: Python holds 1, 1.0 and True for equal
    old, new = Metadata.of(held.metadata).canonical(), Metadata.of(info.metadata).canonical()
    patch: dict[str, Value] = {name: info.metadata[name] for name, value in new.items() if old.get(name) != value}
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
    """Return whether the target's session has the times of the source's, both just read."""
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
        f"session {key} of the target is not as this copy left it: others wrote to it; nothing was changed: erase it "
        "there to have it copied"
    )


def _not_equal(key: Key, what: str) -> TurnlogError:
    return TurnlogError(f"session {key} of the target does not read back as it was written: {what} differs")
