"""`TurnlogSessionRepository`: the sessions, agents and messages of Strands Agents in a turnlog store."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage

import turnlog
import turnlog.sync
from turnlog import (
    ABSENT,
    ANY,
    PRESENT,
    Conflict,
    IdReused,
    InvalidInput,
    Message,
    OutcomeUnknown,
    SessionNotFound,
    encode_id,
)

if TYPE_CHECKING:
    from strands.multiagent import MultiAgentBase

_P = ParamSpec("_P")

_OURS: Final = "strands"
"""The entry of a message, or of metadata, that holds the data of Strands."""


class TurnlogSessionRepository(SessionRepository):
    """A `SessionRepository` for `RepositorySessionManager`.

    Each agent is a session with the id `encode_id(session_id, agent_id)`; its state is in the metadata.  A turn begins
    with a message of the user, and each message is stored as one round of it.  The session of Strands is a session
    without turns, with the id `encode_id(session_id)`.

    A message is stored only if nobody has added messages since `list_messages` and `create_message` of this agent
    determined its number; otherwise `create_message` raises `SessionException`.  If the answer to a write is lost, the
    write is sent again, and stored once.

    Args:
        store: An opened store of `turnlog` or `turnlog.sync`, or a view of one.  Its owner closes it.

    Raises:
        InvalidInput: `store` is not a store.
    """

    def __init__(self, store: turnlog.Store | turnlog.sync.Store) -> None:
        if isinstance(store, turnlog.Store):
            store = turnlog.sync.Store.over(store)
        if not isinstance(store, turnlog.sync.Store):
            raise InvalidInput(f"store must be a turnlog.Store or a turnlog.sync.Store, not {type(store).__name__}")
        self._store = store

    # --------------------------------------------------------------------------------------------- sessions and agents

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        self._create(encode_id(session.session_id), session.to_dict(), f"Session {session.session_id}")
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        data = self._metadata(encode_id(session_id)).get(_OURS)
        return None if data is None else Session.from_dict({**data, "session_id": session_id})

    def delete_session(self, session_id: str) -> None:
        """Remove a session with all its agents.

        Raises:
            SessionException: The session does not exist.
        """
        while True:
            try:
                info = self._store.info(encode_id(session_id))
                for member in info.metadata:
                    if member != _OURS:
                        self._store.erase(member)
                self._store.erase(encode_id(session_id), expect=info.version.exact)
            except SessionNotFound as error:
                raise SessionException(f"Session {session_id} does not exist") from error
            except Conflict:  # another process has added an agent
                continue
            return

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        key = self._member(session_id, session_agent.agent_id)
        self._create(key, session_agent.to_dict(), f"Agent {session_agent.agent_id} in session {session_id}")

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        data = self._metadata(encode_id(session_id, agent_id)).get(_OURS)
        return None if data is None else SessionAgent.from_dict({**data, "agent_id": agent_id})

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        previous = self.read_agent(session_id, session_agent.agent_id)
        if previous is None:
            raise SessionException(f"Agent {session_agent.agent_id} in session {session_id} does not exist")
        session_agent.created_at = previous.created_at
        key = encode_id(session_id, session_agent.agent_id)
        self._send(self._store.merge_metadata, key, {_OURS: _plain(session_agent.to_dict())}, expect=PRESENT)

    # -------------------------------------------------------------------------------------------------------- messages

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        key, number = encode_id(session_id, agent_id), session_message.message_id
        session = self._session(session_id, agent_id, last=1)
        turn = session.turns[-1] if session.turns else None
        if turn is not None and number <= _decoded(turn.messages[-1]).message_id:
            raise _late(session_id, agent_id, number)
        message = _encoded(session_message)
        is_open = message.role != "assistant" or _has(message, "toolUse")
        try:
            if turn is None or _begins_turn(message):
                self._send(self._store.append, key, [message], open=is_open, expect=session.version)
            elif turn.open:
                part = len(turn.messages)  # one message is one round
                self._send(
                    self._store.append, key, [message], turn_id=turn.id, part=part, open=is_open, expect=session.version
                )
            else:  # `update_message` has closed the turn, or the assistant has added to its answer
                messages = [*turn.messages, message]
                self._send(
                    self._store.rewrite,
                    key,
                    messages,
                    from_turn=turn.number,
                    expect=session.version,
                    begins_turn=lambda _: False,
                )
        except (Conflict, IdReused) as error:  # IdReused: another process has stored this round of the turn
            raise _late(session_id, agent_id, number) from error

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        if self.read_agent(session_id, agent_id) is None:
            return None
        messages = self.list_messages(session_id, agent_id)
        return next((message for message in messages if message.message_id == message_id), None)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        while True:
            session = self._session(session_id, agent_id)
            messages, number = session.messages, session_message.message_id
            place = next((i for i, it in enumerate(messages) if _decoded(it).message_id == number), None)
            if place is None:
                raise SessionException(f"Message {number} does not exist in agent {agent_id} in session {session_id}")
            session_message.created_at = _decoded(messages[place]).created_at
            messages[place] = _encoded(session_message)
            key = encode_id(session_id, agent_id)
            try:
                self._send(self._store.save, key, messages, expect=session.version, begins_turn=_begins_turn)
            except Conflict:  # another process has added a message
                continue
            return

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        if offset < 0 or (limit is not None and limit < 0):
            raise InvalidInput(f"limit and offset must not be negative, but they are {limit} and {offset}")
        session = self._session(session_id, agent_id)
        messages = [_decoded(message) for message in session.messages]
        if session.info.first and messages:  # `retain` has dropped messages, and the offset counts them
            offset = max(0, offset - messages[0].message_id)
        return messages[offset : None if limit is None else offset + limit]

    # ---------------------------------------------------------------------------------------------------- multi-agents

    def create_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        self._save_state(self._member(session_id, "multi_agents", multi_agent.id), multi_agent)

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        try:
            state: Any = self._store.load(encode_id(session_id, "multi_agents", multi_agent_id))[0].get(_OURS)
        except SessionNotFound:
            return None
        return dict(state)

    def update_multi_agent(self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any) -> None:
        if self.read_multi_agent(session_id, multi_agent.id) is None:
            raise SessionException(f"MultiAgent {multi_agent.id} does not exist in session {session_id}")
        self._save_state(encode_id(session_id, "multi_agents", multi_agent.id), multi_agent)

    # --------------------------------------------------------------------------------------------------------- helpers

    def _send(self, write: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            write(*args, **kwargs)
        except OutcomeUnknown as error:
            self._store.resend(error)

    def _create(self, key: str, data: dict[str, Any], what: str) -> None:
        try:
            self._send(self._store.merge_metadata, key, {_OURS: _plain(data)}, expect=ABSENT)
        except (Conflict, SessionNotFound) as error:  # SessionNotFound: it belongs to another owner
            raise SessionException(f"{what} already exists") from error

    def _member(self, session_id: str, *names: str) -> str:
        """Write the id of a part of a session into the metadata of the session, for `delete_session`, and return it."""
        key = encode_id(session_id, *names)
        try:
            self._send(self._store.merge_metadata, encode_id(session_id), {key: True}, expect=PRESENT)
        except SessionNotFound as error:
            raise SessionException(f"Session {session_id} does not exist") from error
        return key

    def _metadata(self, key: str) -> dict[str, Any]:
        try:
            return dict(self._store.info(key).metadata)
        except SessionNotFound:
            return {}

    def _session(self, session_id: str, agent_id: str, last: int | None = None) -> turnlog.Session:
        try:
            session = self._store.session(encode_id(session_id, agent_id), last=last)
        except SessionNotFound as error:
            raise SessionException(f"Agent {agent_id} does not exist in session {session_id}") from error
        if _OURS not in session.info.metadata:
            raise InvalidInput(f"session {session.info.key} holds no agent of Strands: choose another id or namespace")
        return session

    def _save_state(self, key: str, multi_agent: MultiAgentBase) -> None:
        self._send(self._store.save, key, [{_OURS: _plain(multi_agent.serialize_state())}], expect=ANY)


def _late(session_id: str, agent_id: str, number: int) -> SessionException:
    return SessionException(
        f"Message {number} already exists in agent {agent_id} in session {session_id}: another process has added "
        "messages since this agent was loaded. To continue, make a new agent with a new session manager"
    )


def _has(message: Message, kind: str) -> bool:
    content = message.content
    return isinstance(content, list) and any(isinstance(block, dict) and kind in block for block in content)


def _begins_turn(message: Message) -> bool:
    return message.role == "user" and not _has(message, "toolResult")


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return data as JSON keeps it: FileSessionManager also stores tuples as lists, and keys as strings."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(data))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"data of Strands cannot be stored as JSON: {error}") from error
    return plain


def _encoded(record: SessionMessage) -> Message:
    """Return the message that the model sees, with the rest of the record in one more entry."""
    data = _plain(record.to_dict())
    shown = data["redact_message"] or data.pop("message")
    return Message.from_dict({**shown, _OURS: data})


def _decoded(message: Message) -> SessionMessage:
    shown = message.to_dict()
    data: Any = shown.pop(_OURS, None)
    if not isinstance(data, dict):
        raise InvalidInput("the session holds a message that Strands did not write: remove it, or use another session")
    return SessionMessage.from_dict({"message": shown, **data})
