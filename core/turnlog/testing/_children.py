"""`Child`: a process that a test forks, and that reports lines of text; `Gate` starts several of them together."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
import warnings
from collections.abc import Awaitable, Callable

import pytest

__all__ = ["Child", "Gate"]


class Gate:
    """Lets several children begin at the same moment."""

    def __init__(self) -> None:
        self._for_children, self._for_parent = os.pipe()

    def wait(self) -> None:
        """Wait in a child until the parent opens the gate."""
        os.close(self._for_parent)
        os.read(self._for_children, 1)

    def open(self) -> None:
        """Let the children begin."""
        os.close(self._for_parent)
        os.close(self._for_children)


class Child:
    """A forked process that runs a coroutine function in an event loop.

    A test may fork only while no event loop runs in its thread.

    Args:
        work: The function.  It takes a function that reports a line to the parent.
    """

    def __init__(self, work: Callable[[Callable[[str], None]], Awaitable[None]]) -> None:
        if not hasattr(os, "fork"):
            pytest.skip("this system cannot fork")
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the parent may have threads; the child needs none
            self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            _run(work, writer)
        os.close(writer)
        self._reports = os.fdopen(reader, encoding="utf-8")

    def lines(self, number: int | None = None) -> list[str]:
        """Return the next lines; None: all lines until the process ends.

        Raises:
            AssertionError: The process has failed; the message is its traceback.
        """
        found: list[str] = []
        while number is None or len(found) < number:
            line = self._reports.readline()
            if not line.endswith("\n"):  # the end, perhaps in the middle of a line
                break
            if line.startswith("!"):
                raise AssertionError("the child process failed:\n" + line[1:] + self._reports.read())
            found.append(line[:-1])
        return found

    def kill(self) -> list[str]:
        """Kill the process by SIGKILL, and return the lines that it had reported before."""
        os.kill(self.pid, signal.SIGKILL)
        return self.join()

    def join(self) -> list[str]:
        """Wait for the end of the process, and return its remaining lines."""
        try:
            return self.lines()
        finally:
            self._reports.close()
            os.waitpid(self.pid, 0)


def _run(work: Callable[[Callable[[str], None]], Awaitable[None]], writer: int) -> None:
    """Run the function in the child, which never returns to the test."""

    def report(line: str) -> None:
        os.write(writer, f"{line}\n".encode())

    async def main() -> None:
        await work(report)

    try:
        asyncio.run(main())
    except BaseException:  # noqa: BLE001 - the parent raises it
        report("!" + traceback.format_exc())
    finally:
        os._exit(0)
