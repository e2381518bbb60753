"""`TurnlogConversationStore`: the conversations of pydantic-ai in a turnlog store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from turnlog import (
    ABSENT,
    Conflict,
    InvalidInput,
    OutcomeUnknown,
    SessionInfo,
    SessionNotFound,
    Store,
    Version,
    encode_id,
)

from ._log import StoredEntry, decode_entries, decode_record, encode_record, encode_save, entries_of, last_record

_LISTED: Final = "pydantic_ai"
"""The name of the metadata for lists: a copy of the last record, and the number of turns at that time."""


class _EntryId(str):
    """The id of an entry that also names its conversation, because `read_history` gets only the id."""

    __slots__ = ("conversation_id",)

    conversation_id: str

    @classmethod
    def of(cls, entry_id: str, conversation_id: str) -> _EntryId:
        found = cls(entry_id)
        found.conversation_id = conversation_id
        return found


class _Found(NamedTuple):
    """The state of a conversation: its record, and the version and the number of turns of its session."""

    record: ConversationRecord | None = None
    version: Version | None = None
    turns: int = 0

    @property
    def revision(self) -> str | None:
        return None if self.record is None else self.record.revision


class TurnlogConversationStore(ConversationStore):
    """A `ConversationStore` that keeps each conversation in a session, and each save of it in a turn.

    The id of the session is `encode_id(conversation_id)`, its owner is `encode_id(scope)`, and the id of the turn is
    the revision of the record.  A save is one atomic commit that compares the version of the session.  If the answer is
    lost, the same commit is sent again, and stored once.

    A session keeps the entries of all branches.  A fork starts with a copy of the history that it shares.  `delete`
    removes the session with all its entries; forks keep their copies.

    Args:
        store: An opened store, or a view of one.  Its owner closes it.

    Raises:
        InvalidInput: `store` is not a `Store`.
    """

    def __init__(self, store: Store) -> None:
        if not isinstance(store, Store):
            raise InvalidInput(f"store must be a turnlog.Store, not {type(store).__name__}: open one with open_store")
        self._store = store

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        return (await self._find(conversation_id)).record

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        records: list[ConversationRecord] = []
        if limit == 0:
            return records
        async for info in self._store.sessions(owner=None if scope is None else encode_id(scope)):
            record = await self._listed(info)
            if record is not None and (scope is None or record.scope == scope):
                records.append(record)
                if len(records) == limit:
                    break
        return sorted(records, key=lambda record: record.updated_at, reverse=True)

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        found, conversation_id = await self._find(record.conversation_id), record.conversation_id
        if found.revision != expected_revision:
            raise ConversationConflict(conversation_id)
        if found.record is not None and found.record.scope != record.scope:
            raise InvalidInput(
                f"conversation {conversation_id!r} has the scope {found.record.scope!r}, not {record.scope!r}: a scope "
                "is set by the first save; to change it, fork the conversation"
            )
        data = encode_record(record)
        messages = encode_save([*await self._shared(record, new_entries, found), *new_entries], data)
        try:
            try:
                await self._store.append(
                    encode_id(conversation_id),
                    messages,
                    expect=ABSENT if found.version is None else found.version,
                    turn_id=record.revision,
                    owner=encode_id(record.scope) if found.record is None and record.scope is not None else None,
                    metadata={_LISTED: {"turns": found.turns + 1, "record": data}},
                )
            except OutcomeUnknown as error:
                await self._store.resend(error)
        except (Conflict, SessionNotFound) as error:  # SessionNotFound: another owner has created it meanwhile
            raise ConversationConflict(conversation_id) from error

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        found = await self._find(conversation_id)
        if found.record is None or found.revision != expected_revision:
            raise ConversationConflict(conversation_id)
        try:
            await self._store.erase(encode_id(conversation_id), expect=found.version)
        except Conflict as error:
            raise ConversationConflict(conversation_id) from error

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        return (await self.read_history(entry_id, limit=1))[0]

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        if head_id is None or limit == 0:
            return []
        home = head_id.conversation_id if isinstance(head_id, _EntryId) else await self._home(head_id)
        for last in dict.fromkeys((limit, None)):  # None: entries of other branches stood between those of the history
            session = await self._store.session(encode_id(home), last=last)
            entries, history = entries_of(session), list[StoredEntry]()
            entry_id: str | None = head_id
            while entry_id in entries and len(history) != limit:
                history.append(entries[entry_id])
                entry_id = entries[entry_id].parent_id
            is_cut = last is None and session.info.first > 0  # `retain` has dropped the entries before
            if len(history) == limit or entry_id is None or is_cut:
                return decode_entries(history[::-1])
        raise KeyError(f"conversation {home!r} has no entry {entry_id!r}")

    async def _find(self, conversation_id: str) -> _Found:
        session_id = encode_id(conversation_id)
        try:
            session = await self._store.session(session_id, last=1)
            info, record = session.info, last_record(session.messages)
            if record is None and info.turns > info.first:  # another program has added a turn
                session = await self._store.session(session_id)
                info, record = session.info, last_record(session.messages)
        except SessionNotFound:
            return _Found()
        if record is None and info.turns > info.first:
            raise InvalidInput(
                f"session {info.key} holds turns, but no conversation of pydantic-ai: choose another conversation_id, "
                "or keep conversations in a namespace of their own: store.within(name)"
            )
        return _Found(None if record is None else _placed(record, conversation_id), info.version, info.turns)

    async def _listed(self, info: SessionInfo) -> ConversationRecord | None:
        """Return the record of a listed session; None if the session is not a conversation of pydantic-ai."""
        listed, session_id = info.metadata.get(_LISTED), info.key.session
        if not isinstance(listed, dict):
            return None
        if listed.get("turns") == info.turns:
            record = decode_record(listed["record"])
        else:  # turns were added, undone, or left out of a fork, without pydantic-ai
            try:
                session = await self._store.session(session_id, touch=False)
            except SessionNotFound:
                return None
            if (last := last_record(session.messages)) is None:
                return None
            record = last
        is_home = encode_id(record.conversation_id) == session_id
        return _placed(record, record.conversation_id if is_home else session_id)

    async def _shared(
        self, record: ConversationRecord, new_entries: Sequence[ConversationEntry], found: _Found
    ) -> list[ConversationEntry]:
        """Return the entries that a conversation shares with the one that it is forked from, and does not hold yet."""
        needed = {record.head_id, *(entry.parent_id for entry in new_entries)}
        missing = {id for id in needed if id is not None} - {entry.id for entry in new_entries}
        if found.record is not None:
            missing.discard(found.record.head_id or "")
            if missing:
                missing -= entries_of(await self._store.session(encode_id(record.conversation_id))).keys()
        shared: dict[str, ConversationEntry] = {}
        try:
            for entry_id in missing:
                head = entry_id if record.forked_from is None else _EntryId.of(entry_id, record.forked_from)
                shared |= {entry.id: entry for entry in await self.read_history(head)}
        except LookupError as error:
            raise ConversationConflict(record.conversation_id) from error
        if missing - shared.keys():  # `retain` has dropped them
            raise ConversationConflict(record.conversation_id)
        return list(shared.values())

    async def _home(self, entry_id: str) -> str:
        """Return the conversation with an entry: a search through all conversations, the latest first."""
        async for info in self._store.sessions():
            record = await self._listed(info)
            if record is not None and entry_id in entries_of(await self._store.session(info.key.session, touch=False)):
                return record.conversation_id
        raise KeyError(f"no conversation has the entry {entry_id!r}")


def _placed(record: ConversationRecord, conversation_id: str) -> ConversationRecord:
    """Return a record whose ids of entries name the conversation.

    A session that turnlog has forked holds records with the id of the other conversation.
    """
    return replace(
        record,
        conversation_id=conversation_id,
        head_id=None if record.head_id is None else _EntryId.of(record.head_id, conversation_id),
        branches=[_EntryId.of(branch, conversation_id) for branch in record.branches],
    )
