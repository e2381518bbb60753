"""Naive stores: versions, repeats, copies and seals."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec.structs import replace
from naive import fails
from turnlog import ABSENT, Change, Conflict, HistoryRegressed, IdReused, Key, Receipt, Record, Session, Version
from turnlog.errors import InvalidInput, SessionNotFound, SplitsSealed
from turnlog.state import SessionState
from turnlog.testing._copying import Copying
from turnlog.testing._expecting import Expecting
from turnlog.testing._repeating import Repeating
from turnlog.testing._sealing import Sealing
from turnlog_memory import MemoryStore

# ---------------------------------------------------------------------------------------------------------- expecting


@fails(Expecting)
class LastWriteWins(MemoryStore):
    """Stores what comes: whoever writes last wins."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, expect=None))


@fails(Expecting)
class Counter(MemoryStore):
    """Counts from the beginning in each session that is made: no epoch."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        state, receipt = self._state(key).apply(change, self.clock(), nonce=bytes)
        self._put(key, self._state(key), state)
        return receipt


@fails(Expecting)
class ClockVersion(MemoryStore):
    """Takes the time of the last change for a version."""

    def _told(self, version: Version) -> Version:
        now = int(self.clock()).to_bytes(8, "big")
        return Version(b"", 0, 0, now, now)

    async def commit(self, key: Key, change: Change) -> Receipt:
        if isinstance(change.expect, Version):
            state = self._state(key)
            if state.header is None or state.header.updated > int.from_bytes(change.expect.tip, "big"):
                raise Conflict("it is newer", expected=change.expect)
            change = replace(change, expect=None)
        receipt = await super().commit(key, change)
        return replace(receipt, version=self._told(receipt.version))

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, info=replace(session.info, version=self._told(session.version)))


@fails(Expecting)
class CountsMessages(MemoryStore):
    """Takes a history of the same length for the same."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        header = self._state(key).header
        if isinstance(change.expect, Version) and header is not None:
            if change.expect.rounds != header.version.rounds:
                raise Conflict("it has grown", expected=change.expect, actual=header.version)
            change = replace(change, expect=None)
        return await super().commit(key, change)


@fails(Expecting)
class WholeVersion(MemoryStore):
    """Refuses a turn because a title was written."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        header = self._state(key).header
        if isinstance(change.expect, Version) and header is not None and change.expect != header.version:
            header.check(change.expect, turns=False)
        return await super().commit(key, change)


@fails(Expecting)
class TurnsOnly(MemoryStore):
    """Compares on turns, whatever is changed."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        header = self._state(key).header
        if isinstance(change.expect, Version) and header is not None:
            header.check(change.expect, turns=True)
            change = replace(change, expect=None)
        return await super().commit(key, change)


@fails(Expecting)
class DeletesAnyVersion(MemoryStore):
    """Deletes what is there."""

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        return await super().delete(key)


@fails(Expecting)
class NoConflictIfMissing(MemoryStore):
    """There is no session, so it says that there is no session."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if isinstance(change.expect, Version):
            await self.read(key, last=0)
        return await super().commit(key, change)


@fails(Expecting)
class RegressedIsConflict(MemoryStore):
    """Tells a writer who saw more than there is to read again."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except HistoryRegressed as error:
            raise Conflict(str(error), expected=error.seen, actual=error.actual) from None


@fails(Expecting)
class RegressedIsFine(MemoryStore):
    """Lets a writer who saw more than there is go on."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except HistoryRegressed:
            return await super().commit(key, replace(change, expect=None))

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        try:
            return await super().delete(key, expect=expect)
        except HistoryRegressed:
            return await super().delete(key)


@fails(Expecting)
class AbsentIsEmpty(MemoryStore):
    """Takes ABSENT for: overwrite."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.expect is ABSENT:
            await self.delete(key)
        return await super().commit(key, change)


@fails(Expecting)
class BareConflict(MemoryStore):
    """Says no and not why."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except Conflict:
            raise Conflict("no") from None


@fails(Expecting)
class RefusedIsRemembered(MemoryStore):
    """Remembers each id that it saw."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._refused: dict[tuple[Key, str], bytes] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self._refused.setdefault((key, change.id), change.digest) != change.digest:
            raise IdReused("it was another")
        return await super().commit(key, change)


@fails(Expecting)
class ReadersChangeIt(MemoryStore):
    """Gives each reader a version of its own."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        header = self._states[key].header
        assert header is not None
        self._states[key].header = replace(header, version=replace(header.version, stamp=header.version.stamp + b"r"))
        return session


# ---------------------------------------------------------------------------------------------------------- repeating


@fails(Repeating)
class Forgetful(MemoryStore):
    """Stores a change as often as it comes."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, id=Change(owner="").id))


@fails(Repeating)
class RemembersLast(MemoryStore):
    """Recognises the last change only."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._last: dict[Key, str] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self._last.get(key) != change.id:
            change = replace(change, id=Change(owner="").id, asked=None)
        receipt = await super().commit(key, change)
        self._last[key] = change.id
        return receipt


@fails(Repeating)
class RemembersSixty(MemoryStore):
    """Recognises 60 changes, which must do."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        state = self._state(key)
        known = state._ring.find(change.id, state._end)
        if known is not None and known.place < state._end - 60:
            change = replace(change, id=Change(owner="").id)
        return await super().commit(key, change)


@fails(Repeating)
class RemembersInTurns(MemoryStore):
    """Looks for the id among the turns that are there."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        known = {f"{record.part}:{record.id}" for record in self._state(key).records}
        known |= {record.id for record in self._state(key).records}
        if not known & {change.id, *(record.id for record in change.append)}:
            change = replace(change, id=Change(owner="").id)
        return await super().commit(key, change)


@fails(Repeating)
class AppendsOnlyOnce(MemoryStore):
    """Recognises appends; what else there is can be done twice."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.append else replace(change, id=Change(owner="").id))


@fails(Repeating)
class ComparesPayloads(MemoryStore):
    """Takes a change for the same if its bytes are."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        parts = [(r.id, r.part, r.open, hashlib.sha256(r.payload).digest()) for r in change.append]
        rest = (change.keep, dict(change.metadata or {}), change.owner, change.ttl)
        digest = hashlib.sha256(msgspec.msgpack.encode((parts, rest))).digest()
        return await super().commit(key, replace(change, asked=digest))


@fails(Repeating)
class ComparesEverything(MemoryStore):
    """Takes a change for the same if all of it is."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        asked = (change.digest, str(change.expect), change.retain, change.max_bytes, [r.time for r in change.append])
        return await super().commit(key, replace(change, asked=hashlib.sha256(msgspec.msgpack.encode(asked)).digest()))


@fails(Repeating)
class TrustsIds(MemoryStore):
    """Takes a change for the same if its id is."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, asked=b"the same"))


@fails(Repeating)
class ExpectsFirst(MemoryStore):
    """Compares `expect` before anything else."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        header = self._state(key).header
        if header is not None:
            header.check(change.expect, turns=bool(change.append) or change.keep is not None)
        return await super().commit(key, change)


@fails(Repeating)
class AnswersNow(MemoryStore):
    """Answers a repeat with where the session is."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        header = self._state(key).header
        assert header is not None
        return replace(receipt, version=header.version)


@fails(Repeating)
class AnswersThen(MemoryStore):
    """Answers a repeat with the receipt that it kept."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._receipts: dict[Version, Receipt] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        return self._receipts.setdefault(receipt.version, receipt)


@fails(Repeating)
class IdsOfAll(MemoryStore):
    """Remembers ids for all sessions together, and for ever."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._receipts: dict[str, Receipt] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.id in self._receipts:
            receipt = self._receipts[change.id]
            return replace(receipt, previous=receipt.version)
        receipt = self._receipts[change.id] = await super().commit(key, change)
        return receipt


@fails(Repeating)
class RefusedOnce(MemoryStore):
    """Answers a change that was refused as it did the first time."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._errors: dict[str, Exception] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.id in self._errors:
            raise self._errors[change.id]
        try:
            return await super().commit(key, change)
        except Exception as error:
            self._errors[change.id] = error
            raise


# ------------------------------------------------------------------------------------------------------------ copying


@fails(Copying)
class SharesTheState(MemoryStore):
    """Copies nothing: the new session is the old one until somebody writes."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        if at is not None:
            return await super().copy(source, target, at=at, change_id=change_id)
        state = self._state(source)
        if state.header is None:
            raise SessionNotFound("there is none")
        header = replace(state.header, key=target)
        self._states[target] = SessionState(
            target, header, state._log, state._start, state._stop, state._ring, state._end, self.ttl
        )
        return header.receipt(self.clock(), header.version, None, None)


@fails(Copying)
class OneSessionTwoNames(MemoryStore):
    """Points the new name to the old session."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        receipt = await super().copy(source, target, at=at, change_id=change_id)
        if at is None:
            self._states[target] = self._states[source]
        return receipt


@fails(Copying)
class CopiesMessages(MemoryStore):
    """Copies what was said, as one turn of today."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        session = await self.read(source, before=at)
        record = Record.of(tuple(session.messages), id="copy", time=self.clock())
        return await self.commit(target, Change(id=change_id, append=(record,), expect=ABSENT))


@fails(Copying)
class CopiesFromZero(MemoryStore):
    """Numbers the turns of the copy from 0."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        session = await self.read(source, before=at)
        info = session.info
        change = Change(
            id=change_id,
            append=session.records,
            metadata=info.metadata,
            owner=info.owner,
            ttl=info.ttl,
            expect=ABSENT,
            asked=f"{source}{at}".encode(),
        )
        return await self.commit(target, change)


@fails(Copying)
class CopiesOver(MemoryStore):
    """Puts the copy in place of what is there."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        await self.read(source, last=0)
        await self.delete(target)
        return await super().copy(source, target, at=at, change_id=change_id)


@fails(Copying)
class CopiesWhatItFound(MemoryStore):
    """Takes a copy for the same if it finds the same."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        session = await self.read(source, before=at)
        info = session.info
        change = Change(
            id=change_id,
            append=session.records,
            metadata=info.metadata,
            owner=info.owner,
            ttl=info.ttl,
            expect=ABSENT,
            first=info.first if at is None else min(at, info.first),
        )
        return await self.commit(target, change)


@fails(Copying)
class CopiesWithin(MemoryStore):
    """Copies within the store's namespace."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        return await super().copy(source, Key(self.namespace, target.session), at=at, change_id=change_id)


@fails(Copying)
class CopiesDecoded(MemoryStore):
    """Reads what it copies."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        for record in (await self.read(source)).records:
            assert record.messages
        return await super().copy(source, target, at=at, change_id=change_id)


@fails(Copying)
class MakesASource(MemoryStore):
    """Copies a session that is not there as an empty one."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        try:
            return await super().copy(source, target, at=at, change_id=change_id)
        except SessionNotFound:
            return await self.commit(target, Change(id=change_id, metadata={}, expect=ABSENT))


# ------------------------------------------------------------------------------------------------------------ sealing


@fails(Sealing)
class SaysItSeals(MemoryStore):
    """Says that it can seal, and does not."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.seal is None:
            return await super().commit(key, change)
        session = await self.read(key, last=0, touch=False)
        info = session.info
        return Receipt(info.version, None, info.first, info.turns, info.messages, info.version, info.expires_in)


@fails(Sealing)
class RefusesLoudly(MemoryStore):
    """Cannot seal, and raises if it is asked to."""

    can_seal = False

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.seal is not None:
            raise InvalidInput("this store cannot seal")
        return await super().commit(key, change)


@fails(Sealing)
class SealsUnasked(MemoryStore):
    """Seals, and says that it cannot."""

    can_seal = False


@fails(Sealing)
class SealsByRewriting(MemoryStore):
    """Seals by a cut and an append."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.seal is None:
            return await super().commit(key, change)
        records = (await self.read(key)).records
        rest = tuple(record for record in records if record.number >= change.seal.after)
        rewritten = Change(keep=change.seal.number, append=(change.seal, *rest), asked=b"seal")
        return await super().commit(key, rewritten)


@fails(Sealing)
class SealsUnchecked(MemoryStore):
    """Puts the sealed record in place of those of the same numbers."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        seal = change.seal
        if seal is None:
            return await super().commit(key, change)
        state = self._state(key)
        run = [r for r in state.records if seal.number <= r.number < seal.after]
        if state.header is not None and run:
            seal = replace(seal, tip=run[-1].tip, end=run[-1].end, rounds=sum(r.rounds for r in run), upto=run[-1].upto)
            log = [
                *(r for r in state.records if r.number < seal.number),
                seal,
                *(r for r in state.records if r.number >= seal.after),
            ]
            self._states[key] = SessionState(key, state.header, log, 0, len(log), state._ring, state._end, self.ttl)
            return state.header.receipt(self.clock(), state.header.version, None, state.header.version)
        return await super().commit(key, change)


@fails(Sealing)
class RemembersSeals(MemoryStore):
    """Remembers a seal as any other change."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        known = self._seals.setdefault(key, set())
        if change.seal is not None:
            known.add(change.id)
        elif change.id in known:
            raise IdReused("it was a seal")
        return await super().commit(key, change)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._seals: dict[Key, set[str]] = {}


@fails(Sealing)
class SealsForgetful(MemoryStore):
    """Forgets what it remembered of the turns that are sealed."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        if change.seal is not None:
            self._states[key]._end += 64
        return receipt


@fails(Sealing)
class SealsAreUses(MemoryStore):
    """Extends a session's life when it is sealed."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.seal is not None:
            await self.read(key, last=0)
        return await super().commit(key, change)


@fails(Sealing)
class CutsAtTheBoundary(MemoryStore):
    """Cuts a sealed record off whole, where the cut falls inside."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except SplitsSealed as error:
            return await super().commit(key, change.rewrite(keep=error.boundary))


@fails(Sealing)
class RetainsExactly(MemoryStore):
    """Drops a sealed record whole, where retention falls inside."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.retain is not None:
            header = self._state(key).header
            for record in self._state(key).records:
                if header is not None and record.number < header.turns - change.retain < record.after:
                    change = replace(change, retain=header.turns - record.after)
        return await super().commit(key, change)


@fails(Sealing)
class MakesASealedSession(MemoryStore):
    """Makes a session for a seal."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except SessionNotFound:
            return await super().commit(key, Change(metadata={}))


@fails(Sealing)
class SinceInsideTheRun(MemoryStore):
    """Sends what follows a sealed run to a reader who is inside it."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, since=since, **asked)
        if since is None or session.continues or since.epoch != session.version.epoch:
            return session
        return replace(session, records=tuple(r for r in session.records if r.end > since.rounds), continues=True)
