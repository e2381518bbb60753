"""A history with one message that cannot be stored: SQLAlchemyChatStore loses the history, turnlog keeps it.

SQLAlchemyChatStore first deletes the stored messages, in a transaction of its own.  A crash at that time has the same
effect.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from tempfile import TemporaryDirectory

from llama_index.core.llms import ChatMessage
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore

import turnlog.sync
from turnlog_llama_index import TurnlogChatStore

HISTORY = [ChatMessage("I am allergic to nuts."), ChatMessage("I live in Paris.")]
LONGER = [*HISTORY, ChatMessage("What may I eat?", additional_kwargs={"request": object()})]


async def theirs(path: str) -> int:
    """Return the number of messages that SQLAlchemyChatStore keeps."""
    chats = SQLAlchemyChatStore("chats", f"sqlite+aiosqlite:///{path}")
    await chats.set_messages("c", HISTORY)
    with suppress(ValueError):
        await chats.set_messages("c", LONGER)
    kept = len(await chats.get_messages("c"))
    engine, _ = await chats._setup_connections()  # noqa: SLF001 - the class has no method that closes it
    await engine.dispose()
    return kept


def ours(url: str) -> int:
    """Return the number of messages that turnlog keeps."""
    with turnlog.sync.open_store(url) as store:
        chats = TurnlogChatStore(store)
        chats.set_messages("c", HISTORY)
        with suppress(ValueError):
            chats.set_messages("c", LONGER)
        return len(chats.get_messages("c"))


with TemporaryDirectory() as folder:
    print("SQLAlchemyChatStore:", asyncio.run(theirs(f"{folder}/chats.db")), "of 2 messages")
    print("turnlog:", ours(f"sqlite:///{folder}/turnlog.db"), "of 2 messages")
