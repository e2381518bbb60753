"""Processes for the tests of the example store, with the installed copy.

python jsonl_writers.py append FOLDER NAME COUNT [unlocked]   append turns once a line arrives on standard input
python jsonl_writers.py kill FOLDER KILLS [in-place]          kill writers before or after each system call
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from importlib import import_module
from types import SimpleNamespace

from turnlog import SessionNotFound, assistant, open_store, user

CALLS = {"mkdir", "open", "flock", "read", "readall", "write", "writelines", "flush", "fsync", "replace", "close"}


def without_the_lock() -> None:
    """Install the naive store without a lock: two writers read one session, and the second overwrites the first."""
    vars(import_module("turnlog_jsonl"))["fcntl"] = SimpleNamespace(LOCK_EX=0, LOCK_UN=0, flock=lambda *_: None)


def in_place() -> None:
    """Install the naive store that overwrites the only copy."""
    vars(import_module("turnlog_jsonl"))["_replace"] = lambda path, lines: path.write_bytes(b"\n".join(lines))


async def append(folder: str, name: str, count: int) -> None:
    """Append turns. Both messages of a turn name its writer and its place."""
    async with open_store(f"jsonl:///{folder}") as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        for place in range(count):
            said = f"{name} {place}"
            await store.append("shared", [user(said), assistant(said)])


class Death:
    """Kills this process at one of its system calls, and counts them."""

    def __init__(self) -> None:
        self.calls = 0
        self.at: int | None = None
        self.armed = False
        threading.setprofile(self.watch)  # for threads that start later: the store works in one of them

    def watch(self, frame: object, event: str, call: object) -> None:
        """Count a call. Python calls this before and after each call of a C function."""
        if self.armed and event in ("c_call", "c_return") and getattr(call, "__name__", "") in CALLS:
            if self.calls == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.calls += 1


async def write_and_die(folder: str, kill: int, at: int | None, acknowledge: int) -> int:
    """Append one turn and begin another; write the ids of the acknowledged turns to a pipe."""
    death = Death()
    async with open_store(f"jsonl:///{folder}") as store:
        for turn in (f"{kill}-warm", f"{kill}-killed"):
            await store.append("shared", [user(turn), assistant(turn)], turn_id=turn)
            os.write(acknowledge, f"{turn}\n".encode())
            death.at, death.armed = at, True
    return death.calls


def forked(folder: str, kill: int, at: int | None) -> tuple[list[str], int, int]:
    """Fork a writer; return its acknowledged turns, its exit status and the number of its system calls."""
    here, there = os.pipe()
    pid = os.fork()
    if not pid:
        made = asyncio.run(write_and_die(folder, kill, at, there))
        os.write(there, f"calls {made}\n".encode())
        os._exit(0)
    os.close(there)
    with os.fdopen(here) as pipe:
        lines = pipe.read().split("\n")[:-1]
    _, status = os.waitpid(pid, 0)
    calls = [int(line.removeprefix("calls ")) for line in lines if line.startswith("calls ")]
    return [line for line in lines if not line.startswith("calls ")], status, sum(calls)


async def stored(folder: str) -> list[str]:
    """Return the ids of the stored turns; fail if one is torn."""
    async with open_store(f"jsonl:///{folder}") as store:
        try:
            session = await store.session("shared")
        except SessionNotFound:
            return []
    assert [turn.number for turn in session.turns] == list(range(session.info.turns))
    for turn in session.turns:
        assert [message.text for message in turn.messages] == [turn.id, turn.id], f"torn: {turn}"
    return [turn.id for turn in session.turns]


async def send_again(folder: str, turn: str) -> None:
    """Send a turn again, as the client of a killed writer does."""
    async with open_store(f"jsonl:///{folder}") as store:
        await store.append("shared", [user(turn), assistant(turn)], turn_id=turn)


def kill(folder: str, kills: int) -> None:
    """Kill writers. After each kill, check the stored turns and send the unacknowledged turn again."""
    points = forked(f"{folder}-counted", 0, None)[2]
    expected: list[str] = []
    unknown = 0
    for number in range(kills):
        acknowledged, status, _ = forked(folder, number, number % points)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"it was not killed: {status}"
        assert acknowledged == [f"{number}-warm"]
        expected += acknowledged
        found = asyncio.run(stored(folder))
        assert found in (expected, [*expected, f"{number}-killed"]), f"kill {number}: {found[-5:]} of {expected[-5:]}"
        unknown += len(found) - len(expected)
        asyncio.run(send_again(folder, f"{number}-killed"))
        expected.append(f"{number}-killed")
        assert asyncio.run(stored(folder)) == expected
    sys.stdout.write(f"{kills} kills at {points} places, {unknown} turns were there unacknowledged\n")
    assert 0 < unknown < kills  # the kills fell both before and after the commit


if __name__ == "__main__":
    what, folder, *more = sys.argv[1:]
    if more[-1] == "unlocked":
        without_the_lock()
    if more[-1] == "in-place":
        in_place()
    if what == "append":
        asyncio.run(append(folder, more[0], int(more[1])))
    else:
        kill(folder, int(more[0]))
