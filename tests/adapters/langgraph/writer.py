"""Runs a graph on threads while another process does the same: python writer.py URL NAME.

For each thread id on standard input, the program asks the graph three questions.  A run stores one checkpoint, at its
end (`durability="exit"`).  If the other process has continued the thread in the meantime, the program asks again.  It
prints the number of refused runs.
"""

from __future__ import annotations

import sys

import turnlog.sync
from adapters.langgraph.graphs import ask, chat, thread
from turnlog import Conflict
from turnlog_langgraph import TurnlogSaver

TURNS = 3


def main(url: str, name: str) -> None:
    with turnlog.sync.open_store(url) as store:
        graph = chat(TurnlogSaver(store, on_fork="refuse"))
        print("ready", flush=True)
        for line in iter(sys.stdin.readline, ""):
            refused = 0
            for number in range(TURNS):
                while True:
                    try:
                        ask(graph, thread(line.strip()), f"{name}-{number}", durability="exit")
                        break
                    except Conflict:
                        refused += 1
            print(refused, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
