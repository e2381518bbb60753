"""`TurnlogSaver`: a checkpointer for LangGraph that keeps each thread in a session of a turnlog store.

import turnlog.sync
from turnlog_langgraph import TurnlogSaver

with turnlog.sync.open_store("sqlite:///threads.db") as store:
    graph = builder.compile(checkpointer=TurnlogSaver(store))
    graph.invoke({"messages": "Hello"}, {"configurable": {"thread_id": "alice"}})
"""

from __future__ import annotations

from ._saver import TurnlogSaver

__all__ = ["TurnlogSaver"]
