"""Difficult ids and messages, and bad input."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic_ai import Conversation, DeferredToolRequests
from pydantic_ai.conversation_store import ConversationRecord
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

from adapters.pydantic_ai.scenarios import add, asked, loaded, new, scenario, texts
from turnlog import InvalidInput, Store, TooLarge
from turnlog_pydantic_ai import TurnlogConversationStore as Conversations

IDS = [
    "",
    " ",
    "é",
    "e\u0301",
    "日本 🙂",
    "a/b",
    "a%2Fb",
    "a\nb\t\0",
    "\u202e",
    "x" * 255,
    "x" * 256,
    "C",
    "c",
]


@scenario
async def test_every_text_is_an_id_and_a_scope(conversations: Conversations, store: Store) -> None:
    for id in IDS:
        await add(conversations, f"of {id!a}", id=id, scope=id)
    for id in IDS:
        assert texts((await loaded(conversations, id)).messages)[0] == f"of {id!a}"
        assert [record.conversation_id for record in await conversations.list_conversations(scope=id)] == [id]
    assert {record.conversation_id for record in await conversations.list_conversations()} == set(IDS)


MESSAGES: list[ModelMessage] = [
    ModelRequest(
        parts=[
            SystemPromptPart("Be brief."),
            UserPromptPart(
                ["Look: é 🙂 \0", BinaryContent(b"\xff\x00", media_type="image/png"), ImageUrl("https://a/b")]
            ),
        ],
        instructions="Be kind.",
        metadata={"raw": b"\xff", "when": datetime(2026, 1, 1, tzinfo=UTC), "large": 2**80, "none": None, "turnlog": 1},
    ),
    ModelResponse(
        parts=[
            ThinkingPart("hm", signature="s"),
            TextPart(""),
            ToolCallPart("f", '{"a": 1}', "1"),
            ToolCallPart("g", {}, "2"),
        ],
        usage=RequestUsage(input_tokens=3, details={"reasoning": 2}),
        model_name="m",
        provider_details={"finish": ["stop"]},
        timestamp=datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC),
    ),
    ModelRequest(
        parts=[
            ToolReturnPart("f", {"list": [1, None, {"x": ()}]}, "1"),
            ToolReturnPart("g", None, "2", outcome="failed"),
        ]
    ),
]


@scenario
async def test_messages_are_loaded_as_pydantic_ai_serializes_them(conversations: Conversations, store: Store) -> None:
    await conversations.save(Conversation(conversation_id="c", messages=MESSAGES))
    found = (await loaded(conversations)).messages
    assert found == ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(MESSAGES))
    assert ModelMessagesTypeAdapter.dump_json(found) == ModelMessagesTypeAdapter.dump_json(MESSAGES)
    prompt: Any = found[0].parts[1]
    image = prompt.content[1]
    assert image.data == b"\xff\x00"


@scenario
async def test_changing_a_loaded_conversation_changes_nothing_stored(
    conversations: Conversations, store: Store
) -> None:
    conversation = new("one")
    await conversations.save(conversation)
    part: Any = conversation.messages[0].parts[0]
    part.content = "changed"
    (await loaded(conversations)).messages.clear()
    (await conversations.list_conversations())[0].branches.append("x")
    assert texts((await loaded(conversations)).messages) == ["one", "answer to one"]
    record = await conversations.read_record("c")
    assert record is not None
    assert record.branches == []


@scenario
async def test_records_can_be_copied_and_pickled(conversations: Conversations, store: Store) -> None:
    """The copies still find their history."""
    await add(conversations, "one")
    record = await conversations.read_record("c")
    assert record is not None
    for one in (copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert one == record
        assert len(await conversations.read_history(one.head_id)) == 2
    assert type(str(record.head_id)) is str


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (asked("\ud800"), "a message cannot be stored as JSON: .*surrogate|hex escape"),
        (ModelRequest(parts=[ToolReturnPart("f", object(), "1")]), "a message cannot be stored as JSON: .*object"),
    ],
)
def test_a_message_that_could_not_be_loaded_is_not_stored(message: ModelMessage, says: str) -> None:
    @scenario
    async def test(conversations: Conversations, store: Store) -> None:
        await conversations.save(new("one"))
        conversation = await loaded(conversations)
        conversation.messages.append(message)
        with pytest.raises(InvalidInput, match=says):
            await conversations.save(conversation)
        assert (await store.info("c")).turns == 1

    test("memory://")


@scenario
async def test_a_record_that_is_not_json_is_not_stored(conversations: Conversations, store: Store) -> None:
    requests = DeferredToolRequests(metadata={"x": {"y": object()}})
    with pytest.raises(InvalidInput, match="conversation 'c' cannot be stored as JSON"):
        await conversations.save(Conversation(conversation_id="c", deferred_tool_requests=requests))
    requests = DeferredToolRequests(metadata={"x": {"y": "z" * 2**20}})
    with pytest.raises(TooLarge, match="metadata takes"):
        await conversations.save(Conversation(conversation_id="c", deferred_tool_requests=requests))
    assert [info async for info in store.sessions()] == []


@scenario
async def test_an_id_without_utf_8_is_refused(conversations: Conversations, store: Store) -> None:
    assert await conversations.load("\ud800") is None
    with pytest.raises(InvalidInput, match=r"conversation '\\ud800' cannot be stored as JSON"):
        await conversations.save(new("one", id="\ud800"))


@scenario
async def test_a_scope_cannot_change(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one", scope="ann")
    record = await conversations.read_record("c")
    assert record is not None
    changed = ConversationRecord(conversation_id="c", head_id=record.head_id, scope="bob")
    with pytest.raises(InvalidInput, match="has the scope 'ann', not 'bob': a scope is set by the first save"):
        await conversations.write_record(changed, expected_revision=record.revision)


@scenario
async def test_sessions_of_other_programs_are_left_alone(conversations: Conversations, store: Store) -> None:
    await store.append("c", [{"role": "user", "content": "Hello"}])
    await store.merge_metadata("titled", {"title": "T"})
    with pytest.raises(InvalidInput, match="'c' in namespace 'default' holds turns, but no conversation"):
        await conversations.load("c")
    with pytest.raises(InvalidInput, match="choose another conversation_id"):
        await conversations.save(new("one"))
    assert await conversations.list_conversations() == []
    assert await conversations.load("titled") is None
    await conversations.save(new("one", id="titled"))  # a session without turns may get its metadata first
    assert texts((await loaded(conversations, "titled")).messages) == ["one", "answer to one"]
    assert (await store.info("titled")).metadata["title"] == "T"


def test_the_argument_must_be_a_store() -> None:
    with pytest.raises(InvalidInput, match=r"must be a turnlog\.Store, not str: open one with open_store"):
        Conversations("sqlite:///chat.db")  # type: ignore[arg-type]
