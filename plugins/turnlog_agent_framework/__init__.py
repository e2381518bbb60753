"""`TurnlogHistoryProvider`: a history provider of Microsoft's Agent Framework on any turnlog store.

    from agent_framework import Agent
    from turnlog import open_store
    from turnlog_agent_framework import TurnlogHistoryProvider

    async with open_store("sqlite:///agent.db") as store:
        agent = Agent(client, context_providers=[TurnlogHistoryProvider(store)])
        session = agent.create_session(session_id="alice")
        print(await agent.run("What is my name?", session=session))

To install it, run `pip install 'turnlog[agent-framework]'`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("agent_framework") is None:
    raise ImportError(
        "turnlog_agent_framework needs agent-framework-core, which is not installed: "
        "pip install 'turnlog[agent-framework]'"
    )

from ._history_provider import TurnlogHistoryProvider

__all__ = ["TurnlogHistoryProvider"]
