"""Sessions of the OpenAI Agents SDK, stored by turnlog.

    from agents import Agent, Runner
    from turnlog import open_store
    from turnlog_openai_agents import TurnlogSession

    async with open_store("sqlite:///chat.db") as store:
        session = TurnlogSession(store, "alice")
        result = await Runner.run(Agent(name="Assistant"), "My name is Alice.", session=session)

To install it, run `pip install 'turnlog[openai-agents]'`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("agents") is None:
    raise ModuleNotFoundError(
        "turnlog_openai_agents needs the OpenAI Agents SDK: run pip install 'turnlog[openai-agents]'", name="agents"
    )

from ._session import TurnlogSession

__all__ = ["TurnlogSession"]
