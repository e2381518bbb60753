"""A model with prepared rules, and agents over a repository."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from strands import Agent, tool
from strands.models import Model
from strands.session.repository_session_manager import RepositorySessionManager

from turnlog_strands import TurnlogSessionRepository


class Rules(Model):
    """Calls the tool `weather` for each question, and then answers with its result."""

    def update_config(self, **model_config: Any) -> None:
        pass

    def get_config(self) -> dict[str, str]:
        return {}

    def structured_output(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncIterator[Any]:
        last = messages[-1]["content"]
        question = next((block["text"] for block in last if "text" in block), None)
        yield {"messageStart": {"role": "assistant"}}
        if question is None:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": "It is sunny."}}}
        else:
            call = {"name": "weather", "toolUseId": f"call-{question}"}
            yield {"contentBlockStart": {"start": {"toolUse": call}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": "{}"}}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn" if question is None else "tool_use"}}


@tool
def weather() -> str:
    """Return the weather."""
    return "sunny"


def agent_of(repository: TurnlogSessionRepository, session_id: str = "c", **options: Any) -> Agent:
    manager = RepositorySessionManager(session_id, session_repository=repository)
    return Agent(model=Rules(), tools=[weather], session_manager=manager, callback_handler=None, **options)
