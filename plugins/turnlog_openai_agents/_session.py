"""`TurnlogSession`: a session of the OpenAI Agents SDK over a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast
from uuid import uuid4
from weakref import WeakKeyDictionary

from agents import RunContextWrapper, TResponseInputItem
from agents.memory import SessionSettings
from agents.memory.session_settings import coerce_session_settings, resolve_session_limit

from turnlog import (
    ABSENT,
    Conflict,
    Expect,
    InvalidInput,
    Key,
    Message,
    OutcomeUnknown,
    Session,
    SessionNotFound,
    Store,
)

from ._compaction import Snapshot, snapshot_of
from ._writing import completed, settled


class _Round(NamedTuple):
    """The place of the next round of a run.

    Attributes:
        turn_id: The turn of the run.
        part: The number of the round in the turn.
        expect: The session in which the run has begun; None: the run has stored nothing.
    """

    turn_id: str
    part: int = 0
    expect: Expect = None


class TurnlogSession:
    """A session of the OpenAI Agents SDK: `Runner.run(agent, "Hello", session=TurnlogSession(store, "alice"))`.

    A run of the `Runner` is one turn, and each call of `add_items` is one round of it, stored atomically.  The turn is
    closed by an answer of the assistant.  A turn that waits for an approval stays open, and the resumed run continues
    it, also in another process.  If another run has written in between, the rest of the run is a turn of its own.

    A lost answer of the store is settled: the same change is sent again, and is stored once.  A call that is cancelled
    ends after its write.  If the session is erased during a run, the run's next write raises `Conflict`.

    An object holds no connection and is cheap to make.  Any number of objects, in any number of processes, may use one
    session at once.  The caller opens and closes the store.

    Args:
        store: An opened store, or a view of it, such as `store.for_owner("ann")`.
        session_id: The session, 1 to 255 bytes of UTF-8 without control characters.
        session_settings: The settings of the SDK, or their dictionary: `limit` is the default of `get_items`.

    Attributes:
        store: The store.
        session_id: The session.
        session_settings: The settings.

    Raises:
        InvalidInput: `store` is not a `Store`, or the session id breaks a rule.
        TypeError: A setting does not exist.
    """

    def __init__(
        self,
        store: Store,
        session_id: str,
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(store, Store):
            raise InvalidInput(
                f"TurnlogSession takes an opened turnlog.Store and a session id, not {type(store).__name__}: "
                "write TurnlogSession(store, 'alice')"
            )
        self.store = store
        self.session_id = Key(store.namespace, session_id).session
        self.session_settings: SessionSettings | None = coerce_session_settings(session_settings or SessionSettings())
        self._rounds: WeakKeyDictionary[object, _Round] = WeakKeyDictionary()
        self._compacted: Expect = None

    async def get_items(
        self,
        limit: int | None = None,
        *,
        wrapper: RunContextWrapper[Any] | None = None,  # noqa: ARG002 - the Runner passes it to all methods or to none
    ) -> list[TResponseInputItem]:
        """Return the items of the session, oldest first.

        Args:
            limit: The number of items at the end; None: the limit of the settings.  None there, or a negative number,
                means all items, as in the SDK's `SQLiteSession`.
            wrapper: Not used.

        Raises:
            CorruptRecord: A stored item cannot be read.
        """
        last = self._resolved(limit)
        items = _items(await self._read(last))
        return items if last is None or last >= len(items) else items[len(items) - last :]

    async def add_items(
        self, items: list[TResponseInputItem], *, wrapper: RunContextWrapper[Any] | None = None
    ) -> None:
        """Store items at the end of the session, all or none of them.

        Args:
            items: The items; an empty list stores nothing.
            wrapper: The context of the run; the `Runner` passes it.  None: an item that is neither an answer of the
                assistant nor an item of a tool begins a turn.

        Raises:
            InvalidInput: An item is not JSON.
            TooLarge: The items exceed a limit.
            SessionNotFound: The session belongs to another owner than the view.
            Conflict: The session was erased, or has expired, since the run has begun.
            Unavailable: The store could not be reached; nothing was stored.
            OutcomeUnknown: The store did not answer for about 25 seconds; the items may be stored.
        """
        if items:
            messages = [Message.from_dict(cast("dict[str, Any]", item)) for item in items]
            await completed(self._add(messages, self if wrapper is None else wrapper))

    async def pop_item(
        self,
        *,
        wrapper: RunContextWrapper[Any] | None = None,  # noqa: ARG002 - as in get_items
    ) -> TResponseInputItem | None:
        """Remove the last item of the session and return it; return None if there is none.

        Args:
            wrapper: Not used.

        Raises:
            CorruptRecord: The last turn cannot be read; nothing is removed.
            Unavailable: As in `add_items`.
            OutcomeUnknown: As in `add_items`.
        """
        return await completed(self._pop())

    async def clear_session(
        self,
        *,
        wrapper: RunContextWrapper[Any] | None = None,  # noqa: ARG002 - as in get_items
    ) -> None:
        """Erase the session, with its metadata and its owner.

        Args:
            wrapper: Not used.

        Raises:
            Unavailable: As in `add_items`.
            OutcomeUnknown: As in `add_items`.
        """
        self._rounds.clear()
        await completed(self._erase())

    def _resolved(self, limit: int | None) -> int | None:
        limit = resolve_session_limit(limit, self.session_settings)
        return None if limit is None or limit < 0 else limit

    async def _read(self, last: int | None = None) -> Session | None:
        try:
            return await self.store.session(self.session_id, last=last)
        except SessionNotFound:
            return None

    async def _add(self, messages: list[Message], run: object) -> None:
        at = await self._next_round(messages[0], run)
        more = not _is_answer(messages[-1])
        try:
            at = await self._append(messages, at, more=more)
        except Conflict:
            if at.expect is None:
                raise
            # another run has begun a turn since; if the session was erased instead, this raises again
            at = await self._append(messages, _Round(uuid4().hex, expect=at.expect), more=more)
        if more:
            self._rounds[run] = at

    async def _next_round(self, first: Message, run: object) -> _Round:
        """Return the place of the next round of a run, whose first item is given."""
        at = self._rounds.pop(run, None)
        begins = _begins_run(first)
        if at is not None and not (run is self and begins):
            return at
        session = None if begins else await self._read(1)
        if session is not None and session.records and session.records[-1].open:  # a run that waited for an approval
            last = session.records[-1]
            return _Round(last.id, last.part + 1, session.version.session)
        return _Round(uuid4().hex)

    async def _append(self, messages: list[Message], at: _Round, *, more: bool) -> _Round:
        """Store a round and return the place of the round after it."""
        write = self.store.append(
            self.session_id, messages, turn_id=at.turn_id, part=at.part, open=more, expect=at.expect
        )
        receipt = await settled(self.store, write)
        return _Round(at.turn_id, at.part + 1, receipt.version.session)

    async def _pop(self) -> TResponseInputItem | None:
        while True:
            session = await self._read(1)
            if session is None or not session.turns:
                return None
            try:
                write = self.store.rewind(self.session_id, messages=1, expect=session.version)
                await settled(self.store, write)
            except Conflict:  # another writer has changed the end since it was read
                continue
            return _items(session)[-1]

    async def _erase(self) -> None:
        try:
            await self.store.erase(self.session_id)
        except OutcomeUnknown:  # it has no change to send again, and a second deletion does no harm
            await self.store.erase(self.session_id)

    # ---------------------------------------------------------------------------------------------------- compaction
    # OpenAIResponsesCompactionSession looks these methods up.  They are private in 0.24; a version that does not know
    # them clears the session and adds the new items.

    async def _get_compaction_snapshot(
        self, limit: int, *, prune_prefix: Callable[[Any], bool] | None = None
    ) -> Snapshot | None:
        """Return the last items and their atomic replacement; None: the caller must use the public methods."""
        if self._transforms_items():
            return None
        session = await self._read(limit if prune_prefix is None else None)
        return None if session is None or not session.turns else snapshot_of(self.store, session, limit, prune_prefix)

    async def _read_compaction_items(self, limit: int | None) -> tuple[list[TResponseInputItem], bool]:
        """Return the items to compact and whether they are all; note the version for `_atomic_replace_items`."""
        if self._transforms_items():
            items = await self.get_items(limit)
            return items, limit is not None and len(items) < limit
        session = await self._read(self._resolved(limit))
        self._compacted = ABSENT if session is None else session.version
        return _items(session), session is None or session.info.messages == len(session.messages)

    async def _atomic_replace_items(self, items: list[TResponseInputItem]) -> bool:
        """Replace all items; return False if the caller must use the public methods.

        Raises:
            Conflict: The session has changed since the items to compact were read; nothing was replaced.
        """
        if self._transforms_items():
            return False
        messages = [Message.from_dict(cast("dict[str, Any]", item)) for item in items]
        write = self.store.rewrite(self.session_id, messages, from_turn=0, expect=self._compacted)
        await completed(settled(self.store, write))
        return True

    def _transforms_items(self) -> bool:
        """Return whether a subclass reads or writes other items than this class."""
        kind = type(self)
        return kind.get_items is not TurnlogSession.get_items or kind.add_items is not TurnlogSession.add_items


def _items(session: Session | None) -> list[TResponseInputItem]:
    return [] if session is None else cast("list[TResponseInputItem]", session.to_dicts())


def _begins_run(item: Message) -> bool:
    """Return whether an item is input of a run, and not an answer, a call or a result of a tool."""
    return item.role != "assistant" and item.get("type", "message") == "message"


def _is_answer(item: Message) -> bool:
    """Return whether an item is a message of the assistant, which ends a run."""
    return item.role == "assistant" and item.get("type", "message") == "message"
