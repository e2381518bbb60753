"""Two requests on one conversation at the same time: a JSON column loses a turn, turnlog keeps both.

The column is the first pattern on pydantic-ai's page "Persistence", under "Storing a conversation yourself".
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from tempfile import TemporaryDirectory

from pydantic_ai import Agent, Conversation, ConversationTypeAdapter
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import ModelMessage, UserPromptPart
from pydantic_ai.models.test import TestModel

from turnlog import open_store
from turnlog_pydantic_ai import TurnlogConversationStore

agent = Agent(TestModel(custom_output_text="Noted."))


async def with_a_column(path: str) -> list[ModelMessage]:
    """Keep each conversation as JSON in a row."""
    table = sqlite3.connect(path)
    table.execute("CREATE TABLE conversations (id TEXT PRIMARY KEY, json BLOB)")

    def load() -> Conversation:
        row = table.execute("SELECT json FROM conversations WHERE id = 'c'").fetchone()
        return ConversationTypeAdapter.validate_json(row[0]) if row else Conversation(conversation_id="c")

    async def ask(text: str) -> None:
        result = await agent.run(text, conversation=load())
        data = ConversationTypeAdapter.dump_json(result.conversation)
        table.execute("REPLACE INTO conversations VALUES ('c', ?)", (data,))  # also replaces the other request's turn
        table.commit()

    await two_requests(ask)
    return load().messages


async def with_turnlog(path: str) -> list[ModelMessage]:
    """Keep each conversation in a turnlog store."""
    async with open_store(f"sqlite:///{path}") as store:
        conversations = TurnlogConversationStore(store)

        async def load() -> Conversation:
            return await conversations.load("c") or Conversation(conversation_id="c")

        async def ask(text: str) -> None:
            while True:
                result = await agent.run(text, conversation=await load())
                try:
                    await conversations.save(result)
                except ConversationConflict:
                    continue  # the other request has saved first: answer again, with its turn in the history
                return

        await two_requests(ask)
        return (await load()).messages


async def two_requests(ask: Callable[[str], Awaitable[None]]) -> None:
    """Send two messages of a user at once, as two browser tabs do."""
    await asyncio.gather(ask("I am allergic to nuts."), ask("I live in Paris."))


def questions(messages: list[ModelMessage]) -> int:
    """Return the number of messages of the user."""
    return sum(isinstance(part, UserPromptPart) for message in messages for part in message.parts)


with TemporaryDirectory() as folder:
    print("column:", questions(asyncio.run(with_a_column(f"{folder}/column.db"))), "of 2 turns")
    print("turnlog:", questions(asyncio.run(with_turnlog(f"{folder}/turnlog.db"))), "of 2 turns")
