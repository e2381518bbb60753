"""Concurrent requests on one session from two processes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import servers
from turnlog import open_store

SCRIPT = Path(__file__).with_name("requests_at_once.py")


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/chat.db"
    servers.ask_redis(servers.redis(), "FLUSHDB")
    return servers.redis()


def start(url: str, mode: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), url, mode, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds a lease while its model waits for a line on standard input."""
    with start(url, "serialize", 0) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "asked\n"
            yield process
        finally:
            process.kill()


def turns(url: str) -> list[list[str]]:
    """Return the texts of each stored turn."""

    async def load() -> list[list[str]]:
        async with open_store(url) as store:
            return [[message.text for message in turn.messages] for turn in (await store.session("s")).turns]

    return asyncio.run(load())


@pytest.mark.parametrize("mode", ["append", "retry", "raise", "serialize"])
def test_twenty_requests_in_two_processes(url: str, mode: str) -> None:
    asyncio.run(made(url))
    processes = [start(url, mode, 10) for _ in range(2)]
    told = [line for process in processes for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in processes] == [0, 0]
    stored = turns(url)
    assert told.count("stored") == len(stored)
    assert len(told) == 20
    if mode == "append":
        assert len(stored) == 20
        assert all(question == "?" and answer.startswith("saw ") for question, answer in stored)
    else:  # each model received all earlier turns
        assert stored == [["?", f"saw {2 * place + 1}"] for place in range(len(stored))]
        losers = 0 if mode != "raise" else 20 - len(stored)
        assert told.count("Conflict") == losers
        assert (losers > 0) == (mode == "raise")


async def made(url: str) -> None:
    async with open_store(url):  # creates the tables
        pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_holder_that_is_killed_or_stopped_is_passed_over_and_refused(url: str, how: signal.Signals) -> None:
    with holder(url) as process:
        process.send_signal(how)
        with start(url, "serialize", 1) as other:
            assert other.communicate(timeout=60)[0] == "stored\n"
        if how == signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)
            assert process.communicate("go on\n", timeout=60)[0] == "Conflict\n"
    assert turns(url) == [["?", "saw 1"]]
