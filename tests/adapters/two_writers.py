"""Two processes that write to one session at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from checkout import ROOT

NAMES = ("a", "b")
"""The names of the two processes."""


@contextmanager
def two_writers(module: str, url: str) -> Iterator[Callable[[str], list[str]]]:
    """Start two processes, and yield a function that sends a line to both and returns the answer of each.

    At the end both must end with status 0.

    Args:
        module: The program: it takes a URL and its name, prints `ready`, and answers each line of its input by a line.
        url: The URL of the store.
    """
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with ExitStack() as stop:
        processes = [
            stop.enter_context(  # the end of a process's block closes its input, and waits for it
                subprocess.Popen(
                    [sys.executable, "-m", module, url, name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "PYTHONPATH": path},
                )
            )
            for name in NAMES
        ]

        def answers() -> list[str]:
            return [process.stdout.readline().rstrip("\n") for process in processes if process.stdout is not None]

        def send(line: str) -> list[str]:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{line}\n")
                process.stdin.flush()
            return answers()

        assert answers() == ["ready"] * len(NAMES)
        yield send
    assert [process.returncode for process in processes] == [0] * len(NAMES)
