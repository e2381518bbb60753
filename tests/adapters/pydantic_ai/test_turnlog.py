"""Conversations are sessions like others: turnlog's own operations work on them, and layers and views apply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic_ai.conversation_store import ConversationConflict

from adapters.pydantic_ai.losing import LosingLayer
from adapters.pydantic_ai.scenarios import add, loaded, new, scenario, texts, tool_turn, turn
from turnlog import Conflict, OutcomeUnknown, Store, open_store, user
from turnlog_cli import main
from turnlog_memory import MemoryBackend
from turnlog_pydantic_ai import TurnlogConversationStore as Conversations

# --------------------------------------------------------------------------------------------------------- lost answers


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_save_whose_answer_is_lost_is_stored_once(url: str, lost: str) -> None:
    async def test() -> None:
        async with open_store(url) as opened:
            layer = LosingLayer(opened.backend)
            store = Store(layer)
            conversations = Conversations(store)
            await add(conversations, "one")
            for text in ("two", "three"):
                setattr(layer, lost, 1)
                await add(conversations, text)
            setattr(layer, lost, 1)
            await conversations.fork("c", new_conversation_id="f")
            assert texts((await loaded(conversations)).messages)[::2] == ["one", "two", "three"]
            assert ((await store.info("c")).turns, (await store.info("f")).turns) == (3, 1)
            layer.after = 1
            with pytest.raises(OutcomeUnknown):
                await conversations.delete("f")
            await conversations.delete("f")
            assert await conversations.load("f") is None

    asyncio.run(test())


def test_a_lost_answer_hides_no_conflict() -> None:
    """The first attempt was not stored, and another writer saves before the second one."""

    class Overtaken(LosingLayer):
        async def commit(self, key: Any, change: Any) -> Any:
            if self.before:
                await Store(self.inner).append(key.session, [user("first")])
            return await super().commit(key, change)

    async def test() -> None:
        layer = Overtaken(MemoryBackend())
        async with Store(layer) as store:
            conversations = Conversations(store)
            await add(conversations, "one")
            layer.before = 1
            with pytest.raises(ConversationConflict) as error:
                await add(conversations, "two")
            assert isinstance(error.value.__cause__, Conflict)
            assert (await store.info("c")).turns == 2

    asyncio.run(test())


# ------------------------------------------------------------------------------------------------------------ tenants


@scenario
async def test_namespaces_and_owners_are_apart(conversations: Conversations, store: Store) -> None:
    others = Conversations(store.within("other"))
    ann, bob = Conversations(store.for_owner("ann")), Conversations(store.for_owner("bob"))
    await conversations.save(new("one"))
    await others.save(new("two"))
    await ann.save(new("three", id="d"))
    assert texts((await loaded(others)).messages)[0] == "two"
    assert await bob.load("d") is None
    assert await bob.list_conversations() == await bob.list_conversations(scope="ann") == []
    assert [record.conversation_id for record in await ann.list_conversations()] == ["d"]
    with pytest.raises(ConversationConflict):
        await bob.save(new("four", id="d"))
    entries = await ann.load_entries("d")
    assert entries is not None
    with pytest.raises(LookupError):
        await bob.read_entry(entries[0].id)
    with pytest.raises(LookupError):
        await others.read_entry(entries[0].id)
    assert await conversations.read_entry(entries[0].id) == entries[0]


# ------------------------------------------------------------------------------------------------ turnlog's operations


@scenario
async def test_undo_restores_the_record_too(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one")
    before = await loaded(conversations)
    stale = await loaded(conversations)
    stale.messages += turn("two")
    stale.usage.requests = 7
    await conversations.save(stale)
    await store.rewind("c", turns=1)
    assert await loaded(conversations) == before
    assert [record.usage.requests for record in await conversations.list_conversations()] == [0]
    stale.messages += turn("three")
    with pytest.raises(ConversationConflict):  # it continues a turn that is undone
        await conversations.save(stale)
    await add(conversations, "four")
    assert texts((await loaded(conversations)).messages)[::2] == ["one", "four"]
    await store.rewind("c", turns=2)
    assert await conversations.load("c") is None
    assert await conversations.list_conversations() == []
    await conversations.save(new("five"))
    assert texts((await loaded(conversations)).messages)[0] == "five"


@scenario
async def test_a_fork_by_turnlog_is_a_conversation(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one", "two", scope="ann")
    await store.fork("c", "whole")
    await store.fork("c", "part", at=1)
    for id, count in (("whole", 4), ("part", 2)):
        fork = await loaded(conversations, id)
        assert (fork.conversation_id, len(fork.messages)) == (id, count)
        await add(conversations, "three", id=id)
    assert texts((await loaded(conversations, "part")).messages)[::2] == ["one", "three"]
    assert len((await loaded(conversations)).messages) == 4
    assert [record.conversation_id for record in await conversations.list_conversations(scope="ann")] == [
        "part",
        "whole",
        "c",
    ]


@scenario
async def test_turns_of_other_programs_are_skipped(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one")
    stale = await loaded(conversations)
    await store.append("c", [user("a note")])
    stale.messages += turn("two")
    await conversations.save(stale)
    await store.append("c", [user("another note")])
    assert texts((await loaded(conversations)).messages)[::2] == ["one", "two"]
    assert len(await conversations.list_conversations()) == 1
    for limit in range(1, 5):
        part = await conversations.load("c", limit=limit)
        assert part is not None
        assert len(part.messages) == limit


@scenario
async def test_retention_shortens_a_history(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one", "two", "three", "four")
    await store.trim("c", before=2)
    assert texts((await loaded(conversations)).messages)[::2] == ["three", "four"]
    await add(conversations, "five")
    assert texts((await loaded(conversations)).messages)[::2] == ["three", "four", "five"]
    assert len(await conversations.load_entries("c", limit=4) or []) == 4


@scenario
async def test_a_missing_entry_is_an_error(conversations: Conversations, store: Store) -> None:
    """Other programs can remove turns in the middle; the history is then not shortened silently."""
    await add(conversations, "one", "two", "three")
    session = await store.session("c")
    kept = [message for turn in (session.turns[0], session.turns[2]) for message in turn.messages]
    await store.save("c", kept, expect=session.version)
    with pytest.raises(LookupError, match="conversation 'c' has no entry"):
        await conversations.load("c")


@scenario
async def test_export_and_erasure_by_owner(conversations: Conversations, store: Store) -> None:
    for id in ("a", "b"):
        await add(conversations, "one", id=id, scope="ann@example.com")
    await add(conversations, "one", id="c", scope="bob")
    assert sorted([session.info.key.session async for session in store.export_owner("ann@example.com")]) == ["a", "b"]
    assert (await store.erase_owner("ann@example.com")).sessions == 2
    assert [record.conversation_id for record in await conversations.list_conversations()] == ["c"]


def test_show_prints_the_text(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"

    async def write() -> None:
        async with open_store(url) as store:
            conversation = new(id="c")
            conversation.messages += tool_turn("Weather?")
            await Conversations(store).save(conversation)

    asyncio.run(write())
    assert main(["show", "c", "--store", url]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert shown == [
        "  user: Weather?",
        '  assistant calls weather({"city": "Paris"}) as call-1',
        "  tool weather call-1: sunny",
        "  assistant: It is sunny.",
    ]
