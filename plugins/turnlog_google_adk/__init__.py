"""`TurnlogSessionService`: a session service of Google's Agent Development Kit (ADK) on any turnlog store.

    from google.adk.runners import Runner
    from turnlog import open_store
    from turnlog_google_adk import TurnlogSessionService

    async with open_store("sqlite:///agent.db") as store:
        runner = Runner(app_name="shop", agent=agent, session_service=TurnlogSessionService(store))
        async for event in runner.run_async(user_id="alice", session_id="7", new_message=message):
            print(event)

To install it, run `pip install 'turnlog[google-adk]'`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("google") is None or find_spec("google.adk") is None:
    raise ImportError("turnlog_google_adk needs google-adk, which is not installed: pip install 'turnlog[google-adk]'")

from ._session_service import TurnlogSessionService

__all__ = ["TurnlogSessionService"]
