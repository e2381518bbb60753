"""`TurnlogSessionRepository` and `TurnlogStorage`: the sessions of Strands Agents in a turnlog store.

    import turnlog.sync
    from strands import Agent
    from strands.session import RepositorySessionManager
    from turnlog_strands import TurnlogSessionRepository

    with turnlog.sync.open_store("sqlite:///chat.db") as store:
        repository = TurnlogSessionRepository(store)
        agent = Agent(session_manager=RepositorySessionManager("case-7", session_repository=repository))
        agent("Where is my order?")

To install it, run `pip install 'turnlog[strands]'`.
"""

from __future__ import annotations

try:
    from ._repository import TurnlogSessionRepository
    from ._storage import TurnlogStorage
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"turnlog_strands needs strands-agents 1.55 or later, but {error.name} is not installed: "
        "pip install 'turnlog[strands]'",
        name=error.name,
    ) from error

__all__ = ["TurnlogSessionRepository", "TurnlogStorage"]
