"""`TurnlogSessionService`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, Final
from urllib.parse import unquote
from weakref import WeakValueDictionary

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event
from google.adk.platform import time, uuid
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
from google.adk.sessions.state import State

from turnlog import (
    ABSENT,
    Conflict,
    InvalidInput,
    OutcomeUnknown,
    Receipt,
    SessionInfo,
    SessionNotFound,
    Store,
    Version,
    encode_id,
)

from ._events import Deltas, as_json, event_of, message_of, metadata_of, state_of

_NAMES: Final = "google_adk"
"""The metadata name of a list: the user and the session; for a state of a user, the user alone; for an app, nothing."""

_UPDATED: Final = "updated"
"""The metadata name of the time of the last event, in seconds since 1970."""

_APP: Final = "app:"
"""The id of the session with the state of an app.  Ids of sessions of users have two parts."""


class TurnlogSessionService(BaseSessionService):
    """A session service of ADK: `Runner(..., session_service=TurnlogSessionService(store))`.

    An app is the namespace `encode_id(app_name)`; on a view that `within` returned, it is nested.  A session of ADK is
    the session `encode_id(user_id, session_id)`, its owner is `encode_id(user_id)`, and each event is a turn with the
    id of the event.  The state of the session is metadata, which are stored together with the event.  The states
    `app:` and `user:` are the metadata of two further sessions.  They are stored before the event, so that no event is
    stored without its state.

    `append_event` stores an event once, even if the answer of the database is lost, or if the caller sends the event
    again.  It compares the version of the session: if another process has appended since, it raises
    `StaleSessionError`.  Tasks that share a `Session` object append one after the other.

    Args:
        store: An open store, or a view that `within` returned; the caller closes it.

    Raises:
        InvalidInput: `store` is not a `turnlog.Store`, or it is a view of one owner.
    """

    def __init__(self, store: Store) -> None:
        if not isinstance(store, Store):
            raise InvalidInput(
                f"TurnlogSessionService takes a turnlog.Store, not {type(store).__name__}: pass the store of "
                "'async with open_store(url) as store', or the attribute 'wrapped' of a store of turnlog.sync"
            )
        if store.owner is not None:
            raise InvalidInput(
                f"TurnlogSessionService cannot use the view of owner {store.owner!r}: the owner of a session is its "
                "user_id; to separate tenants, pass store.within(name)"
            )
        self.store = store
        self._locks: WeakValueDictionary[tuple[object, ...], asyncio.Lock] = WeakValueDictionary()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        app, session_id = self._app(app_name), (session_id or "").strip() or uuid.new_uuid()
        key, now, deltas = encode_id(user_id, session_id), time.get_time(), Deltas.of(as_json(state or {}))
        await self._store_shared(app, user_id, deltas, key, None)
        try:
            receipt = await _settled(
                app,
                app.merge_metadata(
                    key,
                    {_NAMES: [user_id, session_id], _UPDATED: now, **metadata_of(deltas.session)},
                    owner=encode_id(user_id),
                    expect=ABSENT,
                ),
            )
        except (Conflict, SessionNotFound):  # SessionNotFound: a session of another owner has this id
            raise AlreadyExistsError(f"Session with id {session_id} already exists.") from None
        shared = await self._shared(app, user_id)
        return _session(app_name, (user_id, session_id), now, {**deltas.session, **shared}, (), receipt.version)

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        app, names = self._app(app_name), (user_id, session_id.strip())
        config = config or GetSessionConfig()
        try:
            found, shared = await asyncio.gather(
                app.session(encode_id(*names), last=config.num_recent_events), self._shared(app, user_id)
            )
        except SessionNotFound:
            return None
        if _NAMES not in found.info.metadata:
            return None
        events = [event_of(message, found.info) for message in found.messages]
        if config.after_timestamp is not None:
            events = [event for event in events if event.timestamp >= config.after_timestamp]
        return _session_of(app_name, names, found.info, shared, events)

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        app, owner = self._app(app_name), None if user_id is None else encode_id(user_id)
        app_state, listed = await asyncio.gather(self._state(app, _APP, State.APP_PREFIX), _listed(app, owner))
        infos, user_states = dict[tuple[str, str], SessionInfo](), dict[str, dict[str, Any]]()
        for info in listed:
            match _names(info):
                case [user, session]:
                    infos[user, session] = info
                case [user]:
                    user_states[user] = state_of(info.metadata, State.USER_PREFIX)
        sessions = [
            _session_of(app_name, names, info, {**app_state, **user_states.get(names[0], {})})
            for names, info in infos.items()
        ]
        return ListSessionsResponse(
            sessions=sorted(sessions, key=lambda one: (one.last_update_time, one.user_id, one.id))
        )

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        await self._app(app_name).erase(encode_id(user_id, session_id.strip()))

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        return await self._state(self._app(app_name), _user_key(user_id), "")

    async def append_event(self, session: Session, event: Event) -> Event:
        if event.partial:
            return event
        message, deltas = message_of(event)
        app, key = self._app(session.app_name), encode_id(session.user_id, session.id)
        async with self._lock(session):
            version = await self._version(app, key, session)
            await self._store_shared(app, session.user_id, deltas, key, version)
            metadata = {_UPDATED: event.timestamp, **metadata_of(deltas.session)}
            try:
                receipt = await _settled(
                    app, app.append(key, [message], turn_id=event.id, expect=version, metadata=metadata)
                )
            except Conflict as error:
                raise _not_found(session) if error.actual is None else _stale(session) from None
            session.last_update_time = event.timestamp
            _mark(session, receipt.version)
            if any(known.id == event.id for known in reversed(session.events)):
                return event  # the caller has sent it again
            return await super().append_event(session, event)

    def _app(self, app_name: str) -> Store:
        return self.store.within(encode_id(app_name))

    def _lock(self, session: Session) -> asyncio.Lock:
        """Return the lock of a session in this event loop."""
        key = (asyncio.get_running_loop(), session.app_name, session.user_id, session.id)
        return self._locks.setdefault(key, asyncio.Lock())

    async def _version(self, app: Store, key: str, session: Session) -> Version:
        """Return the version of the stored session that a `Session` object shows.

        An object from another place, for example from JSON, has no version.  It is current if its last event is the
        last stored one.
        """
        if (marker := session._storage_update_marker) is not None:  # noqa: SLF001 - see _mark
            return Version.parse(marker)
        try:
            found = await app.session(key, last=1)
        except SessionNotFound:
            raise _not_found(session) from None
        stored = found.turns[-1].id if found.turns else None
        if stored != (session.events[-1].id if session.events else None):
            raise _stale(session)
        return found.version

    async def _state(self, app: Store, key: str, prefix: str) -> dict[str, Any]:
        try:
            return state_of((await app.touch(key)).metadata, prefix)
        except SessionNotFound:
            return {}

    async def _shared(self, app: Store, user_id: str) -> dict[str, Any]:
        """Return the states of an app and of its user, with their prefixes."""
        app_state, user_state = await asyncio.gather(
            self._state(app, _APP, State.APP_PREFIX), self._state(app, _user_key(user_id), State.USER_PREFIX)
        )
        return {**app_state, **user_state}

    async def _store_shared(self, app: Store, user_id: str, deltas: Deltas, key: str, version: Version | None) -> None:
        """Store the states of the app and the user, if the session is at a version; None: if it does not exist.

        Otherwise the event is stale, and is refused afterwards; or it is stored already, and the states with it.
        """
        if not (deltas.app or deltas.user):
            return
        try:
            current = (await app.info(key)).version
        except SessionNotFound:
            current = None
        if current is not None if version is None else current is None or not version.met_by(current):
            return
        if deltas.app:
            await _settled(app, app.merge_metadata(_APP, {_NAMES: [], **metadata_of(deltas.app)}))
        if deltas.user:
            metadata, owner = {_NAMES: [user_id], **metadata_of(deltas.user)}, encode_id(user_id)
            await _settled(app, app.merge_metadata(_user_key(user_id), metadata, owner=owner))


def _user_key(user_id: str) -> str:
    """Return the id of the session with the state of a user.  Ids of sessions of users have two parts."""
    return encode_id(user_id, "user:", "state")


async def _settled(store: Store, commit: Awaitable[Receipt]) -> Receipt:
    """Wait for a commit; if its answer is lost, send it again."""
    try:
        return await commit
    except OutcomeUnknown as error:
        return await store.resend(error)


async def _listed(app: Store, owner: str | None) -> list[SessionInfo]:
    return [info async for info in app.sessions(owner=owner)]


def _names(info: SessionInfo) -> list[str] | None:
    """Return the names of a session of ADK as in the metadata; None for a session of another program.

    A session that turnlog has forked has the names of the other session.  Its own names are the parts of its id.
    """
    match info.metadata.get(_NAMES):
        case [str(user), str(session)] if encode_id(user, session) != info.key.session:
            names = [unquote(part) for part in info.key.session.split("/")]
            return names if len(names) == 2 else None
        case list(names):
            return [str(name) for name in names]
    return None


def _session_of(
    app_name: str, names: tuple[str, str], info: SessionInfo, shared: dict[str, Any], events: Iterable[Event] = ()
) -> Session:
    updated = info.metadata[_UPDATED]
    state = {**state_of(info.metadata), **shared}
    return _session(app_name, names, float(str(updated)), state, events, info.version)


def _session(
    app_name: str, names: tuple[str, str], updated: float, state: dict[str, Any], events: Iterable[Event], at: Version
) -> Session:
    user_id, session_id = names
    session = Session(
        app_name=app_name, user_id=user_id, id=session_id, state=state, events=list(events), last_update_time=updated
    )
    _mark(session, at)
    return session


def _mark(session: Session, version: Version) -> None:
    """Keep the version in the private attribute in which ADK's own services keep their revision.

    ADK copies it together with the session.  Without it, `append_event` compares the last event.
    """
    session._storage_update_marker = str(version)  # noqa: SLF001


def _not_found(session: Session) -> SessionNotFoundError:
    return SessionNotFoundError(f"Session {session.id} not found.")


def _stale(session: Session) -> StaleSessionError:
    return StaleSessionError(
        f"Session {session.id} has been modified in storage since it was loaded: load it again with get_session, and "
        "repeat the run."
    )
