"""`TurnlogSaver`: a checkpointer for LangGraph that keeps each thread in a session of a turnlog store.

    import turnlog.sync
    from turnlog_langgraph import TurnlogSaver

    with turnlog.sync.open_store("sqlite:///threads.db") as store:
        graph = builder.compile(checkpointer=TurnlogSaver(store))
        graph.invoke({"messages": "Hello"}, {"configurable": {"thread_id": "alice"}})

To install it, run `pip install 'turnlog[langgraph]'`.
"""

from __future__ import annotations

try:
    from ._saver import TurnlogSaver
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"turnlog_langgraph needs langgraph-checkpoint 4.1 or later, but {error.name} is not installed: "
        "pip install 'turnlog[langgraph]'",
        name=error.name,
    ) from error

__all__ = ["TurnlogSaver"]
