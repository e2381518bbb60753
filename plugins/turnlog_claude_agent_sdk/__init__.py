"""`TurnlogSessionStore`: a session store of the Claude Agent SDK on any turnlog store.

    from claude_agent_sdk import ClaudeAgentOptions, query
    from turnlog import open_store
    from turnlog_claude_agent_sdk import TurnlogSessionStore

    async with open_store("sqlite:///agent.db") as store:
        options = ClaudeAgentOptions(session_store=TurnlogSessionStore(store), continue_conversation=True)
        async for message in query(prompt="What is my name?", options=options):
            print(message)

To install it, run `pip install 'turnlog[claude-agent-sdk]'`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("claude_agent_sdk") is None:
    raise ImportError(
        "turnlog_claude_agent_sdk needs claude-agent-sdk, which is not installed: "
        "pip install 'turnlog[claude-agent-sdk]'"
    )

from ._session_store import TurnlogSessionStore

__all__ = ["TurnlogSessionStore"]
