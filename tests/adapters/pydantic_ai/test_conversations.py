"""The promises of pydantic-ai's `ConversationStore`, one by one, on each stack."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic_ai import Agent, Conversation, ConversationTypeAdapter, DeferredToolRequests
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RunUsage

from adapters.pydantic_ai.scenarios import add, asked, loaded, new, said, scenario, texts, tool_turn, turn
from turnlog import Store
from turnlog_pydantic_ai import TurnlogConversationStore as Conversations


@scenario
async def test_a_missing_conversation_is_none(conversations: Conversations, store: Store) -> None:
    assert await conversations.load("c") is None
    assert await conversations.load_entries("c") is None
    assert await conversations.list_conversations() == []
    await conversations.delete("c")


@scenario
async def test_a_saved_conversation_is_loaded_whole(conversations: Conversations, store: Store) -> None:
    conversation = Conversation(conversation_id="c", messages=tool_turn("Weather?"), usage=RunUsage(requests=2))
    entries = await conversations.save(conversation)
    found = await loaded(conversations)
    assert found == conversation
    assert (found.usage, found.new_message_index) == (RunUsage(requests=2), 4)
    assert [entry.message for entry in entries] == conversation.messages
    assert await conversations.load_entries("c") == entries


@scenario
async def test_runs_continue_a_conversation(conversations: Conversations, store: Store) -> None:
    """A result is saved as it is, and can be continued without another load."""
    agent = Agent(TestModel())

    @agent.tool_plain
    def weather(city: str) -> str:
        return "sunny"

    result = await agent.run("One", conversation=Conversation(conversation_id="c"))
    assert len(await conversations.save(result)) == 4
    result = await agent.run("Two", conversation=result.conversation)
    assert len(await conversations.save(result)) == 2
    result = await agent.run("Three", conversation=await loaded(conversations))
    assert len(await conversations.save(result)) == 2
    found = await loaded(conversations)
    assert found.messages == result.all_messages()
    assert (found.usage.requests, found.usage.tool_calls, (await store.info("c")).turns) == (4, 1, 3)


@scenario
async def test_a_limit_loads_the_end_and_saving_it_appends_to_the_whole(
    conversations: Conversations, store: Store
) -> None:
    await add(conversations, "one", "two", "three")
    for limit in range(8):
        part = await conversations.load("c", limit=limit)
        assert part is not None
        assert part.messages == (await loaded(conversations)).messages[max(0, 6 - limit) :]
    part = await conversations.load("c", limit=1)
    assert part is not None
    part.messages += turn("four")
    await conversations.save(part)
    assert texts((await loaded(conversations)).messages)[::2] == ["one", "two", "three", "four"]
    with pytest.raises(UserError, match="negative"):
        await conversations.load("c", limit=-1)
    with pytest.raises(UserError, match="negative"):
        await conversations.list_conversations(limit=-1)


@scenario
async def test_a_stale_copy_cannot_be_saved(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one")
    first, second = await loaded(conversations), await loaded(conversations)
    first.messages += turn("first")
    second.messages += turn("second")
    await conversations.save(first)
    with pytest.raises(ConversationConflict):
        await conversations.save(second)
    assert (await loaded(conversations)).messages == first.messages
    assert (await store.info("c")).turns == 2  # nothing of the refused save is stored


@scenario
async def test_a_new_conversation_cannot_replace_another(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one")
    with pytest.raises(ConversationConflict):
        await conversations.save(new("two"))
    assert texts((await loaded(conversations)).messages) == ["one", "answer to one"]


@scenario
async def test_a_scope_hides_a_conversation_from_others(conversations: Conversations, store: Store) -> None:
    await conversations.save(new("one"), scope="ann")
    assert await conversations.load("c", scope="bob") is None
    assert await conversations.load_entries("c", scope="bob") is None
    await conversations.delete("c", scope="bob")
    conversation = await loaded(conversations)
    conversation.messages += turn("two")
    with pytest.raises(ConversationConflict):
        await conversations.save(conversation, scope="bob")
    await conversations.save(conversation)  # keeps the scope
    assert await conversations.load("c", scope="ann") == conversation
    assert (await store.info("c")).owner == "ann"
    with pytest.raises(UserError, match="not in the store"):
        await conversations.fork("c", source_scope="bob")
    fork = await conversations.fork("c", scope="bob", new_conversation_id="f")
    assert await conversations.load("f", scope="bob") == fork


@scenario
async def test_a_rewritten_history_leaves_a_branch(conversations: Conversations, store: Store) -> None:
    """Compaction replaces messages: the first ones stay shared, and the old ones stay stored."""
    await add(conversations, "one", "two", "three")
    old = await conversations.load_entries("c")
    assert old is not None
    conversation = await loaded(conversations)
    conversation.messages = [*conversation.messages[:2], asked("summary"), said("ok")]
    await conversations.save(conversation)
    assert texts((await loaded(conversations)).messages) == ["one", "answer to one", "summary", "ok"]
    record = await conversations.read_record("c")
    assert record is not None
    assert record.branches == [old[-1].id]
    assert await conversations.read_history(record.branches[0]) == old
    assert (await store.info("c")).messages == 8
    back = await conversations.branch("c", from_entry=old[-1].id, expected_revision=record.revision)
    assert back.messages == [entry.message for entry in old]
    rewritten = await loaded(conversations)
    rewritten.messages = turn("everything else")  # not even the first message is shared
    await conversations.save(rewritten)
    assert texts((await loaded(conversations)).messages) == ["everything else", "answer to everything else"]
    for limit in (1, 2):
        assert (
            await conversations.load_entries("c", limit=limit) == (await conversations.load_entries("c") or [])[-limit:]
        )


@scenario
async def test_a_serialized_conversation_is_compared(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one", "two")
    copy = ConversationTypeAdapter.validate_json(ConversationTypeAdapter.dump_json(await loaded(conversations)))
    copy.messages += turn("three")
    assert len(await conversations.save(copy)) == 2
    part = await conversations.load("c", limit=2)
    assert part is not None
    part = ConversationTypeAdapter.validate_json(ConversationTypeAdapter.dump_json(part))
    part.messages += turn("four")
    assert len(await conversations.save(part)) == 2
    assert texts((await loaded(conversations)).messages)[::2] == ["one", "two", "three", "four"]


@scenario
async def test_a_branch_continues_from_an_earlier_message(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one", "two", "three")
    before = await loaded(conversations)
    entries = await conversations.load_entries("c")
    assert entries is not None
    branch = await conversations.branch("c", at=2, expected_revision=before.revision)
    assert branch.messages == before.messages[:2]
    assert (await loaded(conversations)).messages == before.messages[:2]
    branch.messages += turn("other")
    await conversations.save(branch)
    assert texts((await loaded(conversations)).messages)[::2] == ["one", "other"]
    back = await conversations.branch("c", from_entry=entries[3].id, expected_revision=branch.revision)
    assert back.messages == before.messages[:4]
    empty = await conversations.branch("c", at=0, expected_revision=back.revision)
    assert (empty.messages, (await loaded(conversations)).messages) == ([], [])
    empty.messages += turn("new")
    await conversations.save(empty)
    assert texts((await loaded(conversations)).messages)[::2] == ["new"]
    with pytest.raises(ConversationConflict):
        await conversations.branch("c", at=1, expected_revision=before.revision)
    with pytest.raises(UserError, match="between"):
        await conversations.branch("c", at=9, expected_revision=empty.revision)
    with pytest.raises(UserError, match="not in the history"):
        await conversations.branch("c", from_entry="no entry", expected_revision=empty.revision)


@scenario
async def test_a_fork_begins_with_the_history_that_it_shares(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one", "two", scope="ann")
    entries = await conversations.load_entries("c")
    assert entries is not None
    whole = await conversations.fork("c", new_conversation_id="whole")
    part = await conversations.fork("c", at=2, new_conversation_id="part")
    empty = await conversations.fork("c", at=0, new_conversation_id="empty")
    twice = await conversations.fork("part", from_entry=entries[0].id, new_conversation_id="twice")
    for fork, count in ((whole, 4), (part, 2), (empty, 0), (twice, 1)):
        assert fork.messages == [entry.message for entry in entries[:count]]
        assert await conversations.load_entries(fork.conversation_id) == entries[:count]
        record = await conversations.read_record(fork.conversation_id)
        assert record is not None
        assert (record.scope, record.revision, record.forked_at) == (
            "ann",
            fork.revision,
            entries[count - 1].id if count else None,
        )
        fork.messages += turn("more")
        await conversations.save(fork)
    assert await conversations.load_entries("c") == entries
    assert texts((await loaded(conversations, "twice")).messages) == ["one", "more", "answer to more"]
    with pytest.raises(ConversationConflict):
        await conversations.fork("c", new_conversation_id="whole")


@scenario
async def test_a_fork_of_a_branch(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one", "two")
    entries = await conversations.load_entries("c")
    assert entries is not None
    await conversations.branch("c", at=0, expected_revision=(await loaded(conversations)).revision)
    fork = await conversations.fork("c", from_entry=entries[2].id, new_conversation_id="f")
    assert fork.messages == [entry.message for entry in entries[:3]]
    assert await conversations.load_entries("f") == entries[:3]


@scenario
async def test_a_fork_outlives_its_source(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one")
    fork = await conversations.fork("c", new_conversation_id="f")
    entries = await conversations.load_entries("f")
    assert entries is not None
    await conversations.delete("c")
    assert await conversations.load("c") is None
    assert await loaded(conversations, "f") == fork
    assert await conversations.read_entry(str(entries[1].id)) == entries[1]
    assert await conversations.read_history(str(entries[1].id)) == entries
    with pytest.raises(LookupError):
        await conversations.read_entry("no entry")
    record = await conversations.read_record("f")
    assert record is not None
    orphan = dataclasses.replace(record, conversation_id="g", head_id="no entry", forked_from="c", revision="r")
    with pytest.raises(ConversationConflict):  # its source is deleted
        await conversations.write_record(orphan, expected_revision=None)
    with pytest.raises(ConversationConflict):  # no conversation has this entry
        await conversations.write_record(dataclasses.replace(orphan, forked_from=None), expected_revision=None)
    with pytest.raises(ConversationConflict):
        await conversations.write_record(
            dataclasses.replace(record, head_id="no entry", revision="r"), expected_revision=record.revision
        )


@scenario
async def test_lists_show_the_last_saved_first(conversations: Conversations, store: Store) -> None:
    for id in ("a", "b", "c", "d"):
        await add(conversations, "one", id=id, scope="ann" if id in "ac" else None)
    assert [record.conversation_id for record in await conversations.list_conversations()] == ["d", "c", "b", "a"]
    assert [record.conversation_id for record in await conversations.list_conversations(scope="ann")] == ["c", "a"]
    await conversations.branch("a", at=0, expected_revision=(await loaded(conversations, "a")).revision)
    assert [record.conversation_id for record in await conversations.list_conversations(limit=2)] == ["a", "d"]
    assert await conversations.list_conversations(limit=0) == []
    assert await conversations.list_conversations(scope="bob") == []
    assert [await conversations.read_record(id) for id in "adcb"] == await conversations.list_conversations()


@scenario
async def test_a_deleted_conversation_cannot_be_saved(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one")
    before = await loaded(conversations)
    await conversations.delete("c")
    before.messages += turn("two")
    with pytest.raises(ConversationConflict):
        await conversations.save(before)
    await conversations.save(new("again"))
    with pytest.raises(ConversationConflict):
        await conversations.save(before)
    with pytest.raises(ConversationConflict):
        await conversations.delete_record("c", expected_revision=str(before.revision))
    assert texts((await loaded(conversations)).messages) == ["again", "answer to again"]
    await conversations.delete("c")
    with pytest.raises(ConversationConflict):
        await conversations.delete_record("c", expected_revision=str(before.revision))
    assert [info async for info in store.sessions()] == []


@scenario
async def test_a_paused_run_keeps_its_requests(conversations: Conversations, store: Store) -> None:
    call = ToolCallPart("refund", {"order": 7}, "call-1")
    requests = DeferredToolRequests(approvals=[call], metadata={"call-1": {"raw": b"\xff", "reason": "é"}})
    messages: list[ModelMessage] = [asked("Refund"), ModelResponse(parts=[call])]
    paused = Conversation(conversation_id="c", messages=messages, deferred_tool_requests=requests)
    await conversations.save(paused)
    found = (await loaded(conversations)).deferred_tool_requests
    assert found is not None
    assert (found.approvals, found.metadata) == ([call], {"call-1": {"raw": "_w==", "reason": "é"}})
    assert (await conversations.fork("c")).deferred_tool_requests is not None
    assert (await conversations.fork("c", at=1)).deferred_tool_requests is None
    paused.messages.append(ModelRequest(parts=[ToolReturnPart("refund", "done", "call-1")]))
    paused.deferred_tool_requests = None
    await conversations.save(paused)
    assert (await loaded(conversations)).deferred_tool_requests is None


@scenario
async def test_a_save_without_messages_stores_the_usage(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one")
    conversation = await loaded(conversations)
    conversation.usage = RunUsage(requests=7)
    assert await conversations.save(conversation) == []
    assert (await loaded(conversations)).usage == RunUsage(requests=7)
    assert await conversations.save(Conversation(conversation_id="empty")) == []
    assert (await loaded(conversations, "empty")).messages == []
    empty = await loaded(conversations, "empty")
    empty.messages += turn("one")
    await conversations.save(empty)
    assert await loaded(conversations, "empty") == empty
