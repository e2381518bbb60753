"""`TurnlogChatStore`: the chat histories of LlamaIndex in a turnlog store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec
from urllib.parse import unquote

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import ChatMessage
from llama_index.core.storage.chat_store import BaseChatStore

import turnlog
import turnlog.sync
from turnlog import ANY, Conflict, InvalidInput, Message, OutcomeUnknown, SessionNotFound, encode_id
from turnlog.sync import call

_P = ParamSpec("_P")

_OURS: Final = "llama_index"
"""The metadata with the key of a session, if the key is too long for an id."""


class TurnlogChatStore(BaseChatStore):
    """A `BaseChatStore` for `ChatMemoryBuffer` and `ChatSummaryMemoryBuffer`.

    Each key is a session with the id `encode_id(key)`.  An added message is a turn.  Messages that are
    set together are stored as turns that begin with the user.  All methods may be called from any thread, and in
    a running event loop.  If the answer to a write is lost, the write is sent again, and stored once.

    Args:
        store: An opened store of `turnlog` or `turnlog.sync`, or a view of one.  Its owner closes it.

    Raises:
        InvalidInput: `store` is not a store.
    """

    _store: turnlog.sync.Store = PrivateAttr()

    def __init__(self, store: turnlog.Store | turnlog.sync.Store) -> None:
        super().__init__()
        if isinstance(store, turnlog.Store):
            store = turnlog.sync.Store.over(store)
        if not isinstance(store, turnlog.sync.Store):
            raise InvalidInput(f"store must be a turnlog.Store or a turnlog.sync.Store, not {type(store).__name__}")
        self._store = store

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class, which LlamaIndex writes into serialized components."""
        return "TurnlogChatStore"

    def set_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """Replace the messages of a key; without messages, remove the key."""
        if messages:
            self._send(self._store.save, self._named(key), [_encoded(message) for message in messages], expect=ANY)
        else:
            self._store.erase(encode_id(key))

    def get_messages(self, key: str) -> list[ChatMessage]:
        """Return the messages of a key; none if it does not exist."""
        try:
            return [_decoded(message) for message in self._store.load(encode_id(key))]
        except SessionNotFound:
            return []

    def add_message(self, key: str, message: ChatMessage) -> None:
        """Add a message to a key."""
        self._send(self._store.append, self._named(key), [_encoded(message)])

    def delete_messages(self, key: str) -> list[ChatMessage] | None:
        """Remove a key, and return its messages; None if it does not exist."""
        while True:
            try:
                session = self._store.session(encode_id(key))
                self._store.erase(encode_id(key), expect=session.version)
            except SessionNotFound:
                return None
            except Conflict:  # another process has added a message
                continue
            return [_decoded(message) for message in session.messages] or None

    def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Remove the message at an index, and return it; None if there is none.  -1 is the last one."""
        while True:
            try:
                session = self._store.session(encode_id(key))
                messages = session.messages
                if not -len(messages) <= idx < len(messages):
                    return None
                removed = messages.pop(idx)
                if messages:
                    self._send(self._store.save, encode_id(key), messages, expect=session.version)
                else:
                    self._store.erase(encode_id(key), expect=session.version)
            except SessionNotFound:
                return None
            except Conflict:  # another process has changed the messages
                continue
            return _decoded(removed)

    def delete_last_message(self, key: str) -> ChatMessage | None:
        """Remove the last message, and return it; None if there is none."""
        return self.delete_message(key, -1)

    def get_keys(self) -> list[str]:
        """Return all keys that have messages, the most recently used first."""
        return call(_keys, self._store.wrapped)

    def _named(self, key: str) -> str:
        """Return the session id for a key; keep a key that `encode_id` has cut in the metadata."""
        session_id = encode_id(key)
        if _key_of(session_id) != key:
            self._send(self._store.merge_metadata, session_id, {_OURS: key})
        return session_id

    def _send(self, write: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            write(*args, **kwargs)
        except OutcomeUnknown as error:
            self._store.resend(error)


async def _keys(store: turnlog.Store) -> list[str]:
    return [
        str(info.metadata.get(_OURS) or _key_of(info.key.session)) async for info in store.sessions() if info.messages
    ]


def _key_of(session_id: str) -> str:
    return "" if session_id == "%empty" else unquote(session_id, errors="surrogatepass")


def _encoded(message: ChatMessage) -> dict[str, Any]:
    """Return the JSON of LlamaIndex, with the blocks under the name `content`, which other dialects use."""
    if not isinstance(message, ChatMessage):
        raise InvalidInput(f"a message must be a ChatMessage of LlamaIndex, not {type(message).__name__}")
    try:
        data: dict[str, Any] = message.model_dump(mode="json")
    except ValueError as error:
        raise InvalidInput(f"a message cannot be stored as JSON: {error}") from error
    data["content"] = data.pop("blocks")
    return data


def _decoded(message: Message) -> ChatMessage:
    data: dict[str, Any] = message.to_dict()
    data["blocks"] = data.pop("content", [])
    try:
        return ChatMessage.model_validate(data)
    except ValueError as error:
        raise InvalidInput("the session holds a message that LlamaIndex did not write: use a namespace") from error
