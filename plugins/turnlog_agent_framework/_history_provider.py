"""`TurnlogHistoryProvider`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from agent_framework import HistoryProvider, Message

# The framework's own providers select the new messages with this function.  It is private, so the extra has an upper
# bound.
from agent_framework._sessions import filter_new_messages

from turnlog import ABSENT, Conflict, Expect, InvalidInput, OutcomeUnknown, SessionNotFound, Store, encode_id
from turnlog import Message as StoredMessage


class TurnlogHistoryProvider(HistoryProvider):
    """A history provider of Agent Framework: `Agent(client, context_providers=[TurnlogHistoryProvider(store)])`.

    A session of the framework is the session `encode_id(session_id)`, and the messages of a run are a turn.  If a run
    sends messages again that the session ends with, only the new ones are stored.

    A turn is stored completely or not at all, and once, even if the answer of the database is lost.  If another process
    adds a turn at the same time, both turns are stored, one after the other.

    Args:
        store: An open store or a view of it; the caller closes it.
        source_id: The name of this provider in the agent.
        last: Load only the fewest whole turns at the end that hold at least this many messages; None: all.
        skip_excluded: Whether to leave out messages that a compaction of the framework has marked as excluded.
        load_messages: As in `HistoryProvider`, like the options below.
        store_inputs: Whether to store the messages of the user.
        store_context_messages: Whether to store the messages of other context providers.
        store_context_from: Store only the messages of the providers with these names.
        store_outputs: Whether to store the messages of the agent.

    Raises:
        InvalidInput: `store` is not a `turnlog.Store`, or `last` is not a positive number.
    """

    DEFAULT_SOURCE_ID: ClassVar[str] = "turnlog"

    def __init__(
        self,
        store: Store,
        source_id: str = DEFAULT_SOURCE_ID,
        *,
        last: int | None = None,
        skip_excluded: bool = False,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
    ) -> None:
        if not isinstance(store, Store):
            raise InvalidInput(
                f"TurnlogHistoryProvider takes a turnlog.Store, not {type(store).__name__}: pass the store of "
                "'async with open_store(url) as store', or the attribute 'wrapped' of a store of turnlog.sync"
            )
        if last is not None and (type(last) is not int or last < 1):
            raise InvalidInput(f"last must be a number from 1, not {last!r}: to load no messages, load_messages=False")
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        self.store = store
        self.last = last
        self.skip_excluded = skip_excluded

    async def get_messages(
        self,
        session_id: str | None,
        *,
        state: dict[str, Any] | None = None,  # noqa: ARG002 - for providers that keep messages in it
        **kwargs: Any,  # noqa: ANN401, ARG002 - as in the base class
    ) -> list[Message]:
        try:
            stored = await self.store.load(_key(session_id), last=self.last)
        except SessionNotFound:
            return []
        messages = [_loaded(message) for message in stored]
        if self.skip_excluded:
            messages = [message for message in messages if not message.additional_properties.get("_excluded", False)]
        return messages

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,  # noqa: ARG002 - for providers that keep messages in it
        **kwargs: Any,  # noqa: ANN401, ARG002 - as in the base class
    ) -> None:
        key = _key(session_id)
        while messages:
            expect: Expect
            try:
                # one message more than the new ones: a longer history cannot repeat in them
                session = await self.store.session(key, last=len(messages) + 1)
                existing, expect = [_loaded(message) for message in session.messages], session.version
            except SessionNotFound:
                existing, expect = [], ABSENT
            new = [_stored(message) for message in filter_new_messages(existing, messages)]
            if not new:
                return
            try:
                await self.store.append(key, new, expect=expect)
            except Conflict:
                continue  # another process has added a turn after the read: select the new messages again
            except OutcomeUnknown as error:
                try:
                    await self.store.resend(error)
                except Conflict:
                    continue  # the first try had not stored the turn, and another process has added one
            return


def _key(session_id: str | None) -> str:
    if not session_id:
        raise InvalidInput("a run without a session has no history: pass session=agent.create_session(session_id=...)")
    return encode_id(session_id)


def _stored(message: Message) -> StoredMessage:
    """Return a message in the framework's form, with its contents under the name that other programs know."""
    data = message.to_dict()
    data["content"] = data.pop("contents")
    return StoredMessage.from_dict(data)


def _loaded(message: StoredMessage) -> Message:
    data = message.to_dict()
    content = data.pop("content", None)
    if data.get("type") != "message" or not isinstance(content, list):
        raise InvalidInput(
            f"a stored message is no message of Agent Framework, but {data!r:.200}: keep the sessions of other "
            "programs in another namespace, or choose another session_id"
        )
    return Message.from_dict({**data, "contents": content})
