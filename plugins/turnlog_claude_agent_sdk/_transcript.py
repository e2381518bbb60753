"""`Transcript`: one transcript, in its session of turnlog."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from claude_agent_sdk import SessionKey, SessionStoreEntry, SessionSummaryEntry, fold_session_summary

from turnlog import (
    ABSENT,
    Conflict,
    Expect,
    InvalidInput,
    OutcomeUnknown,
    Session,
    SessionInfo,
    SessionNotFound,
    Store,
    TooLarge,
    Version,
    encode_id,
)

from ._entries import as_entry, as_message, batch_id, uuid_of

_METADATA: Final = "claude_agent_sdk"
"""The name of the metadata: the `session_id`, the `subpath` of a subagent's transcript, and the `summary`."""

_SUMMARY_BYTES: Final = 65_536
"""Maximum size of a summary as JSON: a listing returns all summaries.  The SDK computes each one that is missing."""


class Transcript:
    """One transcript, and the state in which this process has last read or written it.

    Args:
        key: The key of the transcript.
        view: The namespace of its session.
        name: The id of its session.
        owner: The owner of a new session; None: the owner of the view.
    """

    def __init__(self, key: SessionKey, view: Store, name: str, owner: str | None) -> None:
        self._key = key.copy()
        self._view = view
        self._name = name
        self._owner = owner
        self._expect: Expect = None  # None: unknown
        self._stored: set[str] = set()  # the uuids of the stored entries, and the ids of the stored batches
        self._summary: SessionSummaryEntry | None = None

    async def entries(self) -> list[SessionStoreEntry]:
        """Return all entries.

        Raises:
            SessionNotFound: The session does not exist, or belongs to another owner than the view.
            InvalidInput: The session holds no transcript.
        """
        return self._seen(await self._view.session(self._name))

    async def append(self, entries: Sequence[SessionStoreEntry]) -> None:
        """Store the entries that are not stored yet, as one turn; as several turns if they exceed a limit of a turn."""
        turn_id = batch_id(entries)
        try:
            if self._expect is None or len(self._new(entries, turn_id)) < len(entries):
                await self._read()  # another process may have erased the session: only a read proves a repeat
            while new := self._new(entries, turn_id):
                try:
                    await self._write(new, turn_id)
                except Conflict:  # another process has written
                    await self._read()
                except TooLarge:
                    if len(entries) == 1:
                        raise
                    await self.append(entries[: len(entries) // 2])
                    await self.append(entries[len(entries) // 2 :])
                    return
                else:
                    return
        except BaseException:
            self._expect = None  # the turn may be stored: the next call reads the session
            raise

    async def erase(self) -> None:
        """Remove the session."""
        await self._view.erase(self._name)

    def _new(self, entries: Sequence[SessionStoreEntry], turn_id: str | None) -> list[SessionStoreEntry]:
        """Return the entries to store: without known uuids, and none at all if the whole batch is stored."""
        if turn_id in self._stored:
            return []
        new: dict[str | int, SessionStoreEntry] = {}
        for place, entry in enumerate(entries):
            uuid = uuid_of(entry)
            if uuid not in self._stored:
                new.setdefault(place if uuid is None else uuid, entry)
        return [*new.values()]

    async def _read(self) -> None:
        """Read the turns that follow the known ones."""
        since = self._expect if isinstance(self._expect, Version) else None
        try:
            session = await self._view.session(self._name, since=since)
        except SessionNotFound:
            self._expect, self._stored, self._summary = ABSENT, set(), None
            return
        self._seen(session)

    def _seen(self, session: Session) -> list[SessionStoreEntry]:
        """Take over the state of a session that was read, and return its entries."""
        summary = summary_of(session.info)
        entries = [as_entry(message) for message in session.to_dicts()]
        if not session.continues:
            self._stored = set()
        self._stored.update(_uuids(entries), (turn.id for turn in session.turns))
        self._expect, self._summary = session.version, summary
        return entries

    async def _write(self, entries: Sequence[SessionStoreEntry], turn_id: str | None) -> None:
        summary = None if "subpath" in self._key else self._folded(entries)
        is_described = self._expect is not ABSENT and summary == self._summary
        try:
            receipt = await self._view.append(
                self._name,
                [as_message(entry) for entry in entries],
                turn_id=turn_id,
                expect=self._expect,
                owner=self._owner,
                metadata=None if is_described else self._described(summary),
            )
        except OutcomeUnknown as error:
            receipt = await self._view.resend(error)
        self._expect, self._summary = receipt.version, summary
        self._stored.update(_uuids(entries), () if turn_id is None else (turn_id,))

    def _described(self, summary: SessionSummaryEntry | None) -> dict[str, Any]:
        """Return the metadata of the session."""
        found: dict[str, Any] = {"session_id": self._key["session_id"]}
        if "subpath" in self._key:
            found["subpath"] = self._key["subpath"]
        if summary is not None:
            found["summary"] = summary["data"]
        return {_METADATA: found}

    def _folded(self, entries: Sequence[SessionStoreEntry]) -> SessionSummaryEntry | None:
        """Return the summary of the transcript with these entries; None if it is too large, or was before."""
        if self._summary is None and self._expect is not ABSENT:
            return None
        summary = fold_session_summary(self._summary, self._key, [*entries])
        return summary if len(json.dumps(summary["data"])) <= _SUMMARY_BYTES else None


def details(info: SessionInfo) -> dict[str, Any]:
    """Return the metadata of a transcript's session.

    Raises:
        InvalidInput: The session holds no transcript.
    """
    found = info.metadata.get(_METADATA)
    if not isinstance(found, dict):
        raise InvalidInput(
            f"session {info.key} holds no transcript of the Claude Agent SDK: TurnlogSessionStore reads the sessions "
            "that it has written"
        )
    return found


def is_transcript(info: SessionInfo) -> bool:
    """Return whether a session holds a transcript."""
    return _METADATA in info.metadata


def session_id_of(info: SessionInfo) -> str:
    """Return the SDK's id of a session; a fork of turnlog has another id than its metadata."""
    name = info.key.session
    if "%" not in name:
        return name  # `encode_id` has changed nothing: the metadata need not be decoded
    written = str(details(info)["session_id"])
    return written if encode_id(written) == name else name


def mtime_of(info: SessionInfo) -> int:
    """Return the time of the last change, in milliseconds since 1970."""
    return int(info.updated * 1000)


def summary_of(info: SessionInfo) -> SessionSummaryEntry | None:
    """Return the stored summary of a session; None if it has none."""
    data = details(info).get("summary")
    return None if data is None else {"session_id": session_id_of(info), "mtime": mtime_of(info), "data": data}


def _uuids(entries: Sequence[SessionStoreEntry]) -> set[str]:
    return {uuid for entry in entries if (uuid := uuid_of(entry)) is not None}
