"""What tests of the example store do in processes of their own, with the installed copy.

python jsonl_faults.py append FOLDER NAME COUNT [unlocked]   append turns, once a line comes in
python jsonl_faults.py kill FOLDER KILLS [in-place]          writers that die before or after each call to the system
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
    """The naive store: two writers read the same session, and the second one's replaces the first one's."""
    vars(import_module("turnlog_jsonl"))["fcntl"] = SimpleNamespace(LOCK_EX=0, LOCK_UN=0, flock=lambda *_: None)


def in_place() -> None:
    """The naive store: it writes over the only copy."""
    vars(import_module("turnlog_jsonl"))["_replace"] = lambda path, lines: path.write_bytes(b"\n".join(lines))


async def append(folder: str, name: str, count: int) -> None:
    """Append turns; each says its writer and its place, twice."""
    async with open_store(f"jsonl:///{folder}") as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        for place in range(count):
            said = f"{name} {place}"
            await store.append("shared", [user(said), assistant(said)])


class Death:
    """Kills this process at one of its calls to the system, and counts them."""

    def __init__(self) -> None:
        self.calls = 0
        self.at: int | None = None
        self.armed = False
        threading.setprofile(self.watch)  # for threads that begin later: the store's work is done in one

    def watch(self, frame: object, event: str, call: object) -> None:
        """Called by Python before and after each call of a function that is written in C."""
        if self.armed and event in ("c_call", "c_return") and getattr(call, "__name__", "") in CALLS:
            if self.calls == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.calls += 1


async def write_and_die(folder: str, kill: int, at: int | None, acknowledge: int) -> int:
    """Append one turn, and begin another; say on a pipe which are acknowledged."""
    death = Death()
    async with open_store(f"jsonl:///{folder}") as store:
        for turn in (f"{kill}-warm", f"{kill}-killed"):
            await store.append("shared", [user(turn), assistant(turn)], turn_id=turn)
            os.write(acknowledge, f"{turn}\n".encode())
            death.at, death.armed = at, True
    return death.calls


def forked(folder: str, kill: int, at: int | None) -> tuple[list[str], int, int]:
    """The turns that a forked writer had acknowledged, how it ended, and how many calls it made."""
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
    """The ids of the turns that are there; none of them is torn."""
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
    """What a client does whose writer has died."""
    async with open_store(f"jsonl:///{folder}") as store:
        await store.append("shared", [user(turn), assistant(turn)], turn_id=turn)


def kill(folder: str, kills: int) -> None:
    """Kill writers, look after each what is there, and send again what it may have lost."""
    points = forked(f"{folder}-counted", 0, None)[2]
    expected: list[str] = []
    unknown = 0
    for number in range(kills):
        acknowledged, status, _ = forked(folder, number, number % points)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"it ended by itself: {status}"
        assert acknowledged == [f"{number}-warm"]
        expected += acknowledged
        found = asyncio.run(stored(folder))
        assert found in (expected, [*expected, f"{number}-killed"]), f"kill {number}: {found[-5:]} of {expected[-5:]}"
        unknown += len(found) - len(expected)
        asyncio.run(send_again(folder, f"{number}-killed"))
        expected.append(f"{number}-killed")
        assert asyncio.run(stored(folder)) == expected
    sys.stdout.write(f"{kills} kills at {points} places, {unknown} turns were there unacknowledged\n")
    assert 0 < unknown < kills  # it died on both sides of the moment that counts


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
