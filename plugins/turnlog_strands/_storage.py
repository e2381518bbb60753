"""`TurnlogStorage`: the storage of Strands Agents in a turnlog store."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote

from strands.storage import Storage
from strands.types.exceptions import StorageError

import turnlog
import turnlog.sync
from turnlog import ANY, InvalidInput, Message, OutcomeUnknown, SessionInfo, SessionNotFound, TurnlogError, encode_id

_OURS: Final = "strands"
"""The entry of a message that holds the data of Strands, and the name of the metadata that holds a long key."""


class TurnlogStorage(Storage):
    """A `Storage` for `SnapshotSessionManager` and the other parts of Strands that take one.

    Each key is a session with the id `encode_id(*key.split("/"))`.  The messages of a snapshot are stored as turns, and
    a write stores only the messages that have changed.  Other values are stored as one message: a text if they are
    UTF-8, otherwise bytes.  `read` returns exactly the bytes that were written.

    A write is one atomic commit, and the last one wins.  If its answer is lost, it is sent again.

    Args:
        store: An opened store of `turnlog` or `turnlog.sync`, or a view of one.  Its owner closes it.  All its sessions
            are keys, so choose a namespace for it: `store.within("strands")`.

    Raises:
        InvalidInput: `store` is not a store, or it has `retain`, which would drop parts of values.
    """

    def __init__(self, store: turnlog.Store | turnlog.sync.Store) -> None:
        store = store.wrapped if isinstance(store, turnlog.sync.Store) else store
        if not isinstance(store, turnlog.Store):
            raise InvalidInput(f"store must be a turnlog.Store or a turnlog.sync.Store, not {type(store).__name__}")
        if store.retain is not None:
            raise InvalidInput("the store has retain, which would drop parts of values: open a store without it")
        self._store = store

    async def write(self, key: str, data: bytes) -> None:
        with _storage_errors("write", key):
            session_id = encode_id(*key.split("/"))
            if _key_of(session_id) != key:  # it was too long
                await self._store.merge_metadata(session_id, {_OURS: key})
            try:
                await self._store.save(session_id, _encoded(bytes(data)), expect=ANY)
            except OutcomeUnknown as error:
                await self._store.resend(error)

    async def read(self, key: str) -> bytes | None:
        with _storage_errors("read", key):
            try:
                return _decoded(await self._store.load(encode_id(*key.split("/"))))
            except SessionNotFound:
                return None

    async def delete(self, key: str) -> None:
        with _storage_errors("delete", key):
            await self._store.erase(encode_id(*key.split("/")))

    async def list(self, query: str) -> builtins.list[str]:
        with _storage_errors("list", query):
            keys = [_listed(info) async for info in self._store.sessions() if info.messages]
            return sorted(key for key in keys if key.startswith(query))


@contextmanager
def _storage_errors(action: str, key: str) -> Iterator[None]:
    try:
        yield
    except TurnlogError as error:
        raise StorageError(f"cannot {action} {key!r}: {error}") from error


def _listed(info: SessionInfo) -> str:
    return str(info.metadata.get(_OURS) or _key_of(info.key.session))


def _key_of(session_id: str) -> str:
    """Return the key for a session id, unless `encode_id` has cut it."""
    return "" if session_id == "%empty" else unquote(session_id, errors="surrogatepass")


def _encoded(data: bytes) -> builtins.list[dict[str, Any]]:
    """Return the messages of a snapshot, and its rest; or one message with other data."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return [{_OURS: data}]
    try:
        value = json.loads(text)
        messages = value["data"]["messages"]
        is_exact = json.dumps(value, ensure_ascii=False) == text  # the format of SnapshotSessionManager
    except (LookupError, TypeError, ValueError, RecursionError):
        is_exact = False
    if not is_exact or not isinstance(messages, list) or not all(_is_message(message) for message in messages):
        return [{"content": text, _OURS: "text"}]
    return [*messages, {_OURS: {**value, "data": {**value["data"], "messages": len(messages)}}}]


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and "role" in value and _OURS not in value


def _decoded(messages: Sequence[Message]) -> bytes | None:
    if not messages:
        return None
    last: Any = messages[-1].get(_OURS)
    if isinstance(last, bytes):
        return last
    if last == "text":
        return str(messages[-1].content).encode()
    if not isinstance(last, dict):
        raise InvalidInput("the session was not written by TurnlogStorage: use a namespace of its own")
    last["data"]["messages"] = [message.to_dict() for message in messages[:-1]]
    return json.dumps(last, ensure_ascii=False).encode()
