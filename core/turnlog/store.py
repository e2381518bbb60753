"""`Store`: the API for applications, built on the methods of `turnlog.backend.Backend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import copy
from functools import partial
from itertools import count
from typing import Final, Literal, Self, TypeVar

from . import listing
from .backend import Backend
from .backend_check import check_backend
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
"""Tries of a read and the write that depends on it, while other writers change the session in between."""

_L = TypeVar("_L", bound=Layer)


class Store:
    """The sessions of one namespace: load, append, fork, undo, list and erase them.

    Any number of tasks and processes may use one session at once: every write is atomic and stored once.  The first
    write to a session id creates the session.  Returned values are immutable or belong to the caller.

    `async with store:` opens and closes the backend.  `within` and `for_owner` return views, which are stores over the
    same backend; opening or closing a view does nothing.

    Args:
        backend: The backend, with its layers.
        namespace: The name of the tenant, 1 to 255 bytes of UTF-8, as in `within`.
        retain: The number of turns that a session keeps; each append drops older ones.  None: all.
        max_session_bytes: The largest size of a session; a write beyond it raises `TooLarge`.  None: no limit.

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
        check_backend(backend)
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

        On a store, `within` replaces the namespace.  On a view that `within` returned, it nests: `b` within `a` is the
        namespace `a/b`.  `/` and `%` in a nested name are written `%2F` and `%25`, so that two names never share a
        namespace; use nesting for names that users choose.

        Args:
            namespace: 1 to 255 bytes of UTF-8, nested names included.

        Raises:
            InvalidInput: The name breaks a rule.
        """
        check_namespace(namespace)
        view = copy(self)
        view.namespace = nested_namespace(self.namespace, namespace) if self._is_tenant else namespace
        view._is_view = view._is_tenant = True
        return view

    def for_owner(self, owner: str) -> Store:
        """Return a view of the sessions of one owner.

        In the view, a session of another owner raises `SessionNotFound`, like a missing one.  A session that the view
        creates belongs to the owner.  The backend compares the owner atomically with the write.

        Args:
            owner: 1 to 255 bytes of UTF-8.

        Raises:
            InvalidInput: The name breaks a rule, or this is a view of another owner.
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
        raise InvalidInput(f"the store has no {kind.__name__}: add the layer, as in Store({kind.__name__}(backend))")

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
            last: Return the fewest whole turns at the end that hold at least this many messages; None: all.
            before: Return only turns numbered below this; `last` then counts back from there.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
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
            touch: Restart the session's time to live.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
        """
        key = self._key(session_id)
        session = await self._read(key, last=last, before=before, touch=touch)
        if last is not None and before is not None:
            session = await self._read_further(session, key, last, before)
        return exact(await decoded(session), last, before)

    async def _read(
        self, key: Key, *, last: int | None = None, before: int | None = None, touch: bool = True
    ) -> Session:
        """Read a session, if it belongs to the view's owner.

        A view compares the owner before it touches, because it must not extend the life of someone else's session.
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
        """Read further back if `before` falls inside a sealed record: `exact` cuts off a part of that record."""
        read = 0
        while (cut := cut_off(session, before)) > read:  # more than the last time: another task has sealed more turns
            records = session.records
            if sum([record.count for record in records]) - cut >= last or records[0].number <= session.info.first:
                break
            read = cut
            session = await self._read(key, last=last + cut, before=before, touch=False)
        return session

    async def info(self, session_id: str) -> SessionInfo:
        """Return a session's info without its turns; its time to live is not restarted.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
        """
        return (await self._read(self._key(session_id), last=0, touch=False)).info

    async def touch(self, session_id: str) -> SessionInfo:
        """Restart a session's time to live and return its info.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
        """
        return (await self._read(self._key(session_id), last=0)).info

    async def sessions(self, *, owner: str | None = None) -> AsyncIterator[SessionInfo]:
        """Yield the sessions, the last updated first.  Sessions that change during the iteration may be missed.

        Args:
            owner: Yield only this owner's sessions; the empty string: sessions without an owner; None: all.

        Raises:
            CorruptRecord: After all other sessions, if some are damaged.
        """
        self.backend.check_open()
        if owner is not None and self.owner not in (None, owner):
            return
        async for info in listing.infos(self.backend, self.namespace, self.owner if owner is None else owner):
            yield info

    async def export_owner(self, owner: str) -> AsyncIterator[Session]:
        """Yield every session of an owner with all turns.  Sessions that change during the iteration are included.

        Raises:
            CorruptRecord: After all other sessions, if some are damaged.
        """
        check_id(owner, "owner")
        self.backend.check_open()
        if self.owner in (None, owner):
            read = partial(self.session, touch=False)
            async for session in listing.export(self.backend, self.namespace, owner, read):
                yield session

    async def namespaces(self) -> AsyncIterator[str]:
        """Yield the namespaces that have sessions, sorted by their bytes, as `within` takes them.

        A view that `within` returned yields the names nested in its namespace: `b` within `a` if `a/b` or `a/b/c` has
        sessions.  Internal namespaces of layers are left out.

        Raises:
            InvalidInput: This is a view of one owner.
            Unsupported: The backend cannot list them.
        """
        self.backend.check_open()
        if self.owner is not None:
            raise InvalidInput("a view of one owner cannot list namespaces: call namespaces() of the store itself")
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
        """Store one turn, or one round of it.  The session is created if it does not exist and `expect` allows it.

        A turn that is sent again under its `turn_id` is stored once and returns the first receipt.  If the turn was
        undone in between, it stays undone.

        Args:
            session_id: The session.
            messages: A list or tuple of messages or their dictionaries, at least one.  The round that closes a turn may
                be an empty list.
            expect: The condition on the session: `ABSENT`, `PRESENT`, `version.session`, `version` or `version.exact`.
            turn_id: The turn's name, 1 to 200 bytes of UTF-8; send a turn again under the same name after a failure.
            part: The number of the round in its turn, from 0.  Later rounds need `turn_id`, and an open round before.
            open: Whether more rounds of this turn will follow.
            owner: The owner of a new session; an existing session must belong to this owner.
            metadata: Also merge this into the session's metadata.

        Raises:
            Conflict: The session does not meet `expect`, or the round does not continue the turn that is open.
            SessionNotFound: The session does not exist and `expect` is `PRESENT`, or has another owner or none.
            IdReused: Other messages were stored under this `turn_id` and `part`.
            InvalidInput: An argument breaks a rule.
            TooLarge: The turn would exceed a limit.
            HistoryRegressed: The session is older than `expect`, or has diverged from it.
            Unavailable: The store could not be reached; nothing was stored.
            OutcomeUnknown: The answer was lost; the same turn can be sent again.
        """
        key = self._key(session_id)
        if turn_id is None:
            if part:
                raise InvalidInput(f"part {part!r} needs the turn_id= of the turn's earlier parts: pass the same one")
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

        Without `expect`, the turn belongs to the session that exists when the block begins: if the session is erased or
        expires, the next round raises `Conflict`.

        Args:
            session_id: The session.
            turn_id: The turn's name.  If rounds are stored under it, the writer continues after them.
            owner: As in `append`.
            metadata: As in `append`; stored with the first round.
            expect: The condition on the session when the first round is stored.

        Raises:
            Conflict: At the beginning of the block, if another turn follows the rounds stored under `turn_id`.
        """
        self._key(session_id)
        view = self if owner is None else self.for_owner(owner)
        read, append = partial(view.session, session_id), partial(view.append, session_id)
        return TurnWriter(read, append, turn_id=turn_id, metadata=metadata, expect=expect)

    async def resend(self, error: OutcomeUnknown, *, delays: Sequence[float] = DELAYS) -> Receipt:
        """Send the change of an `OutcomeUnknown` again until the store answers, and return the receipt.

        The change is stored once, even if the first try had stored it.

        Args:
            error: The error.
            delays: Seconds to wait before the second and each later try.

        Raises:
            InvalidInput: The error has no change (a deletion has none), or its session is not in this view.
            OutcomeUnknown: No try was answered; this is the same error.
            Conflict: The change was not stored, and the session no longer meets the change's condition.
        """
        if getattr(error, "change", None) is None or error.key is None:
            raise InvalidInput(f"resend takes an OutcomeUnknown with a change, not {error!r}: repeat the call instead")
        if error.key.namespace != self.namespace or self.owner not in (None, error.change.for_owner):
            raise InvalidInput(f"the change belongs to another view than {self!r}: resend it with that view")
        return await send_again(self.backend, error, delays)

    async def save(
        self,
        session_id: str,
        messages: Sequence[MessageLike],
        *,
        expect: Expect | Literal[Mark.ANY] = None,
        begins_turn: TurnRule | None = None,
    ) -> Receipt:
        """Make the stored history equal to `messages`, and write only the difference.

        Without `expect`, `save` creates or extends the session and never discards a message: load, extend, save
        succeeds, and load, edit, save raises `Conflict`.

        Args:
            session_id: The session.
            messages: A list or tuple of messages or their dictionaries, at least one.
            expect: The version that was loaded (or its `session` or `exact`): stored messages may be replaced.
                `ABSENT`: only create the session.  `PRESENT`: only extend it.  `ANY`: overwrite the stored history,
                even if a turn of it is damaged.
            begins_turn: Returns whether a message begins a turn.  None: each message of the user does, in the dialects
                that turnlog knows.  Stored turns that `messages` leaves unchanged keep their boundaries.

        Raises:
            Conflict: `save` would discard messages, or the session does not meet `expect`.
            SessionNotFound: The session does not exist, and `expect` is `PRESENT`.
            InvalidInput: An argument breaks a rule.
        """
        key, wanted = self._key(session_id), as_messages(messages)
        if not wanted:
            raise InvalidInput("save needs at least one message: to empty a session, rewind or erase it")
        if expect is not ANY:
            check_expect(expect)
        begins = check_rule(begins_turn, wanted)
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
        with suppress(CorruptRecord) if expect is ANY else nullcontext():  # damaged turns are overwritten
            stored, turns = session.messages, session.turns
        same = common(stored, wanted, self._as_read)
        if same == len(stored) == len(wanted):
            # a trusting cache may have answered the first read; it does not answer `last=0`
            if (now := (await self._read(key, last=0, touch=False)).version) != info.version:
                raise Conflict(f"session {key} has changed since it was read: load it again", actual=now)
            return Receipt.of(info)
        keep, rest = divide(turns, wanted, same, info.first, begins)
        cut = keep if keep < info.turns else None
        append, bound = self._records(split_turns(rest, begins)), unchanged_since(info.version, expect)
        return await self._commit(key, append=append, keep=cut, expect=bound)

    async def _may_meet(self, key: Key, expect: Expect | Literal[Mark.ANY]) -> bool:
        """Return whether the session may meet a condition.  A cache does not answer `last=0`, and drops older turns."""
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
        """Create a session from another one, or from its first turns; afterwards both are independent.

        Args:
            source: The id of the session to copy.
            target: The id of the new session.
            at: Copy only the turns numbered below this; None: all.
            expect: The condition on the source.
            change_id: The id of the fork; use the same one to send it again after a failure.  None: a new id.

        Raises:
            SessionNotFound: The source does not exist.
            Conflict: The source does not meet `expect`, or the target exists.
        """
        keys = self._key(source), self._key(target)
        if at is not None:
            check_number(at, "at", least=0)
        check_expect(expect)
        change_id = new_id() if change_id is None else check_id(change_id, "change id")
        if source == target:
            raise InvalidInput(f"session {source!r} cannot be forked onto itself: choose another target")
        return await self.backend.copy(*keys, at=at, change_id=change_id, expect=expect, for_owner=self.owner)

    async def rewind(
        self, session_id: str, *, turns: int | None = None, messages: int | None = None, expect: Expect = None
    ) -> Receipt:
        """Undo the last turns, or the last messages.

        If a turn loses only some of its messages, the rest is stored as a new turn; it may end with an unanswered tool
        call.  Without `expect`, `rewind` also undoes turns that other writers have just added.

        Args:
            session_id: The session.
            turns: The number of turns to undo.
            messages: The number of messages to undo, in place of `turns`.
            expect: The condition on the session.

        Raises:
            SessionNotFound: The session does not exist.
            Conflict: The session does not meet `expect`.
            InvalidInput: Neither or both numbers are given, or one is larger than the session.
        """
        key = self._key(session_id)
        if (turns is None) == (messages is None):
            given = "neither" if turns is None else "both"
            raise InvalidInput(f"rewind takes turns= or messages=, but got {given}: write rewind(id, turns=1)")
        check_number(messages if turns is None else turns, "messages" if turns is None else "turns", least=1)
        check_expect(expect)

        async def attempt() -> Receipt:
            session = await self.session(session_id, last=messages or 0)
            if not is_met(session.version, expect) and (await self.info(session_id)).version != session.version:
                session = await self.session(session_id, last=messages or 0)  # a cache answered the first read
            check_condition(key, session.version, expect)
            keep, append = rewound(session, turns, messages)
            bound = unchanged_since(session.version, expect)
            return await self._commit(key, keep=keep, append=append, expect=bound)

        return await undo(self.backend, key, attempt, lambda: self._may_meet(key, expect))

    async def pop(self, session_id: str) -> Turn | None:
        """Remove the last turn and return it; return None if the session has none.

        Raises:
            SessionNotFound: The session does not exist.
        """
        key = self._key(session_id)

        async def attempt() -> Turn | None:
            session = await self.session(session_id, last=1)
            if not session.turns:
                if (await self.info(session_id)).messages:
                    raise Conflict(f"session {key} has changed since the cache read it: try again")
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
        """Set metadata name by name, the owner, or the session's time to live.  A missing session is created.

        Args:
            session_id: The session.
            metadata: Values by name; None removes a name.
            owner: The new owner; the empty string clears it.
            ttl: Seconds from the session's last use to its expiry; 0: it never expires.
            expect: The condition on the session; `version.exact` makes this a compare-and-set.

        Raises:
            Conflict: The session does not meet `expect`.
            SessionNotFound: The session does not exist and `expect` is `PRESENT`, or is not the view's owner's.
            InvalidInput: No argument is given, or a value is not JSON.
            TooLarge: The metadata would exceed 64 KiB.
        """
        key = self._key(session_id)
        if metadata is not None:
            check_json(metadata)
        elif owner is None and ttl is None:
            raise InvalidInput("merge_metadata got nothing to set: pass metadata, owner= or ttl=")
        self._check_owner(owner)
        change = Change(metadata=metadata, owner=owner, ttl=ttl, expect=expect, for_owner=self.owner)
        return await self.backend.commit(key, change)

    async def erase(self, session_id: str, *, expect: Expect = None) -> bool:
        """Remove a session; return False if it did not exist.

        Args:
            session_id: The session.
            expect: The condition on the session.

        Raises:
            Conflict: The session does not meet `expect`, or does not exist and `expect` names a version.
            SessionNotFound: The session does not exist, and `expect` is `PRESENT`.
        """
        return await self.backend.delete(self._key(session_id), expect=expect, for_owner=self.owner)

    async def erase_owner(self, owner: str) -> Erased:
        """Remove every session of an owner; return their number, and the data that may still contain parts of them.

        A damaged session is removed if its owner can still be read; `Erased.damaged` reports the others.

        Raises:
            Conflict: A session is still listed, but cannot be removed.
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
        """Return an id for an anonymous session: 128 random bits that nobody can guess, safe in a URL."""
        return _new_session_id()

    def _check_owner(self, owner: str | None) -> None:
        if owner is not None and self.owner not in (None, owner):
            raise InvalidInput(f"this view is for owner {self.owner!r}, not {owner!r}: call the method of the store")

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
