"""`Store`: what an application calls.  It is built once, on the methods of `turnlog.backend.Backend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import copy
from functools import partial
from itertools import count
from typing import Final, Literal, Self, TypeVar

from . import listing
from .backend import Backend
from .errors import Conflict, CorruptRecord, InvalidInput, OutcomeUnknown, SessionNotFound
from .layers import Layer, stack_of
from .resend import DELAYS, send_again
from .rules.header import check_absent, check_condition, expiry_is_due, is_met, missing, unchanged_since
from .rules.history import TurnRule, check_extends, check_replaces, check_rule, common, divide, rewound, split_turns
from .rules.one_turn import warn_of_one_turn
from .rules.window import cut_off, exact
from .turn_writer import TurnWriter
from .undo import undo
from .values.change import ABSENT, ANY, PRESENT, Change, Expect, Mark, Receipt, check_expect
from .values.ids import check_id, check_namespace, nested_namespace, new_id
from .values.ids import new_session_id as _new_session_id
from .values.json_value import JSON, check_number
from .values.key import Key, cached_key
from .values.message import Message, MessageLike, as_messages, as_turn
from .values.metadata import check_json
from .values.record import Record
from .values.session import Erased, Session, SessionInfo, decoded
from .values.turn import Turn

__all__ = ["Store"]

_TRIES: Final = 100
"""How often in a row another writer may come between a read and the write that depends on it."""

_L = TypeVar("_L", bound=Layer)


class Store:
    """The sessions of one namespace: load them, append turns to them, fork, undo, list and erase them.

    Everything that a store returns is immutable or the caller's own.  Any number of tasks and processes may work on one
    session at once: every write is atomic and stored once.  A session id that is not stored yet needs no preparation:
    the first write makes the session.

    `async with store:` opens and closes the backend.  `within` and `for_owner` return views, which are stores over the
    same backend; opening or closing a view does nothing.

    Args:
        backend: The backend, with its layers.
        namespace: The tenant, 1 to 255 bytes of UTF-8; the same text as for `within`.
        retain: How many turns a session keeps: each append drops the older ones; None: all.
        max_session_bytes: Refuse a write (`TooLarge`) that would make a session larger; None: no limit.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    owner: str | None = None
    """The owner whose sessions this view shows; None: all."""

    def __init__(
        self,
        backend: Backend,
        *,
        namespace: str = "default",
        retain: int | None = None,
        max_session_bytes: int | None = None,
    ) -> None:
        if not isinstance(backend, Backend):
            raise InvalidInput(f"backend must be a Backend such as MemoryBackend(), not {type(backend).__name__}")
        check_namespace(namespace)
        if retain is not None:
            check_number(retain, "retain", least=1)
        if max_session_bytes is not None:
            check_number(max_session_bytes, "max_session_bytes", least=1)
        self.backend = backend
        self.namespace = namespace
        self.retain = retain
        self.max_session_bytes = max_session_bytes
        self._is_view = False
        self._is_tenant = False
        self._as_read = backend.as_read if isinstance(backend, Layer) else None

    # ---------------------------------------------------------------------------------------------------------- views

    def within(self, namespace: str) -> Store:
        """Return a view of another namespace.

        On a store it replaces the namespace.  On a view that `within` returned it nests: the view of `b` in the view of
        `a` is the namespace `a/b`, which a store also takes as text.  A `/` or `%` in a nested name is written `%2F` or
        `%25`, so that two names never share a namespace; nest names that users choose.

        Args:
            namespace: 1 to 255 bytes of UTF-8, nested names included.

        Raises:
            InvalidInput: It breaks a rule.
        """
        check_namespace(namespace)
        view = copy(self)
        view.namespace = nested_namespace(self.namespace, namespace) if self._is_tenant else namespace
        view._is_view = view._is_tenant = True
        return view

    def for_owner(self, owner: str) -> Store:
        """Return a view of the sessions of one owner.

        A session of another owner does not exist in it: `SessionNotFound`, as for one that is not stored.  A session
        that the view makes belongs to the owner.  The backend compares the owner in the same step as the write.

        Args:
            owner: 1 to 255 bytes of UTF-8.

        Raises:
            InvalidInput: It breaks a rule, or this is a view of another owner's sessions.
        """
        check_id(owner, "owner")
        self._check_owner(owner)
        view = copy(self)
        view.owner, view._is_view = owner, True
        return view

    def find(self, kind: type[_L]) -> _L:
        """Return the outermost layer of a class, as in `store.find(CacheLayer).stats()`.

        Raises:
            InvalidInput: The store has no such layer.
        """
        if not isinstance(kind, type):
            raise InvalidInput(f"find takes a class such as CacheLayer, not {kind!r}")
        for layer in stack_of(self.backend):
            if isinstance(layer, kind):
                return layer
        raise InvalidInput(f"{self!r} has no {kind.__name__}")

    async def open(self) -> None:
        """Open the backend; a view does nothing."""
        if not self._is_view:
            await self.backend.open()

    async def close(self) -> None:
        """Close the backend; a view does nothing.  Afterwards every call raises `Closed`."""
        if not self._is_view:
            await self.backend.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    # -------------------------------------------------------------------------------------------------------- reading

    async def load(self, session_id: str, *, last: int | None = None, before: int | None = None) -> list[Message]:
        """Return the messages of a session, in order.

        Args:
            session_id: The session.
            last: Only the fewest whole turns at the end that hold at least this many messages.
            before: Only turns numbered below this.

        Raises:
            SessionNotFound: There is none, or it has expired.
        """
        return (await self.session(session_id, last=last, before=before)).messages

    async def session(
        self, session_id: str, *, last: int | None = None, before: int | None = None, touch: bool = True
    ) -> Session:
        """Return a session with its version, turns and info.

        Args:
            session_id: The session.
            last: As in `load`.
            before: As in `load`.
            touch: Extend the session's life.

        Raises:
            SessionNotFound: There is none, or it has expired.
        """
        key = self._key(session_id)
        session = await self._read(key, last=last, before=before, touch=touch)
        if last is not None and before is not None:
            session = await self._read_further(session, key, last, before)
        return exact(await decoded(session), last, before)

    async def _read(
        self, key: Key, *, last: int | None = None, before: int | None = None, touch: bool = True
    ) -> Session:
        """Return what the backend answers, if it is of the view's owner.

        A read must not extend the life of someone else's session: so a view looks at the owner first.
        """
        if self.owner is None:
            return await self.backend.read(key, last=last, before=before, touch=touch)
        session = await self.backend.read(key, last=last, before=before, touch=False)
        info = session.info
        if info.owner != self.owner:
            raise missing(key)
        if touch and expiry_is_due(info.ttl if info.ttl is not None else self.backend.ttl, info.expires_in):
            await self.backend.read(key, last=0)
        return session

    async def _read_further(self, session: Session, key: Key, last: int, before: int) -> Session:
        """Read further back if `before` falls inside a sealed record, which `exact` will cut off."""
        read = 0
        while (cut := cut_off(session, before)) > read:  # more than the last time: it was sealed again meanwhile
            records = session.records
            if sum([record.count for record in records]) - cut >= last or records[0].number <= session.info.first:
                break
            read = cut
            session = await self._read(key, last=last + cut, before=before, touch=False)
        return session

    async def info(self, session_id: str) -> SessionInfo:
        """Return what is known of a session without its turns; extend no life.

        Raises:
            SessionNotFound: There is none, or it has expired.
        """
        return (await self._read(self._key(session_id), last=0, touch=False)).info

    async def touch(self, session_id: str) -> SessionInfo:
        """Extend a session's life, and return what is known of it.

        Raises:
            SessionNotFound: There is none, or it has expired.
        """
        return (await self._read(self._key(session_id), last=0)).info

    async def sessions(self, *, owner: str | None = None) -> AsyncIterator[SessionInfo]:
        """Yield all sessions, or those of one owner, the last updated first; one that changes meanwhile may be missed.

        Args:
            owner: Only this owner's; the empty string: those that have none.

        Raises:
            CorruptRecord: At the end, after all other sessions: some cannot be read.
        """
        self.backend.check_open()
        if owner is not None and self.owner not in (None, owner):
            return
        async for info in listing.infos(self.backend, self.namespace, self.owner if owner is None else owner):
            yield info

    async def export_owner(self, owner: str) -> AsyncIterator[Session]:
        """Yield every session of an owner, whole, also those that change meanwhile; extend no life.

        Raises:
            CorruptRecord: At the end, after all other sessions: some cannot be read.
        """
        check_id(owner, "owner")
        self.backend.check_open()
        if self.owner in (None, owner):
            read = partial(self.session, touch=False)
            async for session in listing.export(self.backend, self.namespace, owner, read):
                yield session

    async def namespaces(self) -> AsyncIterator[str]:
        """Yield the namespaces that have sessions, in the order of their bytes; `within` takes each.

        A view that `within` returned yields the names nested in its namespace, not those of other tenants: `b` within
        `a` if `a/b` has sessions, or `a/b/c`.  Namespaces in which layers keep what is theirs are left out.

        Raises:
            InvalidInput: This is a view of one owner's sessions.
            Unsupported: The backend cannot list them.
        """
        self.backend.check_open()
        if self.owner is not None:
            raise InvalidInput(f"{self!r} shows one owner's sessions, namespaces are everybody's: ask the store")
        async for name in listing.namespaces(self.backend, self.namespace if self._is_tenant else None):
            yield name

    # -------------------------------------------------------------------------------------------------------- writing

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
        """Store one turn, or one round of it.  A session that is not stored is made, unless `expect` forbids it.

        A turn that is sent again under its `turn_id` is stored once, and answered with the first receipt, even if it
        was undone in between: a retry never brings it back.

        Args:
            session_id: The session.
            messages: A list or tuple of messages or their dictionaries, at least one.  A later round that closes its
                turn may have none.
            expect: The condition on the session: `ABSENT`, `PRESENT`, `version.session`, `version` or `version.exact`.
            turn_id: The turn's name, 1 to 200 bytes of UTF-8; send a turn again under the same name after a failure.
            part: Which round of the turn, from 0.  Later rounds need `turn_id`, and the round before stored as `open`.
            open: Whether more rounds of this turn will follow.
            owner: The owner of a session that this makes; one that is stored must belong to this owner.
            metadata: Also merge this into the session's metadata.

        Raises:
            Conflict: The session does not meet `expect`, or the round does not follow its turn's open last one.
            SessionNotFound: There is none and `expect` is `PRESENT`, or it belongs to another owner, or to none.
            IdReused: Other messages were stored under this `turn_id` and `part`.
            InvalidInput: An argument breaks a rule.
            TooLarge: A limit would be passed.
            HistoryRegressed: The session is older than `expect`, or has diverged from it.
            Unavailable: The store could not be reached; nothing was stored.
            OutcomeUnknown: The answer was lost; the same turn can be sent again.
        """
        key = self._key(session_id)
        if turn_id is None:
            if part:
                raise InvalidInput(f"part {part!r} needs the turn_id under which the parts before it were stored")
            turn_id = new_id()
        if owner is not None:
            self._check_owner(check_id(owner, "owner"))
        if metadata is not None:
            check_json(metadata)
        record = Record.of(as_turn(messages), id=turn_id, time=self.backend.clock(), part=part, open=open)
        return await self.backend.commit(
            key,
            Change(
                id=f"{part}:{turn_id}",
                append=(record,),
                retain=self.retain,
                max_bytes=self.max_session_bytes,
                metadata=metadata,
                expect=expect,
                for_owner=self.owner if owner is None else owner,
            ),
        )

    def write_turn(
        self,
        session_id: str,
        *,
        turn_id: str | None = None,
        owner: str | None = None,
        metadata: Mapping[str, JSON] | None = None,
        expect: Expect = None,
    ) -> TurnWriter:
        """Return a writer of one turn in rounds: `async with store.write_turn("alice") as turn: await turn.add(...)`.

        Without `expect` the turn belongs to the session that is there when the block begins: if that is erased or
        expires, the next round raises `Conflict`.

        Args:
            session_id: The session.
            turn_id: If rounds are stored under it, the writer has them, and continues after them.
            owner: As in `append`.
            metadata: As in `append`, with the first round.
            expect: The condition on the session when the first round is stored.

        Raises:
            Conflict: When the block begins: another turn has interrupted this one.
        """
        self._key(session_id)
        view = self if owner is None else self.for_owner(owner)
        read, append = partial(view.session, session_id), partial(view.append, session_id)
        return TurnWriter(read, append, turn_id=turn_id, metadata=metadata, expect=expect)

    async def resend(self, error: OutcomeUnknown, *, delays: Sequence[float] = DELAYS) -> Receipt:
        """Send the change of an `OutcomeUnknown` again until the store answers, and return the receipt.

        The change is stored once, whether or not it was stored before.

        Args:
            error: The error.
            delays: Seconds to wait before each try but the first.

        Raises:
            InvalidInput: The error carries no change, as that of a deletion, or one that this view cannot reach.
            OutcomeUnknown: The same error: no try was answered.
            Conflict: The change was not stored, and the session no longer meets its condition.
        """
        if getattr(error, "change", None) is None or error.key is None:
            raise InvalidInput(f"{error!r} carries no change to send again: call the method that raised it again")
        if error.key.namespace != self.namespace or self.owner not in (None, error.change.for_owner):
            raise InvalidInput(f"the change is of another view than {self!r}: resend it there")
        return await send_again(self.backend, error, delays)

    async def save(
        self,
        session_id: str,
        messages: Sequence[MessageLike],
        *,
        expect: Expect | Literal[Mark.ANY] = None,
        begins_turn: TurnRule | None = None,
    ) -> Receipt:
        """Make the stored history equal to this one; a turn begins where the user speaks.

        Only the difference is written.  Without a condition it makes a session or extends it, but never discards a
        message that the caller has not seen: load, extend, save is safe, and load, edit, save is refused.

        Args:
            session_id: The session.
            messages: A list or tuple of messages or their dictionaries, at least one.
            expect: A version that was loaded, or another condition that it gives: then stored messages may also be
                replaced.  `ABSENT`: only make the session.  `PRESENT`: only extend it.  `ANY`: overwrite the
                stored history, even if a turn of it cannot be read.
            begins_turn: Returns whether a message begins a turn; None: it does if the user speaks, in each dialect
                that turnlog knows.  Stored turns that the history leaves unchanged are not divided again.

        Raises:
            Conflict: It would discard messages, or the session does not meet `expect`.
            SessionNotFound: There is none, and `expect` is `PRESENT`.
            InvalidInput: An argument breaks a rule.
        """
        key, wanted = self._key(session_id), as_messages(messages)
        if not wanted:
            raise InvalidInput("save needs at least one message: to empty a session, rewind or erase it")
        if expect is not ANY:
            check_expect(expect)
        begins = check_rule(begins_turn)
        for tries in count(1):
            try:
                receipt = await self._save(key, wanted, expect, begins)
            except (Conflict, SessionNotFound) as error:
                foreign = tries > 1 and self.owner is not None and isinstance(error, SessionNotFound)
                if foreign or tries == _TRIES or expect is ABSENT or not await self._may_meet(key, expect):
                    raise
                session = await self._find(key)
                if (expect is None or expect is PRESENT) and session is not None:
                    check_extends(session, wanted, self._as_read)
            else:
                warn_of_one_turn(key, receipt, len(wanted))
                return receipt
        raise AssertionError

    async def _save(
        self, key: Key, wanted: tuple[Message, ...], expect: Expect | Literal[Mark.ANY], begins: TurnRule
    ) -> Receipt:
        session = await self._find(key)
        if session is None or expect is ABSENT:
            if expect is not ANY:
                check_absent(key, expect)
            return await self._commit(key, append=self._records(split_turns(wanted, begins)), expect=ABSENT)
        check_replaces(session, wanted, expect, self._as_read)
        info = session.info
        stored: Sequence[Message] = ()
        turns: Sequence[Turn] = ()
        with suppress(CorruptRecord) if expect is ANY else nullcontext():  # what cannot be read is overwritten
            stored, turns = session.messages, session.turns
        same = common(stored, wanted, self._as_read)
        if same == len(stored) == len(wanted):
            if (now := (await self._read(key, last=0, touch=False)).version) != info.version:  # no cache answers this
                raise Conflict(f"session {key} has changed since it was read", actual=now)
            return Receipt.of(info)
        keep, rest = divide(turns, wanted, same, info.first, begins)
        cut = keep if keep < info.turns else None
        append, bound = self._records(split_turns(rest, begins)), unchanged_since(info.version, expect)
        return await self._commit(key, append=append, keep=cut, expect=bound)

    async def _may_meet(self, key: Key, expect: Expect | Literal[Mark.ANY]) -> bool:
        """Return whether the session may meet a condition; no cache answers, or returns anything older afterwards."""
        try:
            version = (await self._read(key, last=0, touch=False)).info.version
        except SessionNotFound:
            return expect is None or expect is ANY
        return is_met(version, expect)

    async def _find(self, key: Key) -> Session | None:
        try:
            return await decoded(await self._read(key))
        except SessionNotFound:
            return None

    async def fork(
        self, source: str, target: str, *, at: int | None = None, expect: Expect = None, change_id: str | None = None
    ) -> Receipt:
        """Make a session out of another, or of its turns numbered below `at`; afterwards they are independent.

        Args:
            source: The id of the session to copy.
            target: The id of the new session.
            at: Copy only the turns numbered below this; None: all.
            expect: The condition on the source.
            change_id: Send it again under the same id after a failure; by default a new id is made.

        Raises:
            SessionNotFound: There is no source.
            Conflict: The source does not meet `expect`, or the target exists.
        """
        keys = self._key(source), self._key(target)
        if at is not None:
            check_number(at, "at", least=0)
        check_expect(expect)
        change_id = new_id() if change_id is None else check_id(change_id, "change id")
        if source == target:
            raise InvalidInput(f"fork of session {source!r} onto itself: name another target")
        return await self.backend.copy(*keys, at=at, change_id=change_id, expect=expect, for_owner=self.owner)

    async def rewind(
        self, session_id: str, *, turns: int | None = None, messages: int | None = None, expect: Expect = None
    ) -> Receipt:
        """Undo the last turns, or the last messages.

        If that ends inside a turn, the shortened turn is stored as a new one; it may end with an unanswered tool call.
        Without `expect` it undoes the turns that are last when the store gets to it, whoever wrote them.

        Args:
            session_id: The session.
            turns: How many turns to undo; or
            messages: how many messages to undo.
            expect: The condition on the session.

        Raises:
            SessionNotFound: There is none.
            Conflict: It does not meet `expect`.
            InvalidInput: Neither or both are given, or more than there are.
        """
        key = self._key(session_id)
        if (turns is None) == (messages is None):
            raise InvalidInput("rewind takes either turns or messages")
        check_number(messages if turns is None else turns, "messages" if turns is None else "turns", least=1)
        check_expect(expect)

        async def attempt() -> Receipt:
            session = await self.session(session_id, last=messages or 0)
            if not is_met(session.version, expect) and (await self.info(session_id)).version != session.version:
                session = await self.session(session_id, last=messages or 0)  # a cache has answered the first time
            check_condition(key, session.version, expect)
            keep, append = rewound(session, turns, messages)
            bound = unchanged_since(session.version, expect)
            return await self._commit(key, keep=keep, append=append, expect=bound)

        return await undo(self.backend, key, attempt, lambda: self._may_meet(key, expect))

    async def pop(self, session_id: str) -> Turn | None:
        """Remove the last turn and return it; return None if the session has none.

        Raises:
            SessionNotFound: There is no such session.
        """
        key = self._key(session_id)

        async def attempt() -> Turn | None:
            session = await self.session(session_id, last=1)
            if not session.turns:
                if (await self.info(session_id)).messages:
                    raise Conflict(f"session {key} has turns, a cache has answered with an earlier state")
                return None
            turn = session.turns[-1]
            await self._commit(key, keep=turn.number, expect=session.version)
            return turn

        return await undo(self.backend, key, attempt)

    async def merge_metadata(
        self,
        session_id: str,
        metadata: Mapping[str, JSON] | None = None,
        *,
        owner: str | None = None,
        ttl: float | None = None,
        expect: Expect = None,
    ) -> Receipt:
        """Set metadata name by name, the owner, or the session's own time to live; make a session that is not stored.

        Args:
            session_id: The session.
            metadata: Values by name; None removes a name.
            owner: The new owner; the empty string clears it.
            ttl: Seconds that the session lives after its last use; 0: for ever.
            expect: The condition on the session; `version.exact` makes it compare-and-set.

        Raises:
            Conflict: The session does not meet `expect`.
            SessionNotFound: There is none and `expect` is `PRESENT`, or it belongs to another owner than the view's.
            InvalidInput: Nothing is given, or a value is not JSON.
            TooLarge: Over 64 KiB of metadata.
        """
        key = self._key(session_id)
        if metadata is not None:
            check_json(metadata)
        elif owner is None and ttl is None:
            raise InvalidInput("merge_metadata needs metadata, an owner or a ttl, none was given")
        self._check_owner(owner)
        change = Change(metadata=metadata, owner=owner, ttl=ttl, expect=expect, for_owner=self.owner)
        return await self.backend.commit(key, change)

    async def erase(self, session_id: str, *, expect: Expect = None) -> bool:
        """Remove a session; return False if there was none.

        Args:
            session_id: The session.
            expect: The condition on the session.

        Raises:
            Conflict: It does not meet `expect`, or there is none and `expect` names a version.
            SessionNotFound: There is none, and `expect` is `PRESENT`.
        """
        return await self.backend.delete(self._key(session_id), expect=expect, for_owner=self.owner)

    async def erase_owner(self, owner: str) -> Erased:
        """Delete every session of an owner; return how many there were, and what may still hold fragments of them.

        A damaged session is deleted if the owner can still be told; `Erased.damaged` reports the others.

        Raises:
            Conflict: A session stays listed, but cannot be deleted.
        """
        check_id(owner, "owner")
        self.backend.check_open()
        if self.owner not in (None, owner):
            return Erased(0)
        erased = await listing.erase(self.backend, self.namespace, owner)
        layer = self.backend
        traces = await layer.traces(self.namespace, owner) if isinstance(layer, Layer) else ()
        return Erased(erased.sessions, traces, erased.damaged)

    # -------------------------------------------------------------------------------------------------------- helpers

    @staticmethod
    def new_session_id() -> str:
        """Return an id for an anonymous session: 128 random bits, safe in a URL, not to be guessed."""
        return _new_session_id()

    def _check_owner(self, owner: str | None) -> None:
        if owner is not None and self.owner not in (None, owner):
            raise InvalidInput(f"owner {owner!r} cannot be reached from a view of the sessions of {self.owner!r}")

    def _key(self, session_id: str) -> Key:
        return (cached_key if type(session_id) is str else Key)(self.namespace, session_id)

    async def _commit(
        self, key: Key, *, append: tuple[Record, ...] = (), keep: int | None = None, expect: Expect
    ) -> Receipt:
        retain, most = self.retain, self.max_session_bytes
        change = Change(append=append, keep=keep, retain=retain, max_bytes=most, expect=expect, for_owner=self.owner)
        return await self.backend.commit(key, change)

    def _records(self, turns: Sequence[tuple[Message, ...]]) -> tuple[Record, ...]:
        now = self.backend.clock()
        return tuple([Record.of(messages, id=new_id(), time=now) for messages in turns])

    def __repr__(self) -> str:
        owner = "" if self.owner is None else f" owner={self.owner!r}"
        return f"<Store namespace={self.namespace!r}{owner} over {self.backend!r}>"
