"""Chat histories of LlamaIndex in every store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ImageBlock, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.storage.chat_store import SimpleChatStore

import turnlog.sync
from turnlog import InvalidInput, open_store, user
from turnlog.testing.faulty import FaultyBackend
from turnlog_cli import main
from turnlog_llama_index import TurnlogChatStore
from turnlog_memory import MemoryBackend

MESSAGES = [
    ChatMessage("What is this?", additional_kwargs={"n": 1}),
    ChatMessage(
        role=MessageRole.ASSISTANT,
        blocks=[TextBlock(text="é 😀"), ToolCallBlock(tool_name="w", tool_kwargs={"a": 0.1}, tool_call_id="1")],
    ),
    ChatMessage("sunny", role=MessageRole.TOOL, additional_kwargs={"tool_call_id": "1"}),
    ChatMessage(blocks=[ImageBlock(image=b"\x89PNG\r\n")]),
]


@pytest.fixture
def store(url: str) -> Iterator[turnlog.sync.Store]:
    with turnlog.sync.open_store(url) as store:
        yield store


@pytest.fixture
def chats(store: turnlog.sync.Store) -> TurnlogChatStore:
    return TurnlogChatStore(store)


def texts(chats: TurnlogChatStore, key: str = "k") -> list[str | None]:
    return [message.content for message in chats.get_messages(key)]


def test_messages_are_loaded_as_they_were_set(store: turnlog.sync.Store, chats: TurnlogChatStore) -> None:
    chats.set_messages("k", MESSAGES)
    assert chats.get_messages("k") == MESSAGES
    chats.set_messages("k", MESSAGES[:1])
    assert chats.get_messages("k") == MESSAGES[:1]
    chats.set_messages("k", MESSAGES)
    assert [len(turn.messages) for turn in store.session("k").turns] == [3, 1]
    chats.set_messages("k", [])
    assert chats.get_messages("k") == []
    assert chats.get_keys() == []


def test_it_behaves_like_their_store(chats: TurnlogChatStore) -> None:
    for tested in (chats, SimpleChatStore()):
        assert tested.get_messages("k") == []
        assert tested.delete_messages("k") is None
        assert tested.delete_message("k", 0) is None
        assert tested.delete_last_message("k") is None
        for text in "abcde":
            tested.add_message("k", ChatMessage(text))
        assert tested.delete_message("k", 9) is None
        assert tested.delete_message("k", 1) == ChatMessage("b")
        assert tested.delete_message("k", -2) == ChatMessage("d")
        assert tested.delete_last_message("k") == ChatMessage("e")
        assert tested.get_messages("k") == [ChatMessage("a"), ChatMessage("c")]
        tested.add_message("other", ChatMessage("x"))
        assert sorted(tested.get_keys()) == ["k", "other"]
        assert tested.delete_messages("k") == [ChatMessage("a"), ChatMessage("c")]
        assert tested.get_keys() == ["other"]


def test_the_last_message_can_be_deleted(chats: TurnlogChatStore) -> None:
    chats.add_message("k", ChatMessage("a"))
    assert chats.delete_last_message("k") == ChatMessage("a")
    assert chats.delete_last_message("k") is None
    assert chats.delete_message("k", -1) is None
    assert chats.get_keys() == []


def test_keys_may_be_any_text(chats: TurnlogChatStore) -> None:
    keys = ["ann/7", "a%2F", "é\t\n", " x", "", "x" * 300, "x" * 301]
    for key in keys:
        chats.add_message(key, ChatMessage(key))
    assert sorted(chats.get_keys()) == sorted(keys)
    assert [texts(chats, key) for key in keys] == [[key] for key in keys]


def test_the_asynchronous_methods(url: str) -> None:
    async def run() -> None:
        async with open_store(url) as store:
            chats = TurnlogChatStore(store)
            await chats.aset_messages("k", MESSAGES)
            await asyncio.gather(*(chats.async_add_message("k", ChatMessage(str(number))) for number in range(9)))
            assert len(await chats.aget_messages("k")) == 13
            assert chats.get_messages("k")[:4] == MESSAGES  # inside a running loop
            assert (await chats.adelete_message("k", 0)) == MESSAGES[0]
            assert await chats.aget_keys() == ["k"]
            assert len(await chats.adelete_messages("k") or ()) == 12

    asyncio.run(run())


def test_a_memory_remembers_after_a_restart(store: turnlog.sync.Store) -> None:
    def memory() -> ChatMemoryBuffer:
        return ChatMemoryBuffer.from_defaults(
            chat_store=TurnlogChatStore(store), chat_store_key="k", tokenizer_fn=str.split
        )

    memory().put(ChatMessage("My name is Alice."))
    memory().put(ChatMessage("Hello, Alice!", role=MessageRole.ASSISTANT))
    assert [message.content for message in memory().get()] == ["My name is Alice.", "Hello, Alice!"]


def test_users_do_not_see_each_other(store: turnlog.sync.Store) -> None:
    ann, bob = (TurnlogChatStore(store.for_owner(name)) for name in ("ann", "bob"))
    ann.add_message("k", ChatMessage("secret"))
    assert (bob.get_messages("k"), bob.get_keys(), bob.delete_messages("k")) == ([], [], None)
    with pytest.raises(turnlog.SessionNotFound):
        bob.add_message("k", ChatMessage("mine"))
    assert [len(session.messages) for session in store.export_owner("ann")] == [1]
    assert store.erase_owner("ann").sessions == 1


def test_a_deletion_keeps_a_message_that_is_added_meanwhile() -> None:
    class Overtaken(FaultyBackend):
        rival: Any = None

        async def commit(self, key: Any, change: Any) -> Any:
            if self.rival is not None:
                rival, self.rival = self.rival, None
                await rival()
            return await super().commit(key, change)

    backend = Overtaken(MemoryBackend())
    with turnlog.sync.Store(backend) as store:
        chats = TurnlogChatStore(store)
        for text in "abc":
            chats.add_message("k", ChatMessage(text))
        message = {"role": "user", "content": [{"block_type": "text", "text": "new"}]}
        backend.rival = lambda: store.wrapped.append("k", [message])
        assert chats.delete_message("k", 0) == ChatMessage("a")
        assert texts(chats) == ["b", "c", "new"]


def test_a_lost_answer_is_stored_once() -> None:
    backend = FaultyBackend(MemoryBackend())
    with turnlog.sync.Store(backend) as store:
        chats = TurnlogChatStore(store)
        for text in "ab":
            backend.fail_next("lose_reply")
            chats.add_message("k", ChatMessage(text))
        backend.fail_next("delay", "lose_reply")  # it reads first
        chats.set_messages("k", [ChatMessage("a"), ChatMessage("c")])
        assert texts(chats) == ["a", "c"]


def test_bad_input(chats: TurnlogChatStore, store: turnlog.sync.Store) -> None:
    with pytest.raises(InvalidInput, match=r"turnlog\.sync\.Store, not str"):
        TurnlogChatStore("memory://")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="must be a ChatMessage of LlamaIndex, not str"):
        chats.add_message("k", "hello")  # type: ignore[arg-type]
    assert chats.get_keys() == []
    store.append("k", [user("hello")])
    with pytest.raises(InvalidInput, match="LlamaIndex did not write"):
        chats.get_messages("k")


def test_show_prints_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    with turnlog.sync.open_store(url) as store:
        TurnlogChatStore(store).set_messages("k", MESSAGES)
    assert main(["show", "k", "--store", url]) == 0
    shown = capsys.readouterr().out
    assert "  user: What is this?" in shown
    assert "  assistant: é 😀" in shown
