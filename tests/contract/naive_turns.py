"""Naive stores: what a commit stores and a read answers."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace
from naive import fails
from turnlog import Change, Key, Message, Receipt, Record, Session, SessionNotFound, Version
from turnlog.testing._following import Following
from turnlog.testing._reading import Reading
from turnlog.testing._retaining import Retaining
from turnlog.testing._rounds import Rounds
from turnlog.testing._undoing import Undoing
from turnlog.testing._writing import Writing
from turnlog_memory import MemoryStore

# ------------------------------------------------------------------------------------------------------------ writing


@fails(Writing)
class PartByPart(MemoryStore):
    """Does the parts of a change one after the other: when the last is refused, the first ones are stored."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        parts: list[dict[str, Any]] = [{"keep": change.keep}, {"append": change.append, "retain": change.retain}]
        parts.append({"metadata": change.metadata, "owner": change.owner, "ttl": change.ttl})
        asked = [part for part in parts if any(value not in (None, ()) for value in part.values())]
        if len(asked) < 2:
            return await super().commit(key, change)
        for number, part in enumerate(asked):
            receipt = await super().commit(key, Change(id=f"{number}{change.id}"[:255], **part))
        return receipt


@fails(Writing)
class RoleAndContent(MemoryStore):
    """Keeps of a message what chat models have in common."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        kept = tuple(
            Record.of(
                tuple(Message.from_dict({"role": m.role or "user", "content": m.content}) for m in record.messages),
                id=record.id,
                time=record.time,
                part=record.part,
                open=record.open,
            )
            if record.decoded
            else record
            for record in change.append
        )
        return await super().commit(key, change.rewrite(append=kept))


@fails(Writing)
class AsJSON(MemoryStore):
    """Keeps JSON with numbers as JavaScript reads them."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        kept = tuple(
            Record.of(
                tuple(Message.from_dict(json.loads(json.dumps(m.to_dict()), parse_int=float)) for m in record.messages),
                id=record.id,
                time=record.time,
                part=record.part,
                open=record.open,
            )
            if record.decoded
            else record
            for record in change.append
        )
        return await super().commit(key, change.rewrite(append=kept))


@fails(Writing)
class WhenItWasStored(MemoryStore):
    """Gives turns ids and times of its own."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        kept = tuple(replace(record, id=f"of {record.id}", time=0.0) for record in change.append)
        return await super().commit(key, change.rewrite(append=kept))


@fails(Writing)
class OneTurnAChange(MemoryStore):
    """Takes all that a change appends for one turn."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if len(change.append) < 2 or not all(record.decoded for record in change.append):
            return await super().commit(key, change)
        messages = tuple(message for record in change.append for message in record.messages)
        whole = Record.of(messages, id=change.append[0].id, time=change.append[0].time)
        return await super().commit(key, change.rewrite(append=(whole,)))


@fails(Writing)
class KeepMakesIt(MemoryStore):
    """Makes a session for whatever change comes."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except SessionNotFound:
            await super().commit(key, Change(metadata={}))
            return await super().commit(key, change)


@fails(Writing)
class NeedsTurns(MemoryStore):
    """Makes a session for turns only."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if not change.append:
            await self.read(key, last=0)
        return await super().commit(key, change)


@fails(Writing)
class KeepIsACount(MemoryStore):
    """Takes `keep` for the number of the last turn that stays."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.keep is None else change.rewrite(keep=change.keep + 1))


@fails(Writing)
class CutsAlways(MemoryStore):
    """Begins a new generation at each `keep`, also where it cuts nothing."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        if change.keep is None:
            return receipt
        state = self._states[key]
        assert state.header is not None
        version = replace(receipt.version, generation=receipt.version.generation + 1)
        state.header = replace(state.header, version=version)
        return replace(receipt, version=version)


@fails(Writing)
class Decodes(MemoryStore):
    """Looks into what it stores."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        for record in change.append:
            assert record.messages
        return await super().commit(key, change)


@fails(Writing)
class BareReceipt(MemoryStore):
    """Answers with the version, and takes the rest of the receipt for decoration."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        return replace(receipt, number=0, first=0, turns=0, messages=0, previous=None)


@fails(Writing)
class NewestFirst(MemoryStore):
    """Hands out the newest records first."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, records=session.records[::-1])


# ------------------------------------------------------------------------------------------------------------ reading


@fails(Reading)
class CutsTurns(MemoryStore):
    """Takes `last` for a number of records."""

    async def read(self, key: Key, *, last: int | None = None, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        if last is None or asked.get("since") is not None:
            return session
        return replace(session, records=session.records[len(session.records) - last :] if last else ())


@fails(Reading)
class OneTurnMore(MemoryStore):
    """Asks for one message more than it needs, to be sure."""

    async def read(self, key: Key, *, last: int | None = None, **asked: Any) -> Session:
        return await super().read(key, last=last if last is None else last + 1, **asked)


@fails(Reading)
class BeforeIncluded(MemoryStore):
    """Takes `before` for the last turn to show."""

    async def read(self, key: Key, *, before: int | None = None, **asked: Any) -> Session:
        return await super().read(key, before=before if before is None else before + 1, **asked)


@fails(Reading)
class LastFirst(MemoryStore):
    """Chooses the last messages, and of these the turns before."""

    async def read(self, key: Key, *, before: int | None = None, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, records=tuple(r for r in session.records if before is None or r.number < before))


@fails(Reading)
class InfoOfThePart(MemoryStore):
    """Counts what it sends."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        info = replace(session.info, messages=sum(record.count for record in session.records))
        return replace(session, info=info)


@fails(Reading)
class EmptyIfMissing(MemoryStore):
    """Makes a session for whoever asks for one."""

    async def read(self, key: Key, **asked: Any) -> Session:
        try:
            return await super().read(key, **asked)
        except SessionNotFound:
            await self.commit(key, Change(metadata={}))
            return await super().read(key, **asked)


@fails(Reading)
class TrueIfDeleted(MemoryStore):
    """A session that is not there afterwards was deleted."""

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        await super().delete(key, expect=expect)
        return True


@fails(Reading)
class OnlyTurnsDeleted(MemoryStore):
    """Deletes the history, and keeps the metadata for the next time."""

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        if not self._state(key).check(expect, self.clock()):
            return False
        await self.commit(key, Change(keep=0))
        return True


@fails(Reading)
class ReadingIsAChange(MemoryStore):
    """Notes that a session was read as its last update."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        state = self._states[key]
        assert state.header is not None
        state.header = replace(state.header, updated=self.clock() + 1)
        return session


@fails(Reading)
class UpdatedByAppend(MemoryStore):
    """Takes appends for the only updates."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = self._states.get(key)
        receipt = await super().commit(key, change)
        if before is not None and before.header is not None and not change.append:
            state = self._states[key]
            assert state.header is not None
            state.header = replace(state.header, updated=before.header.updated)
        return receipt


@fails(Reading)
class AsksAnything(MemoryStore):
    """Leaves odd numbers to Python."""

    async def read(self, key: Key, *, last: Any = None, before: Any = None, **asked: Any) -> Session:
        last = last if last is None else max(0, int(last if last == last else 0))  # noqa: PLR0124 - NaN
        before = before if before is None else max(0, int(before if before == before else 0))  # noqa: PLR0124
        if before is not None:
            asked["since"] = None
        return await super().read(key, last=last, before=before, **asked)


# ---------------------------------------------------------------------------------------------------------- following


@fails(Following)
class AllOfItAlways(MemoryStore):
    """Sends everything, which is never wrong."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        return await super().read(key, **asked)


@fails(Following)
class SinceAsACount(MemoryStore):
    """Sends what comes after so many rounds, whatever they were."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        if since is None:
            return await super().read(key, **asked)
        session = await super().read(key, touch=asked.get("touch", True))
        return replace(session, records=tuple(r for r in session.records if r.end > since.rounds), continues=True)


@fails(Following)
class BehindIsUnchanged(MemoryStore):
    """Has nothing to send to a reader who is ahead."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        version = session.version
        if since is not None and since.epoch == version.epoch and since.rounds >= version.rounds:
            return replace(session, records=(), continues=True)
        return await super().read(key, since=since, **asked)


@fails(Following)
class TipUnchecked(MemoryStore):
    """Trusts that a reader's rounds are its own."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        version = session.version
        if since is not None and since.epoch == version.epoch and since.generation == version.generation:
            tips = {record.end: record.tip for record in session.records}
            since = replace(since, tip=tips.get(since.rounds, since.tip))
        return await super().read(key, since=since, **asked)


@fails(Following)
class LastBeforeSince(MemoryStore):
    """Cuts what follows to the window that was asked for."""

    async def read(self, key: Key, *, last: int | None = None, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, last=last, since=since, **asked)
        if last is None or not session.continues:
            return session
        return replace(session, records=session.records[len(session.records) - last :] if last else ())


@fails(Following)
class WholeTurnsOnly(MemoryStore):
    """Sends what follows from the beginning of its turn."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, since=since, **asked)
        if session.continues and session.records and not session.records[0].turns:
            everything = (await super().read(key)).records
            return replace(session, records=tuple(r for r in everything if r.number >= session.records[0].number))
        return session


# ------------------------------------------------------------------------------------------------------------- rounds


@fails(Rounds)
class RoundsAreTurns(MemoryStore):
    """Takes each round for a turn."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(
            key, change.rewrite(append=tuple(replace(r, turns=1) for r in change.append)) if change.append else change
        )


@fails(Rounds)
class AnyRound(MemoryStore):
    """Takes a round as it comes, as the beginning of a turn if it follows none."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.append and change.append[0].part:
            state = self._states.get(key)
            tail = state.header.tail if state is not None and state.header is not None else None
            if tail != (change.append[0].id, change.append[0].part - 1, True):
                first = replace(change.append[0], turns=1)
                change = change.rewrite(append=(first, *change.append[1:]))
        return await super().commit(key, change)


@fails(Rounds)
class NeverOpen(MemoryStore):
    """Keeps no note of whether a turn is open."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, records=tuple(replace(record, open=False) for record in session.records))


@fails(Rounds)
class RetainsRounds(MemoryStore):
    """Counts records where turns are meant."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        if change.retain is None:
            return receipt
        state = self._states[key]
        state._start = max(state._start, state._stop - change.retain)
        return receipt


# ------------------------------------------------------------------------------------------------------------ undoing


@fails(Undoing)
class CutsMessages(MemoryStore):
    """Takes `keep` for a number of messages."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.keep is not None:
            records = (await self.read(key)).records
            change = change.rewrite(keep=sum(record.upto <= change.keep for record in records))
        return await super().commit(key, change)


@fails(Undoing)
class AppendsOnly(MemoryStore):
    """Cuts nothing: a log is a log."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.keep is None else change.rewrite(keep=2**40))


@fails(Undoing)
class WhoeverCutsWins(MemoryStore):
    """Looks at `expect` where something is added, not where something is cut."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.keep is None else replace(change, expect=None))


# ---------------------------------------------------------------------------------------------------------- retaining


@fails(Retaining)
class KeepsAll(MemoryStore):
    """Retains everything: space is cheap."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.retain is None else replace(change, retain=2**40))


@fails(Retaining)
class Renumbers(MemoryStore):
    """Numbers the turns that are left from 0."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        first = session.info.first
        records = tuple(replace(record, number=record.number - first) for record in session.records)
        info = replace(session.info, first=0, turns=session.info.turns - first)
        return replace(session, info=info, records=records)


@fails(Retaining)
class RetentionIsACut(MemoryStore):
    """Begins a new generation where the beginning is dropped."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = self._states.get(key)
        receipt = await super().commit(key, change)
        first = 0 if before is None or before.header is None else before.header.first
        if change.retain is None or receipt.first == first:
            return receipt
        state = self._states[key]
        assert state.header is not None
        version = replace(receipt.version, generation=receipt.version.generation + 1)
        state.header = replace(state.header, version=version)
        return replace(receipt, version=version)


@fails(Retaining)
class RetainsFirst(MemoryStore):
    """Drops before it appends: one turn too many is left."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.retain is not None:
            change = replace(change, retain=change.retain + len(change.append))
        return await super().commit(key, change)


@fails(Retaining)
class LosesTheGap(MemoryStore):
    """Sends what is left to a reader who is behind, as if nothing were missing."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, since=since, **asked)
        if since is not None and since.epoch == session.version.epoch:
            return replace(session, continues=True)
        return session
