"""`TurnlogSessionStore`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from anyio.to_thread import run_sync
from claude_agent_sdk import (
    SessionKey,
    SessionListSubkeysKey,
    SessionStore,
    SessionStoreEntry,
    SessionStoreListEntry,
    SessionSummaryEntry,
)

from turnlog import InvalidInput, SessionInfo, SessionNotFound, Store, encode_id
from turnlog.sync import call

from ._transcript import Transcript, details, is_transcript, mtime_of, session_id_of, summary_of

_P = ParamSpec("_P")
_T = TypeVar("_T")

_SUBAGENTS: Final = "subagents"
"""The namespace of the transcripts of subagents, within the namespace of their project."""

_TRANSCRIPTS: Final = 128
"""Maximum number of transcripts whose uuids are kept in memory: about 0.1 MB for 1,000 entries."""


def _under_asyncio(
    method: Callable[Concatenate[TurnlogSessionStore, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[TurnlogSessionStore, _P], Coroutine[Any, Any, _T]]:
    """Run a method in the event loop of `turnlog.sync` if its caller runs under trio: turnlog needs asyncio."""

    @wraps(method)
    async def run(self: TurnlogSessionStore, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return await run_sync(partial(call, method, self, *args, **kwargs))
        return await method(self, *args, **kwargs)

    return run


class TurnlogSessionStore(SessionStore):
    """A session store of the Claude Agent SDK: `ClaudeAgentOptions(session_store=TurnlogSessionStore(store))`.

    A transcript is a session of turnlog, and each batch of entries is a turn.  Transcripts are in a namespace of their
    project, which is nested in the namespace of `store`.  The transcripts of subagents are in the namespace `subagents`
    within it.  In a view of one owner, all of them belong to this owner.  Otherwise, the owner of a subagent's
    transcript is the id of its session.

    A batch is stored completely or not at all.  An entry with a uuid is stored once, even if the answer of the database
    is lost and the SDK sends the batch again.  Concurrent processes lose no batch.

    If the store does not have the session, the SDK looks for it in the folder `CLAUDE_CONFIG_DIR`, where transcripts of
    other owners and of erased sessions may be.  For several users, give each question an empty folder.

    Args:
        store: An open store or a view of it; the caller closes it.  Under trio, it is the `wrapped` of a store of
            `turnlog.sync`.

    Raises:
        InvalidInput: `store` is not a `turnlog.Store`, or it drops turns (`retain`).
    """

    def __init__(self, store: Store) -> None:
        if not isinstance(store, Store):
            raise InvalidInput(
                f"TurnlogSessionStore takes a turnlog.Store, not {type(store).__name__}: pass the store of "
                "'async with open_store(url) as store', or the attribute 'wrapped' of a store of turnlog.sync"
            )
        if store.retain is not None:
            raise InvalidInput(
                f"the store keeps the last {store.retain} turns of a session, but the SDK needs whole transcripts: "
                "open the store without retain="
            )
        self.store = store
        self._transcripts: dict[tuple[str, str, str | None], Transcript] = {}

    @_under_asyncio
    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Store a batch of entries as one turn, without the entries that are stored already.

        If the batch exceeds a limit of a turn, it is stored as several turns.

        Raises:
            InvalidInput: The key or an entry has the wrong form; nothing was stored.
            TooLarge: An entry exceeds a limit; entries before it may be stored.
            SessionNotFound: The session belongs to another owner than the view.
            Unavailable: The store could not be reached; nothing was stored.
            OutcomeUnknown: The answer was lost; the same batch can be sent again.
        """
        if entries:
            await self._transcript(key).append(entries)

    @_under_asyncio
    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return the entries of a transcript; None if it does not exist, or belongs to another owner than the view."""
        try:
            return await self._transcript(key).entries()
        except SessionNotFound:
            return None

    @_under_asyncio
    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the sessions of a project, most recently updated first."""
        return [
            {"session_id": session_id_of(info), "mtime": mtime_of(info)}
            for info in await _infos(self._project(project_key))
        ]

    @_under_asyncio
    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return the summaries of the sessions of a project; a very large summary is not stored, and left out."""
        summaries = [summary_of(info) for info in await _infos(self._project(project_key))]
        return [summary for summary in summaries if summary is not None]

    @_under_asyncio
    async def delete(self, key: SessionKey) -> None:
        """Remove a session with the transcripts of its subagents; with a `subpath`, only this transcript.

        After an error, call it again.
        """
        await self._transcript(key).erase()
        if "subpath" not in key:
            for subpath in await self._subpaths(key["project_key"], key["session_id"]):
                await self._transcript({**key, "subpath": subpath}).erase()

    @_under_asyncio
    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths of the transcripts of a session's subagents."""
        return await self._subpaths(key["project_key"], key["session_id"])

    def _project(self, project_key: str) -> Store:
        """Return the view of a project, nested in the namespace of the store."""
        name = encode_id(project_key)
        view = self.store.within(name)
        if view.namespace == name:  # the store is not a view of a namespace: its `within` replaces the namespace
            view = self.store.within(self.store.namespace).within(name)
        return view

    def _owner(self, session_id: str) -> str | None:
        """Return the owner of the transcripts of a session's subagents; None: the owner of the view."""
        return encode_id(session_id) if self.store.owner is None else None

    def _transcript(self, key: SessionKey) -> Transcript:
        name = key["project_key"], key["session_id"], key.get("subpath")
        transcript = self._transcripts.pop(name, None)
        if transcript is None:
            view, session_id = self._project(key["project_key"]), key["session_id"]
            if "subpath" not in key:
                transcript = Transcript(key, view, encode_id(session_id), None)
            elif key["subpath"]:
                session = encode_id(session_id, key["subpath"])
                transcript = Transcript(key, view.within(_SUBAGENTS), session, self._owner(session_id))
            else:
                raise InvalidInput("the subpath of a key is empty: leave it out of the key of the main transcript")
        self._transcripts[name] = transcript  # the order of the dictionary is the order of the last use
        if len(self._transcripts) > _TRANSCRIPTS:
            self._transcripts.pop(next(iter(self._transcripts)), None)
        return transcript

    async def _subpaths(self, project_key: str, session_id: str) -> list[str]:
        view = self._project(project_key).within(_SUBAGENTS)
        found = [details(info) for info in await _infos(view, self._owner(session_id))]
        return [str(one["subpath"]) for one in found if one["session_id"] == session_id]


async def _infos(view: Store, owner: str | None = None) -> list[SessionInfo]:
    return [info async for info in view.sessions(owner=owner) if is_transcript(info)]
