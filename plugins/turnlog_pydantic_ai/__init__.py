"""A store for the conversations of pydantic-ai.

To install it, run `pip install 'turnlog[pydantic-ai]'`.

from pydantic_ai import Agent, Conversation
from turnlog import open_store
from turnlog_pydantic_ai import TurnlogConversationStore

async with open_store("sqlite:///chat.db") as store:
    conversations = TurnlogConversationStore(store)
    conversation = await conversations.load("case-7") or Conversation(conversation_id="case-7")
    result = await agent.run("Where is my order?", conversation=conversation)
    await conversations.save(result)
"""

try:
    import pydantic_ai.conversation_store as _  # noqa: F401 - pydantic-ai has it from 2.66 on
except ImportError as error:
    raise ImportError(
        "turnlog_pydantic_ai needs pydantic-ai-slim 2.66 or later: pip install 'turnlog[pydantic-ai]'"
    ) from error

from ._store import TurnlogConversationStore

__all__ = ["TurnlogConversationStore"]
