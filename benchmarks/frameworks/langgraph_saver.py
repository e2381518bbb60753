"""Measure `TurnlogSaver` and SqliteSaver side by side: python benchmarks/frameworks/langgraph_saver.py

The graph has one node, and its state is a list of messages (`add_messages`).  Each round does the same with both
checkpointers, one after the other, so that other work on the machine slows both.  The script prints medians, the ratios
of the medians, and the ratios of the minima and of the medians of the processor time, which a busy machine changes
less.  The processor time is that of all threads.  "New saver" is the first read of a new saver over an open store or
connection; at 200 turns, the script reads after each of the last 60 turns, because the time depends on the number of
turns since the last checkpoint with all values.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from statistics import median
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

import turnlog.sync
from turnlog_langgraph import TurnlogSaver

ANSWER = "The weather is fine, and the answer goes on for a while about it. " * 5
Times = list[tuple[float, float]]
"""The time and the processor time of each call, in milliseconds."""

Pair = tuple[Times, Times]


def no_times() -> Pair:
    return [], []


def model(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"{ANSWER}{len(state['messages'])}")]}


builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_edge(START, "model")


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def both(ours: Callable[[], object], theirs: Callable[[], object], pair: Pair, number: int) -> None:
    """Add the times of each call; the second call of a round begins the next one."""
    order = ((ours, pair[0]), (theirs, pair[1]))
    for call, times in order if number % 2 else order[::-1]:
        start, busy = time.perf_counter(), time.process_time()
        call()
        busy = time.process_time() - busy
        times.append(((time.perf_counter() - start) * 1e3, busy * 1e3))


def show(name: str, pair: Pair) -> None:
    (ours, our_work), (theirs, their_work) = [[*zip(*times, strict=True)] for times in pair]
    ratios = [median(ours) / median(theirs), min(ours) / min(theirs), median(our_work) / median(their_work)]
    numbers = "   ".join(f"{ratio:9.2f}" for ratio in ratios)
    print(f"{name:36} {median(ours):10.3g} ms {median(theirs):10.3g} ms   {numbers}", flush=True)


def turns(graphs: Sequence[Any], thread: str, numbers: Iterable[int], pair: Pair) -> None:
    """Run a turn on both graphs for each number."""
    for number in numbers:
        question = {"messages": [HumanMessage(f"What will the weather be like on day {number}?")]}
        calls = [lambda graph=graph: graph.invoke(question, config(thread)) for graph in graphs]
        both(calls[0], calls[1], pair, number)


def grown(savers: Sequence[Any], thread: str, messages: int) -> None:
    """Make a thread with a number of messages by one update of each graph."""
    for saver in savers:
        half = [HumanMessage("What is the weather like?"), AIMessage(ANSWER)] * (messages // 2)
        new = [message.model_copy(update={"id": f"{thread}-{place}"}) for place, message in enumerate(half)]
        builder.compile(checkpointer=saver).update_state(config(thread), {"messages": new})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    rounds: int = parser.parse_args().rounds
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = stack.enter_context(turnlog.sync.open_store(f"sqlite:///{folder}/ours.db"))
        connection = stack.enter_context(closing(sqlite3.connect(f"{folder}/theirs.db", check_same_thread=False)))
        ours, theirs = TurnlogSaver(store), SqliteSaver(connection)
        graphs = [builder.compile(checkpointer=saver) for saver in (ours, theirs)]
        print(f"{'':36} {'turnlog':>13} {'SqliteSaver':>13}   {'ratio':>9}      minima   processor")

        def read(thread: str, number: int, cold: Pair, warm: Pair) -> None:
            fresh = TurnlogSaver(store), SqliteSaver(connection)
            both(lambda: fresh[0].get_tuple(config(thread)), lambda: fresh[1].get_tuple(config(thread)), cold, number)
            both(lambda: ours.get_tuple(config(thread)), lambda: theirs.get_tuple(config(thread)), warm, number)

        pair, cold, warm = no_times(), no_times(), no_times()
        turns(graphs, "long", range(140), pair)
        for number in range(140, 200):
            turns(graphs, "long", [number], pair)
            read("long", number, cold, warm)
        show("200 turns: a turn", pair)
        show("200 turns: a turn, the last 50", (pair[0][-50:], pair[1][-50:]))
        show("140 to 200 turns: read, new saver", cold)
        show("140 to 200 turns: read", warm)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with closing(sqlite3.connect(f"{folder}/ours.db")) as mine:
            mine.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = [os.path.getsize(f"{folder}/{name}.db") / 1024 for name in ("ours", "theirs")]
        print(f"{'200 turns: size of the file':36} {size[0]:9.0f} KiB {size[1]:9.0f} KiB   1/{size[1] / size[0]:.1f}")

        grown((ours, theirs), "thousand", 1_000)
        pair, cold, warm = no_times(), no_times(), no_times()
        turns(graphs, "thousand", range(rounds), pair)
        show("1,000 messages: a turn", pair)
        for number in range(rounds):
            read("thousand", number, cold, warm)
        show("1,000 messages: read, new saver", cold)
        show("1,000 messages: read", warm)

        for number in range(100):
            grown((ours, theirs), f"thread-{number}", 4)
        pair = no_times()
        for number in range(max(3, rounds // 5)):
            both(
                lambda: [*store.sessions()],
                lambda: {one.config["configurable"]["thread_id"] for one in theirs.list(None)},
                pair,
                number,
            )
        show("102 threads: their ids", pair)


if __name__ == "__main__":
    main()
