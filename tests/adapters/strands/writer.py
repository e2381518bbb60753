"""Runs agents in sessions while another process does the same: python writer.py URL NAME.

For each session id on standard input, the program asks two questions, and prints the number of runs that were refused
because the other process had stored a message first.  A question that is asked again has another number.
"""

from __future__ import annotations

import sys
from itertools import count

from strands.types.exceptions import EventLoopException, SessionException

import turnlog.sync
from adapters.strands.agents import agent_of
from turnlog_strands import TurnlogSessionRepository

TURNS = 2


def main(url: str, name: str) -> None:
    with turnlog.sync.open_store(url) as store:
        repository = TurnlogSessionRepository(store)
        print("ready", flush=True)
        for line in iter(sys.stdin.readline, ""):
            answered: list[str] = []
            for number in count():
                if len(answered) == TURNS:
                    break
                try:
                    agent_of(repository, line.strip())(f"{name}-{number}")
                except (SessionException, EventLoopException):  # Strands wraps it in the middle of a run
                    continue
                answered.append(f"{name}-{number}")
            print(number, *answered, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
