"""`Store`: the API for applications, built on the methods of `turnlog.backend.Backend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from copy import copy
from functools import partial
from sys import modules
from typing import Literal, Self, TypeVar

from . import editing, listing, saving
from .access import Access, read_owned
from .backend import Backend
from .backend_check import check_backend
from .errors import InvalidInput, OutcomeUnknown
from .event_loop import check_event_loop
from .layers import Layer, find_layer
from .resend import DELAYS, check_resendable, send_again
from .rules.history import TurnRule, check_rule, split_turns
from .rules.window import exact
from .turn_writer import TurnWriter
from .values.change import PRESENT, Change, Expect, Mark, Receipt
from .values.checks import check_number
from .values.ids import check_id, new_id
from .values.ids import new_session_id as _new_session_id
from .values.json_value import JSON
from .values.key import Key, cached_key
from .values.message import Message, MessageLike, as_messages, as_turn
from .values.namespaces import check_namespace, nested_namespace
from .values.query import Query
from .values.record import Record
from .values.session import Erased, Page, Session, SessionInfo, decoded
from .values.turn import Turn
from .values.version import Version

__all__ = ["Store"]

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
        for name, limit in (("retain", retain), ("max_session_bytes", max_session_bytes)):
            if limit is not None:
                check_number(limit, name, least=1)
        self.backend = backend
        self.namespace = namespace
        self.retain = retain
        self.max_session_bytes = max_session_bytes
        self._is_view = self._is_tenant = False
        self._as_read = backend.as_read if isinstance(backend, Layer) else None

    # ---------------------------------------------------------------------------------------------------------- views

    def within(self, namespace: str) -> Store:
        """Return a view of another namespace.

        On a store, `within` replaces the namespace.  On a view that `within` returned, it nests: `b` within `a` is the
        namespace `a/b`.  `/` and `%` in a nested name are written `%2F` and `%25`, so that two names never share a
        namespace; use nesting for names that users choose.

        Args:
            namespace: 1 to 255 bytes of UTF-8; in a nested view, the limit applies to the whole name, such as `a/b`.

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
        return find_layer(self.backend, kind)

    async def open(self) -> None:
        """Open the backend; a view does nothing."""
        check_event_loop()
        if not self._is_view:
            await self.backend.open()

    async def close(self) -> None:
        """Close the backend; later calls raise `Closed`.  Closing a view does nothing."""
        check_event_loop()
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
        self,
        session_id: str,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        """Return a session with its version, turns and info.

        Args:
            session_id: The session.
            last: As in `load`.
            before: As in `load`.
            since: Return only the rounds after this version if turns were only added (`Session.continues`), otherwise
                the same as without `since`.  Not together with `before`.
            touch: Restart the session's time to live.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
            HistoryRegressed: The session is older than `since`, or has diverged from it.
        """
        key = self._key(session_id)
        if last is not None and before is not None and since is None:
            return await self._access(key).window(last, before=before, touch=touch)
        session = await self._read(key, last=last, before=before, since=since, touch=touch)
        return exact(await decoded(session), None if session.continues else last, before)

    def _read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Awaitable[Session]:
        """Read a session, if it belongs to the view's owner."""
        if self.owner is None:
            return self.backend.read(key, last=last, before=before, since=since, touch=touch)
        return read_owned(self.backend, self.owner, key, last, before, since, touch=touch)

    async def info(self, session_id: str) -> SessionInfo:
        """Return a session's info without its turns; its time to live is not restarted.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
        """
        return (await self._read(self._key(session_id), last=0, touch=False)).info

    async def turn(self, session_id: str, turn_id: str) -> Turn | None:
        """Return the turn with an id; None if the session has no such turn, or has dropped it.

        The search reads backwards in parts: a recent turn needs one read, a missing one reads the whole session.

        Args:
            session_id: The session.
            turn_id: The turn's name, as in `append`.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
        """
        return await editing.find_turn(self._access(self._key(session_id)), check_id(turn_id, "turn_id"))

    async def touch(self, session_id: str) -> SessionInfo:
        """Restart a session's time to live and return its info.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
        """
        return (await self._read(self._key(session_id), last=0)).info

    async def list_sessions(
        self, *, owner: str | None = None, prefix: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """Return a page of the sessions, most recently updated first.  `Page.damaged` reports damaged sessions.

        Args:
            owner: Only sessions of this owner; the empty string: sessions without an owner; None: all.
            prefix: Only sessions whose ids begin with this text, compared as bytes, without wildcards; None: all.  A
                rare one takes a search of an index in an SQL database, and a scan of the namespace's index in Redis.
            limit: The largest number of sessions, 1 to 1,000.
            cursor: `Page.cursor` of the previous page of the same list; None: the first page.

        Raises:
            InvalidInput: An argument breaks a rule, or the cursor belongs to a list with other arguments.
        """
        check_event_loop()
        query = self._query(owner, prefix, limit, cursor)
        return await self.backend.page(query) if self._covers(owner) else Page(())

    async def sessions(
        self, *, owner: str | None = None, prefix: str | None = None, all_namespaces: bool = False
    ) -> AsyncIterator[SessionInfo]:
        """Yield the sessions on all pages of `list_sessions`.  Sessions that change meanwhile may be missed.

        Args:
            owner: As in `list_sessions`.
            prefix: As in `list_sessions`.
            all_namespaces: Include the sessions of all namespaces, one namespace after the other; not in a view.

        Raises:
            CorruptRecord: After all other sessions, if some are damaged.
            InvalidInput: An argument breaks a rule, or `all_namespaces` is set in a view.
        """
        query = self._query(owner, prefix, every=all_namespaces)
        if self._covers(owner):
            async for info in listing.infos(self.backend, query):
                yield info

    async def export_owner(self, owner: str, *, all_namespaces: bool = False) -> AsyncIterator[Session]:
        """Yield every session of an owner with all turns.  Sessions that change during the iteration are included.

        Args:
            owner: The owner.
            all_namespaces: As in `sessions`.

        Raises:
            CorruptRecord: After all other sessions, if some are damaged.
        """
        query = self._query(check_id(owner, "owner"), None, every=all_namespaces)
        if self._covers(owner):
            async for session in listing.export(self.backend, query, partial(self._read, touch=False)):
                yield session

    async def namespaces(self) -> AsyncIterator[str]:
        """Yield the namespaces that have sessions, sorted by their bytes, as `within` takes them.

        A view that `within` returned yields the names nested in its namespace: the view of `a` yields `b` if `a/b` or
        `a/b/c` has sessions.  Internal namespaces of layers are left out.

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
            SessionNotFound: The session does not exist and `expect` is `PRESENT`; or an owner is given, and the session
                has another owner or none.
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
        check_id(session_id, "session id")
        view = self if owner is None else self.for_owner(owner)
        read, append = partial(view.session, session_id), partial(view.append, session_id)
        return TurnWriter(read, append, turn_id=turn_id, metadata=metadata, expect=expect)

    async def resend(self, error: OutcomeUnknown, *, delays: Sequence[float] = DELAYS) -> Receipt:
        """Send the change of an `OutcomeUnknown` again, at most once more after each delay; return the receipt.

        The change is stored once, even if the first try had stored it.

        Args:
            error: The error.
            delays: Seconds to wait after each try without an answer.

        Raises:
            InvalidInput: The error has no change (a deletion has none), or its session is not in this view.
            OutcomeUnknown: No try was answered; this is the same error.
            Conflict: The change was not stored, and the session no longer meets the change's condition.
        """
        check_resendable(error)
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

        Without `expect`, `save` creates or extends the session, and never discards a message.  Saving a loaded list
        with more messages succeeds; saving it with changed messages raises `Conflict`.

        Args:
            session_id: The session.
            messages: A list or tuple of messages or their dictionaries, at least one.
            expect: The version that was loaded (or its `session` or `exact`): stored messages may be replaced.
                `ABSENT`: only create the session.  `PRESENT`: only extend it.  `ANY`: overwrite the stored history,
                even if a turn of it is damaged.
            begins_turn: Returns whether a message begins a turn.  None: each message of the user begins a turn, in the
                formats that turnlog recognises.  Stored turns that stay unchanged keep their boundaries.

        Raises:
            Conflict: `save` would discard messages, or the session does not meet `expect`.
            SessionNotFound: The session does not exist, and `expect` is `PRESENT`.
            InvalidInput: An argument breaks a rule.
        """
        access, wanted = self._access(self._key(session_id)), as_messages(messages)
        return await saving.save(access, wanted, expect, check_rule(begins_turn, wanted))

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
        return await editing.fork(self._access(self._key(source)), self._key(target), at, expect, change_id)

    async def rewind(
        self, session_id: str, *, turns: int | None = None, messages: int | None = None, expect: Expect = None
    ) -> Receipt:
        """Undo the last turns, or the last messages.

        If a turn loses only some of its messages, the rest is stored as a new turn; it may end with an unanswered tool
        call.  Without `expect`, `rewind` also undoes turns that other writers have just added.

        Args:
            session_id: The session.
            turns: The number of turns to undo; or
            messages: the number of messages to undo.
            expect: The condition on the session.

        Raises:
            SessionNotFound: The session does not exist.
            Conflict: The session does not meet `expect`.
            InvalidInput: Neither or both numbers are given, or one is larger than the session.
        """
        return await editing.rewind(self._access(self._key(session_id)), turns, messages, expect)

    async def pop(self, session_id: str) -> Turn | None:
        """Remove the last turn and return it; return None if the session has none.

        Raises:
            SessionNotFound: The session does not exist.
        """
        return await editing.pop(self._access(self._key(session_id)))

    async def pop_messages(self, session_id: str, n: int, *, expect: Expect = None) -> list[Message]:
        """Remove the last messages and return them, oldest first.

        Args:
            session_id: The session.
            n: The number of messages, from 1.  If the session has fewer, all are removed.  If a turn loses only some of
                its messages, the rest is stored as a new turn.
            expect: The condition on the session.

        Raises:
            SessionNotFound: The session does not exist.
            Conflict: The session does not meet `expect`.
        """
        return await editing.pop_messages(self._access(self._key(session_id)), n, expect)

    async def rewrite(
        self,
        session_id: str,
        messages: Sequence[MessageLike],
        *,
        from_turn: int,
        expect: Expect,
        begins_turn: TurnRule | None = None,
    ) -> Receipt:
        """Replace the turns from a number on, without reading them: for compaction, or an edit of earlier turns.

        Args:
            session_id: The session.
            messages: The messages in place of the removed turns; an empty list removes the turns only.
            from_turn: The number of the first turn to replace; the number of the next turn appends.
            expect: The condition on the session: mostly the version that was read.
            begins_turn: As in `save`.

        Raises:
            Conflict: The session does not meet `expect`.
            SessionNotFound: The session does not exist, and `expect` is not `ABSENT`.
            SplitsSealed: `from_turn` falls inside a sealed record that only a layer can decode.
        """
        key, begins = self._key(session_id), check_rule(begins_turn)
        check_number(from_turn, "from_turn", least=0)
        append = self._access(key).records(split_turns(as_messages(messages), begins))
        return await self._commit(key, keep=from_turn, append=append, expect=PRESENT if expect is None else expect)

    async def trim(self, session_id: str, *, before: int, expect: Expect = None) -> Receipt:
        """Drop the turns before a number, as `retain` does; the other turns keep their numbers.

        Args:
            session_id: The session.
            before: The number of the first turn to keep.
            expect: The condition on the session.

        Raises:
            SessionNotFound: The session does not exist.
            Conflict: The session does not meet `expect`.
            InvalidInput: No turn would remain.
        """
        return await editing.trim(self._access(self._key(session_id)), before, expect)

    async def merge_metadata(
        self,
        session_id: str,
        metadata: Mapping[str, JSON] | None = None,
        *,
        owner: str | None = None,
        ttl: float | None = None,
        expect: Expect = None,
    ) -> Receipt:
        """Set single metadata values, the owner, or the time to live of a session.  A missing session is created.

        Args:
            session_id: The session.
            metadata: Values by name; None removes a name.
            owner: The new owner; the empty string clears it.
            ttl: Seconds from the session's last use to its expiry; 0: it never expires.
            expect: The condition on the session; `version.exact` makes this a compare-and-set.

        Raises:
            Conflict: The session does not meet `expect`.
            SessionNotFound: The session does not exist and `expect` is `PRESENT`, or has another owner than the view.
            InvalidInput: No argument is given, or a value is not JSON.
            TooLarge: The metadata would exceed 1 MiB.
        """
        key = self._key(session_id)
        if metadata is None and owner is None and ttl is None:
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

    async def erase_owner(self, owner: str, *, all_namespaces: bool = False) -> Erased:
        """Remove every session of an owner; return their number, and a list of the data that may contain parts of them.

        A damaged session is removed if its owner can still be read; `Erased.damaged` reports the others.

        Args:
            owner: The owner.
            all_namespaces: As in `sessions`.

        Raises:
            Conflict: A session is still listed, but cannot be removed.
        """
        query = self._query(check_id(owner, "owner"), None, every=all_namespaces)
        return await listing.erase(self.backend, query) if self._covers(owner) else Erased(0)

    # -------------------------------------------------------------------------------------------------------- helpers

    @staticmethod
    def new_session_id() -> str:
        """Return an id for an anonymous session: 128 random bits that nobody can guess, safe in a URL."""
        return _new_session_id()

    def _check_owner(self, owner: str | None) -> None:
        if not self._covers(owner):
            raise InvalidInput(f"this view is for owner {self.owner!r}, not {owner!r}: use the original store")

    def _covers(self, owner: str | None) -> bool:
        return owner is None or self.owner in (None, owner)

    def _query(
        self, owner: str | None, prefix: str | None, limit: int = 100, cursor: str | None = None, *, every: bool = False
    ) -> Query:
        self.backend.check_open()
        if every and self._is_view:
            raise InvalidInput(f"all_namespaces needs the store itself, but this is the view {self!r}")
        namespace, owner = None if every else self.namespace, self.owner if owner is None else owner
        return Query(namespace=namespace, owner=owner, prefix=prefix, limit=limit, cursor=cursor)

    def _key(self, session_id: str) -> Key:
        if "trio" in modules:
            check_event_loop()
        return (cached_key if type(session_id) is str else Key)(self.namespace, session_id)

    async def _commit(
        self, key: Key, *, append: tuple[Record, ...] = (), keep: int | None = None, expect: Expect
    ) -> Receipt:
        retain, most = self.retain, self.max_session_bytes
        change = Change(append=append, keep=keep, retain=retain, max_bytes=most, expect=expect, for_owner=self.owner)
        return await self.backend.commit(key, change)

    def _access(self, key: Key) -> Access:
        return Access(key, self.backend, self.owner, self._read, self._commit, self._as_read)

    def __repr__(self) -> str:
        owner = "" if self.owner is None else f" owner={self.owner!r}"
        return f"<Store namespace={self.namespace!r}{owner} over {self.backend!r}>"
