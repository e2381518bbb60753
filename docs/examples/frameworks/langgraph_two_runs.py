"""Two runs of a graph on one thread at the same time: SqliteSaver loses an exchange, turnlog refuses the late run.

Run it with: python langgraph_two_runs.py.  It needs langgraph-checkpoint-sqlite.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from tempfile import TemporaryDirectory
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

import turnlog.sync
from turnlog import Conflict
from turnlog_langgraph import TurnlogSaver

FIRST, SECOND = "Where is my order?", "I moved to Paris."


def two_runs(saver: BaseCheckpointSaver[Any]) -> list[str]:
    """Run a graph, and meanwhile run it once more on the same thread; return the user's messages of the thread."""
    busy = False

    def model(_: MessagesState) -> dict[str, list[AnyMessage]]:
        nonlocal busy
        if not busy:  # while this model works, another worker of the application handles a second message
            busy = True
            with ThreadPoolExecutor(1) as worker:
                worker.submit(ask, SECOND).result()
        return {"messages": [AIMessage("Noted.")]}

    def ask(text: str) -> None:
        graph.invoke({"messages": [("user", text)]}, thread, durability="exit")

    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_edge(START, "model")
    graph = builder.compile(checkpointer=saver)
    thread: Any = {"configurable": {"thread_id": "alice"}}
    again(lambda: ask(FIRST))
    return [message.text for message in graph.get_state(thread).values["messages"] if message.type == "human"]


def again(run: Callable[[], None]) -> None:
    """Run a graph; if another run has continued the thread in the meantime, run it again."""
    try:
        run()
    except Conflict:
        run()


def main() -> None:
    """Print the messages that each checkpointer keeps."""
    with TemporaryDirectory() as folder:
        with closing(sqlite3.connect(f"{folder}/theirs.db", check_same_thread=False)) as connection:
            print(f"SqliteSaver: {two_runs(SqliteSaver(connection))}")
        with turnlog.sync.open_store(f"sqlite:///{folder}/ours.db") as store:
            print(f"TurnlogSaver: {two_runs(TurnlogSaver(store, on_fork='refuse'))}")


if __name__ == "__main__":
    main()
