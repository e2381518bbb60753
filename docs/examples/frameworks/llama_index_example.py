"""Two requests in one chat at the same time: a persisted SimpleChatStore loses a turn, turnlog keeps both.

Each request loads the store, adds a turn and persists the store, as in LlamaIndex's documentation of chat stores.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.storage.chat_store import BaseChatStore, SimpleChatStore

import turnlog.sync
from turnlog_llama_index import TurnlogChatStore


def answer(chats: BaseChatStore, text: str) -> None:
    """Add a message of the user, and the answer."""
    chats.add_message("c", ChatMessage(text))
    chats.add_message("c", ChatMessage("Noted.", role=MessageRole.ASSISTANT))


def questions(chats: BaseChatStore) -> int:
    """Return the number of messages of the user."""
    return sum(message.role == MessageRole.USER for message in chats.get_messages("c"))


with TemporaryDirectory() as folder:
    path = f"{folder}/chats.json"
    first, second = SimpleChatStore.from_persist_path(path), SimpleChatStore.from_persist_path(path)
    answer(first, "I am allergic to nuts.")
    first.persist(path)
    answer(second, "I live in Paris.")
    second.persist(path)  # also replaces the other request's turn
    print("SimpleChatStore:", questions(SimpleChatStore.from_persist_path(path)), "of 2 turns")

    with turnlog.sync.open_store(f"sqlite:///{folder}/chat.db") as store:
        answer(TurnlogChatStore(store), "I am allergic to nuts.")
        answer(TurnlogChatStore(store), "I live in Paris.")
        print("turnlog:", questions(TurnlogChatStore(store)), "of 2 turns")
