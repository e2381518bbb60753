"""`TurnlogConversationStore`: a store for the conversations of pydantic-ai.

    from pydantic_ai import Agent, Conversation
    from turnlog import open_store
    from turnlog_pydantic_ai import TurnlogConversationStore

    async with open_store("sqlite:///chat.db") as store:
        conversations = TurnlogConversationStore(store)
        conversation = await conversations.load("case-7") or Conversation(conversation_id="case-7")
        result = await agent.run("Where is my order?", conversation=conversation)
        await conversations.save(result)

To install it, run `pip install 'turnlog[pydantic-ai]'`.
"""

from __future__ import annotations

try:
    from ._store import TurnlogConversationStore
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"turnlog_pydantic_ai needs pydantic-ai-slim 2.66 or later, but {error.name} is not installed: "
        "pip install 'turnlog[pydantic-ai]'",
        name=error.name,
    ) from error

__all__ = ["TurnlogConversationStore"]
