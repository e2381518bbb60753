"""The contract: what a store is, what a layer is, and what an application gets from both.

Four methods make a store: `read`, `commit`, `delete` and `page`.  Everything an application calls is built on them
here, once, and final, so that a layer wraps four methods and hides nothing.  The words of this page are normative;
`turnlog.testing` holds every store to them, one test a sentence.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, final

from .errors import Closed, Conflict, CorruptRecord, InvalidInput, SessionNotFound, SplitsSealed
from .rules.history import common, cut_off, divide, exact, split_turns
from .values.change import ABSENT, ANY, Change, Expect, Mark, Receipt, check_ttl, copy_digest
from .values.ids import check_id, check_namespace, new_id
from .values.ids import new_session_id as _new_session_id
from .values.json_value import JSON, check, check_mapping, check_number
from .values.key import Key, key_of
from .values.message import Message, MessageLike, as_message
from .values.record import Record
from .values.session import Erased, Page, Query, Session, SessionInfo
from .values.turn import Turn
from .values.version import Version, check_version

__all__ = ["Layer", "Store"]

_TRIES = 100  # so often in a row another writer may come between a read and its commit


class Store(ABC):
    """What keeps sessions.

    A session is a log of turns with an owner and a little metadata, under a session id within a namespace.  Sessions
    know nothing of each other.  What a store hands out is immutable, and what a caller makes of it reaches no one else.

    Any number of tasks and processes may work on one session at once, and the loops of several threads where the store
    says so: every commit is atomic and stored once, and nothing that was acknowledged is lost, whoever else writes.

    Open it with `async with store:`; what `open` acquires, `close` releases.  A store that has nothing to acquire works
    without.

    Args:
        namespace: The tenant that the application's methods work in.
        ttl: Seconds that a session lives after its last use, unless it has a time to live of its own; None: for ever.
        retain: How many turns a session keeps: after each append the older ones are dropped; None: all.
        max_session_bytes: Refuse (`TooLarge`) what would make a session larger; None: no limit.
        clock: Seconds since 1970.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    can_seal: bool = False
    """Whether `Change.seal` does anything; if not, it loses quietly."""

    remembers: int = 64
    """How many of a session's last changes it recognises when they are sent again; at least 64."""

    def __init__(
        self,
        *,
        namespace: str = "default",
        ttl: float | None = None,
        retain: int | None = None,
        max_session_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_namespace(namespace)
        if retain is not None:
            check_number(retain, "retain", least=1)
        if max_session_bytes is not None:
            check_number(max_session_bytes, "max_session_bytes", least=1)
        self.namespace = namespace
        self.ttl = None if ttl is None else check_ttl(ttl) or None
        self.retain = retain
        self.max_session_bytes = max_session_bytes
        self.clock = clock
        self._closed = False

    # ------------------------------------------------------------------------------------- what a backend implements

    @abstractmethod
    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        """A snapshot of one session, or a part of it.

        Args:
            key: Which session.
            last: Only whole turns from the end, as few as hold at least this many messages; 0: the info alone.  A
                sealed record is given whole, and counted whole.
            before: Only turns numbered below this; with `last`, counted from there backwards.  A sealed record that
                begins below it is among them.
            since: Only what follows this version, if the history has merely grown: then `Session.continues` is true,
                nothing means unchanged, and the first record may be a later round of a turn.  Everything, if it was
                cut, rewritten or made anew, or if the place is sealed over or dropped.  With `last`, `since` decides
                where it continues and `last` otherwise; with `before` it makes no sense.
            touch: Extend the session's life.

        Raises:
            SessionNotFound: There is none, or it has expired.
            HistoryRegressed: The session is behind, or beside, `since`: the store lost what it had acknowledged.
            InvalidInput: `last` or `before` is no number from 0 to 2**53 - 1, or `since` is no version, or given with
                `before`.
            Unavailable: The store could not be reached.
        """

    @abstractmethod
    async def commit(self, key: Key, change: Change) -> Receipt:
        """The only write: a change, all of it or nothing, once per change id.

        A repeat stores nothing and is answered with the version and the turn number of the first time; the id is looked
        up before `expect` is compared.  A change that is new to a session that is not there makes it, unless it has
        nothing to put into it.  It extends the session's life.

        Args:
            key: Which session.
            change: What to do, and under which condition.

        Raises:
            Conflict: The session is not at `change.expect`; or a round does not follow its turn's open last one.
            IdReused: The id stands for another change.
            SplitsSealed: The cut falls inside a sealed record.
            SessionNotFound: There is none, and the change has nothing to put into one.
            HistoryRegressed: The session is behind, or beside, `change.expect`.
            TooLarge: A limit would be passed.
            Unavailable: The store could not be reached; nothing was stored.
            OutcomeUnknown: The answer was lost; the same change can be sent again.
        """

    @abstractmethod
    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        """Remove a session, all of it at once.

        Args:
            key: Which session.
            expect: Only at this version, metadata included.

        Returns:
            False if there was none.

        Raises:
            Conflict: It is not at `expect`, or there is none.
            HistoryRegressed: It is behind, or beside, `expect`.
            Unavailable: The store could not be reached; nothing was removed.
            OutcomeUnknown: The answer was lost.
        """

    @abstractmethod
    async def page(self, query: Query) -> Page:
        """One page of sessions, the last updated first, none that has expired.  It extends nobody's life."""

    async def traces(self, namespace: str, owner: str) -> tuple[str, ...]:  # noqa: ARG002 - a layer's business
        """What may hold fragments of what an owner said beside their sessions, for people to read: as a rule nothing.

        Args:
            namespace: Whose owner.
            owner: Whose words.
        """
        return ()

    async def open(self) -> None:
        """Acquire what the store needs.  Whoever overrides it calls this one, too."""
        self._closed = False

    async def close(self) -> None:
        """Release it.  Afterwards every call raises `Closed`.  Whoever overrides it calls this one, too."""
        self._closed = True

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        """Make a session out of another: its turns with their numbers and times, metadata, owner and time to live.

        It starts a new epoch and remembers none of the source's changes.  A backend may do better than this, which
        reads and commits.

        Args:
            source: Which session.
            target: Where to; there must be none.
            at: Only the turns numbered below this; None: all.
            change_id: As in `Change.id`.

        Raises:
            SessionNotFound: There is no source.
            Conflict: There is a target, and another change made it.
            SplitsSealed: `at` falls inside a sealed record, and this store does not look into it.
            CorruptRecord: It does, and that cannot be read.
        """
        session = await self.read(source, before=at)
        info, records = session.info, session.records
        if at is not None and records and records[-1].next_turn > at:
            last = records[-1]
            if not last.plain:
                raise SplitsSealed(
                    f"turns {last.number} to {last.next_turn - 1} of session {source} are sealed in one record, {at} is "
                    "inside, and a layer is needed to open it",
                    boundary=last.number,
                )
            try:
                records = (*records[:-1], last.until(at))
            except CorruptRecord as error:
                error.key = source
                raise
        change = Change(
            id=change_id,
            append=records,
            metadata=info.metadata,
            owner=info.owner,
            ttl=info.ttl,
            expect=ABSENT,
            first=info.first if at is None else min(at, info.first),
            asked=copy_digest(source, at),
        )
        return await self.commit(target, change)

    # -------------------------------------------------------------------------------------- what an application calls

    @final
    async def load(self, session_id: str, *, last: int | None = None, before: int | None = None) -> list[Message]:
        """The messages of a session, in order.

        Args:
            session_id: Which session.
            last: Only the last turns, as few as hold at least this many messages; turns are never cut.
            before: Only turns numbered below this.

        Raises:
            SessionNotFound: There is none, or it has expired.
        """
        key = self._key(session_id)
        session = await self.read(key, last=last, before=before)
        if last is not None and before is not None:
            session = await self._further(session, key, last, before, touch=True)
        return exact(session, last, before).messages

    @final
    async def session(
        self, session_id: str, *, last: int | None = None, before: int | None = None, touch: bool = True
    ) -> Session:
        """The same with version, turns and info; the records are exactly the turns that were asked for.

        Args:
            session_id: Which session.
            last: As in `load`.
            before: As in `load`.
            touch: Extend the session's life.

        Raises:
            SessionNotFound: There is none, or it has expired.
        """
        key = self._key(session_id)
        session = await self.read(key, last=last, before=before, touch=touch)
        if last is not None and before is not None:
            session = await self._further(session, key, last, before, touch=touch)
        return exact(session, last, before)

    async def _further(self, session: Session, key: Key, last: int, before: int, *, touch: bool) -> Session:
        """Read further back, where `before` falls inside a sealed record and cuts off what `last` was filled with."""
        read = 0
        while (cut := cut_off(session, before)) > read:  # more than the last time: it was sealed again meanwhile
            records = session.records
            if sum(record.count for record in records) - cut >= last or records[0].number <= session.info.first:
                break
            read = cut
            session = await self.read(key, last=last + cut, before=before, touch=touch)
        return session

    @final
    async def append(
        self,
        session_id: str,
        messages: Sequence[MessageLike],
        *,
        expect: Expect = None,
        turn_id: str | None = None,
        part: int = 0,
        open: bool = False,
        owner: str | None = None,
        metadata: Mapping[str, JSON] | None = None,
    ) -> Receipt:
        """Store one turn, or one round of it.  A session that is not there is made, unless `expect` forbids it.

        What is sent again under its `turn_id` is stored once, and answered with the first receipt, also where the turn
        was undone in between: a retry never brings it back.

        Args:
            session_id: Which session.
            messages: A list or tuple of messages or their dictionaries, at least one.
            expect: Only if the session's turns are at this version, or, with `ABSENT`, only if there is no session.
                Metadata and owner are not compared: `merge_metadata` does that.
            turn_id: The turn's name: the same messages under it are stored once, so it may be sent again after any
                failure.
            part: Which round of the turn.  Rounds after 0 need `turn_id`, and the one before stored `open` as the last.
            open: Whether more rounds of this turn will follow.
            owner: Also make this the session's owner.
            metadata: Also merge this into the session's metadata.

        Raises:
            Conflict: The session is not at `expect`, or the round does not follow its turn's open last one.
            IdReused: Other messages were stored under this `turn_id` and `part`.
            InvalidInput: An argument breaks a rule.
            TooLarge: A limit is passed.
            HistoryRegressed: The session is behind, or beside, `expect`.
            Unavailable: The store could not be reached; nothing was stored.
            OutcomeUnknown: The answer was lost; the same turn can be sent again.
        """
        key = self._key(session_id)
        if turn_id is None:
            if part:
                raise InvalidInput(
                    f"part {part} needs the turn_id under which part {part - 1 if type(part) is int else 0} was stored"
                )
            turn_id = new_id()
        if metadata is not None:
            _check_metadata(metadata)
        record = Record.of(_messages(messages), id=turn_id, time=self.clock(), part=part, open=open)
        return await self.commit(
            key,
            Change(
                id=f"{part}:{turn_id}",
                append=(record,),
                retain=self.retain,
                max_bytes=self.max_session_bytes,
                metadata=metadata,
                owner=owner,
                expect=expect,
            ),
        )

    @final
    async def save(
        self, session_id: str, messages: Sequence[MessageLike], *, expect: Version | Mark | None = None
    ) -> Receipt:
        """Make the stored history equal to this one; a turn begins at each user message.

        Only what differs is written.  Without `expect` it may make a session or extend what is stored, but never
        discards a message that the caller has not seen: load, extend, save is safe, and load, edit, save is refused.

        Args:
            session_id: Which session.
            messages: A list or tuple of messages or their dictionaries, at least one.
            expect: The version that was loaded: then what is stored may also be replaced.  `ABSENT`: only make it.
                `ANY`: overwrite whatever is there, also a turn that cannot be read.

        Raises:
            Conflict: It would discard messages, or the session is not at `expect`.
            InvalidInput: An argument breaks a rule.
        """
        key, wanted = self._key(session_id), _messages(messages)
        if not wanted:
            raise InvalidInput("save needs at least one message: to empty a session, rewind or delete it")
        if expect is not None and expect is not ABSENT and expect is not ANY:
            check_version(expect, "expect", "a Version, ABSENT or ANY")
        tries = 0
        while True:
            tries += 1
            try:
                return await self._save(key, wanted, expect)
            except Conflict:
                if tries == _TRIES or expect is ABSENT or not await self._may_hold(key, expect):
                    raise
                session = await self._find(key)
                if expect is None and session is not None:
                    _check_extends(key, session, wanted)
            # another writer came between the read and the commit, and nothing of it is lost by trying again

    async def _save(self, key: Key, wanted: tuple[Message, ...], expect: Version | Mark | None) -> Receipt:
        session = await self._find(key)
        if session is None or expect is ABSENT:
            turns = split_turns(wanted)
            bound: Expect = expect if type(expect) is Version else ABSENT
            return await self.commit(key, self._change(append=self._records(turns), expect=bound))
        info = session.info
        if type(expect) is Version and not expect.same_turns(info.version):
            raise Conflict(
                f"session {key} is at {info.version!r}, the caller expected {expect!r}",
                expected=expect,
                actual=info.version,
            )
        if expect is None:
            _check_extends(key, session, wanted)
        stored: Sequence[Message] = ()
        there: Sequence[Turn] = ()
        try:
            stored, there = session.messages, session.turns
        except CorruptRecord:
            if expect is not ANY:
                raise  # and otherwise nothing of what cannot be read stays
        same = common(stored, wanted)
        if same == len(stored) == len(wanted):
            return Receipt(info.version, None, info.first, info.turns, info.messages, info.version, info.expires_in)
        keep, rest = divide(there, wanted, same, info.first)
        cut = keep if keep < info.turns else None
        change = self._change(append=self._records(split_turns(rest)), keep=cut, expect=info.version)
        return await self.commit(key, change)

    async def _may_hold(self, key: Key, expect: Version | Mark | None) -> bool:
        """Whether what a read does not show may hold all the same: a cache may have answered it.

        An info alone is always the store's answer, and a cache that hears it serves nothing older afterwards.
        """
        try:
            version = (await self.read(key, last=0, touch=False)).info.version
        except SessionNotFound:
            return type(expect) is not Version
        return type(expect) is not Version or expect.same_turns(version)

    async def _find(self, key: Key) -> Session | None:
        try:
            return await self.read(key)
        except SessionNotFound:
            return None

    @final
    async def fork(self, source: str, target: str, *, at: int | None = None, change_id: str | None = None) -> Receipt:
        """Make a session out of another, or of its turns numbered below `at`; both go on apart.

        Args:
            source: The id of the session to copy.
            target: The id of the new one; there must be none.
            at: Only the turns numbered below this; None: all.
            change_id: To send it again after a failure; one is made without it.

        Raises:
            SessionNotFound: There is no source.
            Conflict: There is a target already.
        """
        keys = self._key(source), self._key(target)
        if at is not None:
            check_number(at, "at", least=0)
        if change_id is not None:
            check_id(change_id, "change id")
        if source == target:
            raise InvalidInput(f"fork of session {source!r} onto itself: name another target")
        return await self.copy(*keys, at=at, change_id=new_id() if change_id is None else change_id)

    @final
    async def rewind(
        self, session_id: str, *, turns: int | None = None, messages: int | None = None, expect: Version | None = None
    ) -> Receipt:
        """Undo the last turns, or the last messages.

        Where that ends inside a turn, the shortened turn is written whole under a new id: it may end with a tool call
        whose result is undone.  Without `expect` it undoes what is last when it comes to it, whoever wrote that.

        Args:
            session_id: Which session.
            turns: How many turns to undo; or
            messages: how many messages to undo.
            expect: Only if the session is at this version.

        Raises:
            SessionNotFound: There is none.
            Conflict: It is not at `expect`.
            InvalidInput: Neither or both are given, or more than there is.
        """
        key = self._key(session_id)
        if (turns is None) == (messages is None):
            raise InvalidInput("rewind takes either turns or messages")
        check_number(messages if turns is None else turns, "messages" if turns is None else "turns", least=1)
        if expect is not None:
            check_version(expect, "expect")
        tries = 0
        while True:
            tries += 1
            try:
                session = await self.session(session_id, last=0 if messages is None else messages)
                if expect is not None and not expect.same_turns(session.version) and await self._may_hold(key, expect):
                    session = await self.session(session_id, last=0 if messages is None else messages)
                return await self.commit(key, self._rewinding(session, turns, messages, expect))
            except Conflict:
                if expect is not None or tries == _TRIES:
                    raise  # otherwise somebody wrote between the read and the commit: undo what is last now

    def _rewinding(self, session: Session, turns: int | None, messages: int | None, expect: Version | None) -> Change:
        info = session.info
        bound = info.version if expect is None else expect
        if turns is not None:
            if turns > info.turns - info.first:
                raise InvalidInput(f"session {info.key} has {info.turns - info.first} turns, {turns} cannot be undone")
            return self._change(keep=info.turns - turns, expect=bound)
        assert messages is not None
        if messages > info.messages:
            raise InvalidInput(f"session {info.key} has {info.messages} messages, {messages} cannot be undone")
        turn = session.turns[0]
        rest = sum(len(t.messages) for t in session.turns) - messages
        if not rest:
            return self._change(keep=turn.number, expect=bound)
        record = Record.of(turn.messages[:rest], id=new_id(), time=turn.time)
        return self._change(keep=turn.number, append=(record,), expect=bound)

    @final
    async def pop(self, session_id: str) -> Turn | None:
        """Remove the last turn and hand it out; None if the session has none.

        Raises:
            SessionNotFound: There is no such session.
        """
        key = self._key(session_id)
        tries = 0
        while True:
            tries += 1
            session = await self.session(session_id, last=1)
            if not session.turns:
                return None
            turn = session.turns[-1]
            try:
                await self.commit(key, self._change(keep=turn.number, expect=session.version))
            except Conflict:
                if tries == _TRIES:
                    raise
                continue  # somebody wrote between the read and the commit: another turn is the last now
            return turn

    @final
    async def merge_metadata(
        self,
        session_id: str,
        metadata: Mapping[str, JSON] | None = None,
        *,
        owner: str | None = None,
        ttl: float | None = None,
        expect: Expect = None,
    ) -> Receipt:
        """Set metadata name by name, the owner, or the session's own time to live; a new session is made.

        Args:
            session_id: Which session.
            metadata: Values by name; None removes a name.
            owner: Whose it is; the empty string clears it.
            ttl: Seconds it lives after its last use; 0: for ever.
            expect: Only if the session is at this version, metadata included: compare and set.

        Raises:
            Conflict: It is not at `expect`.
            InvalidInput: Nothing is given, or what is given is not JSON.
            TooLarge: Over 64 KiB of metadata.
        """
        key = self._key(session_id)
        if metadata is not None:
            _check_metadata(metadata)
        elif owner is None and ttl is None:
            raise InvalidInput("merge_metadata needs metadata, an owner or a ttl, none was given")
        return await self.commit(key, Change(metadata=metadata, owner=owner, ttl=ttl, expect=expect))

    @final
    async def info(self, session_id: str) -> SessionInfo:
        """What is known of a session without its turns.  It extends nobody's life.

        Raises:
            SessionNotFound: There is none, or it has expired.
        """
        return (await self.read(self._key(session_id), last=0, touch=False)).info

    @final
    async def touch(self, session_id: str) -> SessionInfo:
        """Extend a session's life.

        Raises:
            SessionNotFound: There is none, or it has expired.
        """
        return (await self.read(self._key(session_id), last=0)).info

    @final
    async def erase(self, session_id: str, *, expect: Version | None = None) -> bool:
        """Remove a session; False if there was none.

        Args:
            session_id: Which session.
            expect: Only at this version, metadata included.

        Raises:
            Conflict: It is not at `expect`, or there is none.
        """
        return await self.delete(self._key(session_id), expect=expect)

    @final
    async def sessions(self, *, owner: str | None = None) -> AsyncIterator[SessionInfo]:
        """All sessions, or those of one owner, the last updated first.

        A session that changes meanwhile may be missed: it moves to the front.

        Args:
            owner: Only this owner's; the empty string: those that have none.
        """
        self.check_open()
        cursor: str | None = None
        while True:
            page = await self.page(Query(namespace=self.namespace, owner=owner, limit=100, cursor=cursor))
            for info in page.infos:
                yield info
            cursor = page.cursor
            if cursor is None:
                return

    @final
    async def export_owner(self, owner: str) -> AsyncIterator[Session]:
        """Every session of an owner, whole; also those that change meanwhile.  It extends nobody's life."""
        check_id(owner, "owner")
        done: set[str] = set()
        found = True
        while found:  # a session that changes meanwhile moves to the front: go on until a pass finds nothing new
            found = False
            async for info in self.sessions(owner=owner):
                if info.key.session not in done:
                    done.add(info.key.session)
                    try:
                        session = await self.session(info.key.session, touch=False)
                    except SessionNotFound:
                        continue
                    found = True
                    if session.info.owner == owner:  # or it was given to another since the page was read
                        yield session

    @final
    async def erase_owner(self, owner: str) -> Erased:
        """Delete every session of an owner, and say how many there were, and what may still hold fragments of them.

        Raises:
            Conflict: One of them was written again and again, between each look at it and its removal.
        """
        check_id(owner, "owner")
        self.check_open()
        erased = tries = 0
        while True:
            page = await self.page(Query(namespace=self.namespace, owner=owner, limit=100))
            if not page.infos:
                return Erased(erased, await self.traces(self.namespace, owner))
            before = erased
            for info in page.infos:
                try:
                    erased += await self.delete(info.key, expect=info.version)
                except Conflict:
                    if tries == _TRIES:
                        raise
                    continue  # it changed, perhaps to another owner: the next page tells
            tries = tries + 1 if erased == before else 0

    @final
    def within(self, namespace: str) -> Store:
        """The same store, connection and cache, under another tenant.  It is opened and closed with this one."""
        return _Within(self, namespace)

    @final
    async def __aenter__(self) -> Self:
        await self.open()
        return self

    @final
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ------------------------------------------------------------------------------------------------------- helpers

    @staticmethod
    def new_session_id() -> str:
        """An id for an anonymous session: 128 random bits, safe in a URL, not to be guessed."""
        return _new_session_id()

    def check_open(self) -> None:
        """Refuse what is asked of a store that is not open: what a backend's four methods do first.

        Raises:
            Closed: It is closed, or was never opened where that is needed.
        """
        if self._closed:
            raise Closed(f"{self!r} is not open: open it with 'async with'")

    def _key(self, session_id: str) -> Key:
        if self._closed:
            self.check_open()
        return key_of(self.namespace, session_id)

    def _change(self, *, append: tuple[Record, ...] = (), keep: int | None = None, expect: Expect = None) -> Change:
        return Change(append=append, keep=keep, retain=self.retain, max_bytes=self.max_session_bytes, expect=expect)

    def _records(self, turns: Sequence[tuple[Message, ...]]) -> tuple[Record, ...]:
        now = self.clock()
        return tuple(Record.of(messages, id=new_id(), time=now) for messages in turns)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} namespace={self.namespace!r}>"


class Layer(Store):
    """A store that wraps a store.  As it stands it does nothing: override what the layer is for.

    The application's methods are built on the layer's own four, so a layer changes them all by changing those.  `copy`
    reads and commits through the layer; forward it only where what is stored does not depend on the session it is in.

    Args:
        inner: The store to wrap; it is opened and closed with the layer.

    Raises:
        InvalidInput: A layer below belongs outside of this one.
    """

    inner: Store
    """The store that is wrapped."""

    depth: int = 0
    """How near to the store it belongs; 0: anywhere.  A stack takes one layer of each other depth, the least outermost:
    20 keeps decoded messages, 40 compresses payloads, 60 encrypts them."""

    def __init__(self, inner: Store) -> None:
        below = inner
        while self.depth and isinstance(below, Layer):
            if 0 < below.depth <= self.depth:
                raise InvalidInput(_disordered(self, below))
            below = below.inner
        super().__init__(
            namespace=inner.namespace,
            ttl=inner.ttl,
            retain=inner.retain,
            max_session_bytes=inner.max_session_bytes,
            clock=inner.clock,
        )
        self.inner = inner
        self.can_seal = inner.can_seal
        self.remembers = inner.remembers

    @classmethod
    def find(cls, store: Store) -> Self:
        """The outermost layer of this class in a store, as in `CacheLayer.find(store).stats`.

        Raises:
            InvalidInput: There is none.
        """
        layer = store
        while isinstance(layer, Layer):
            if isinstance(layer, cls):
                return layer
            layer = layer.inner
        raise InvalidInput(f"there is no {cls.__name__} in {store!r}")

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        return await self.inner.read(key, last=last, before=before, since=since, touch=touch)

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await self.inner.commit(key, change)

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        return await self.inner.delete(key, expect=expect)

    async def page(self, query: Query) -> Page:
        return await self.inner.page(query)

    async def traces(self, namespace: str, owner: str) -> tuple[str, ...]:
        return await self.inner.traces(namespace, owner)

    async def open(self) -> None:
        await self.inner.open()
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self.inner.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.inner!r}>"


class _Within(Layer):
    """A store under another tenant: the application's methods make their keys in its namespace."""

    def __init__(self, inner: Store, namespace: str) -> None:
        check_namespace(namespace)
        super().__init__(inner)
        self.namespace = namespace

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        return await self.inner.copy(source, target, at=at, change_id=change_id)

    async def open(self) -> None:
        """Nothing: the store is opened by whoever made it."""

    async def close(self) -> None:
        """Nothing: the store is closed by whoever made it."""

    def check_open(self) -> None:
        self.inner.check_open()

    def _key(self, session_id: str) -> Key:
        self.inner.check_open()
        return key_of(self.namespace, session_id)

    def __repr__(self) -> str:
        return f"<namespace {self.namespace!r} of {self.inner!r}>"


def _disordered(outer: Layer, inner: Layer) -> str:
    above, below = type(outer).__name__, type(inner).__name__
    if outer.depth == inner.depth:
        return f"{above} over {below}: a stack takes one of them, leave the other out"
    return (
        f"{above} over {below}: it belongs nearer to the store; layers are named from outside, so name {below}'s first"
    )


def _messages(messages: Sequence[MessageLike]) -> tuple[Message, ...]:
    if type(messages) is not list and type(messages) is not tuple:
        raise InvalidInput(f"messages must be a list or tuple, not {type(messages).__name__}: put one message into [ ]")
    for message in messages:
        if type(message) is not Message:
            return tuple(as_message(item, f"messages[{place}]") for place, item in enumerate(messages))
    return tuple(messages)


def _check_metadata(metadata: Mapping[str, JSON]) -> None:
    check_mapping(metadata, "metadata")
    check(dict(metadata), "metadata")


def _check_extends(key: Key, session: Session, wanted: Sequence[Message]) -> None:
    stored = session.messages
    same = common(stored, wanted)
    if same < len(stored):
        raise Conflict(
            f"save would discard {len(stored) - same} of the {len(stored)} messages of session {key}, "
            f"from message {same} on: load again, or pass expect=version to replace what was loaded, "
            "or expect=ANY to overwrite",
            actual=session.version,
        )
