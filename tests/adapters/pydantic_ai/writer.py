"""Writes turns to conversations while another process does the same: python writer.py URL NAME.

For each conversation id on standard input, the program runs an agent with a tool three times, and prints the number of
saves that were refused because the other process had saved first.
"""

from __future__ import annotations

import asyncio
import sys

from pydantic_ai import Agent, Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from turnlog import open_store
from turnlog_pydantic_ai import TurnlogConversationStore

TURNS = 3


def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    question = next((part.content for part in messages[-1].parts if isinstance(part, UserPromptPart)), None)
    return ModelResponse(
        parts=[TextPart("sunny") if question is None else ToolCallPart("weather", {}, f"call-{question}")]
    )


agent = Agent(FunctionModel(answer))


@agent.tool_plain
async def weather() -> str:
    await asyncio.sleep(0)
    return "sunny"


async def ask(conversations: TurnlogConversationStore, id: str, text: str) -> int:
    """Run the agent until its turn is saved; return the number of conflicts."""
    conflicts = 0
    while True:
        conversation = await conversations.load(id) or Conversation(conversation_id=id)
        result = await agent.run(text, conversation=conversation)
        try:
            await conversations.save(result)
        except ConversationConflict:
            conflicts += 1
        else:
            return conflicts


async def main(url: str, name: str) -> None:
    async with open_store(url) as store:
        conversations = TurnlogConversationStore(store)
        print("ready", flush=True)
        for line in iter(sys.stdin.readline, ""):
            conflicts = [await ask(conversations, line.strip(), f"{name}-{number}") for number in range(TURNS)]
            print(sum(conflicts), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
