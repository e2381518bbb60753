"""Conversations are sessions like others: turnlog's own operations work on them, and layers and views apply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic_ai.conversation_store import ConversationConflict, ConversationRecord

from adapters.pydantic_ai.scenarios import add, loaded, new, scenario, texts, tool_turn, turn
from turnlog import Change, Conflict, Expect, Key, OutcomeUnknown, Receipt, Store, Unavailable, open_store, user
from turnlog.testing.faulty import Fault, FaultyBackend
from turnlog_cli import main
from turnlog_memory import MemoryBackend
from turnlog_pydantic_ai import TurnlogConversationStore as Conversations

# --------------------------------------------------------------------------------------------------------- lost answers


@pytest.mark.parametrize("fault", ["lose_request", "lose_reply", "repeat"])
def test_a_save_whose_answer_is_lost_is_stored_once(url: str, fault: Fault) -> None:
    async def test() -> None:
        async with open_store(url) as opened:
            faulty = FaultyBackend(opened.backend)
            conversations, store = Conversations(Store(faulty)), opened
            await add(conversations, "one")
            conversation = await loaded(conversations)
            for text in ("two", "three"):
                conversation.messages += turn(text)
                faulty.fail_next("delay", "delay", fault)  # a save reads twice
                await conversations.save(conversation)
            faulty.fail_next("delay", "delay", "delay", "delay", fault)  # a fork also reads the history, twice
            await conversations.fork("c", new_conversation_id="f")
            assert texts((await loaded(conversations)).messages)[::2] == ["one", "two", "three"]
            assert await conversations.load_entries("f") == await conversations.load_entries("c")
            assert ((await store.info("c")).turns, (await store.info("f")).turns) == (3, 1)

    asyncio.run(test())


def test_a_lost_answer_hides_no_conflict() -> None:
    """The first attempt was not stored, and another writer saves before the second one."""

    class Overtaken(FaultyBackend):
        async def commit(self, key: Key, change: Change) -> Receipt:
            if self.overtakes:
                self.overtakes = False
                await Store(self.inner).append(key.session, [user("first")])
            return await super().commit(key, change)

        overtakes = False

    async def test() -> None:
        overtaken = Overtaken(MemoryBackend())
        async with Store(overtaken) as store:
            conversations = Conversations(store)
            await add(conversations, "one")
            conversation = await loaded(conversations)
            conversation.messages += turn("two")
            overtaken.overtakes = True
            overtaken.fail_next("delay", "delay", "lose_request")
            with pytest.raises(ConversationConflict) as error:
                await conversations.save(conversation)
            assert isinstance(error.value.__cause__, Conflict)
            assert [len(turn.messages) for turn in (await store.session("c")).turns] == [2, 1]

    asyncio.run(test())


def test_a_deletion_removes_only_the_revision_that_it_names() -> None:
    class Overtaken(MemoryBackend):
        async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
            await Store(self).append(key.session, [user("first")])
            return await super().delete(key, expect=expect, for_owner=for_owner)

    async def test() -> None:
        async with Store(Overtaken()) as store:
            conversations = Conversations(store)
            await add(conversations, "one")
            revision = (await loaded(conversations)).revision
            with pytest.raises(ConversationConflict):
                await conversations.delete_record("c", expected_revision=str(revision))
            assert len((await loaded(conversations)).messages) == 2

    asyncio.run(test())


@scenario
async def test_errors_of_the_store_pass_through(conversations: Conversations, store: Store) -> None:
    faulty = FaultyBackend(store.backend)
    conversations = Conversations(Store(faulty))
    await add(conversations, "one")
    faulty.fail_next("lose_request")
    with pytest.raises(Unavailable):
        await conversations.load("c")
    faulty.fail_next("delay", "delay", "lose_reply")
    with pytest.raises(OutcomeUnknown, match="call the method again"):
        await conversations.delete("c")
    await conversations.delete("c")
    assert await conversations.load("c") is None


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
    assert {record.conversation_id for record in await conversations.list_conversations()} == {"c", "whole", "part"}
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
    entries = await conversations.load_entries("c", limit=4)
    assert entries is not None
    assert len(entries) == 4
    record = await conversations.read_record("c")
    assert record is not None
    orphan = ConversationRecord(conversation_id="f", head_id="dropped", forked_from="c")
    with pytest.raises(ConversationConflict):
        await conversations.write_record(orphan, expected_revision=None)
    await conversations.branch("c", at=1, expected_revision=record.revision)
    await store.trim("c", before=4)  # also the entry to which the conversation has returned
    assert (await loaded(conversations)).messages == []
    with pytest.raises(LookupError):
        await conversations.read_entry("dropped")
    await add(conversations, "six")
    assert texts((await loaded(conversations)).messages)[::2] == ["six"]


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


def test_a_list_keeps_no_conversation_alive() -> None:
    now = 1_000.0

    async def test() -> None:
        nonlocal now
        async with Store(MemoryBackend(ttl=100, clock=lambda: now)) as store:
            conversations = Conversations(store)
            await add(conversations, "one", "two")
            await store.rewind("c", turns=1)
            now += 60
            assert len(await conversations.list_conversations()) == 1
            now += 60
            assert await conversations.list_conversations() == []
            assert await conversations.load("c") is None

    asyncio.run(test())


@scenario
async def test_the_stored_record_names_its_format(conversations: Conversations, store: Store) -> None:
    await add(conversations, "one")
    ours: Any = (await store.load("c"))[-1].get("turnlog")
    listed: Any = (await store.info("c")).metadata["pydantic_ai"]
    assert ours["record"] == listed["record"]
    assert listed["record"].keys() == {"conversation_id", "head_id", "revision", "updated_at", "format_version"}


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
