"""A kill between the rounds of a tool loop loses no finished round, and no finished round runs again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from turnlog import Message, Pipeline, Store, assistant
from turnlog_sql.sqlite import SQLiteBackend

ROUNDS = 3
KILLS = 100


def store_in(folder: Path) -> Store:
    return Store(SQLiteBackend(f"sqlite:///{folder}/chat.db", synchronous="NORMAL"))


class Work:
    """Answers one question with three rounds of calls, and kills its process at one of its steps.

    Args:
        log: The file for the steps, one line of JSON each.
        dies_at: The number of the step at which the process dies; 0: never.
    """

    def __init__(self, log: Path, dies_at: int) -> None:
        self.log = log
        self.left = dies_at

    def step(self, what: str, number: int) -> None:
        with self.log.open("a") as lines:
            lines.write(json.dumps([os.getpid(), what, number]) + "\n")
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

    async def model(self, messages: list[Message], **_: object) -> Message:
        question = max(place for place, message in enumerate(messages) if message.role == "user")
        number = sum(message.role == "tool" for message in messages[question:])
        self.step("asked with", number)
        if number == ROUNDS:
            return assistant("Done.")
        arguments = json.dumps({"number": number})
        call: Any = {"id": f"c{number}", "type": "function", "function": {"name": "run", "arguments": arguments}}
        return assistant(None, tool_calls=[call])

    async def run(self, number: int) -> str:
        self.step("ran", number)
        return str(number)


def killed(folder: Path, turn: int, dies_at: int) -> bool:
    """Answer a question in a child process; return whether the child was killed."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            asyncio.run(answer(folder, turn, dies_at))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) != 0


async def answer(folder: Path, turn: int, dies_at: int) -> None:
    work = Work(folder / f"log-{turn}", dies_at)
    async with store_in(folder) as store:
        pipeline = Pipeline(store, work.model, tools=[work.run])
        await pipeline.execute("s", "user", f"question {turn}", turn_id=f"t{turn}")


async def stored(folder: Path) -> list[list[str]]:
    async with store_in(folder) as store:
        return [[message.text for message in turn.messages] for turn in (await store.session("s")).turns]


def kill_a_hundred(folder: Path) -> None:
    asyncio.run(answer(folder, 0, 0))  # loads all modules before the forks
    kills, turn = 0, 1
    while kills < KILLS:
        dies_at = 1 + turn % 6
        while killed(folder, turn, dies_at):
            kills += 1
            dies_at = max(dies_at, 3)  # a process that dies in its first two steps finishes no round
        turn += 1


def test_a_hundred_kills(tmp_path: Path) -> None:
    # A separate process is smaller, so it forks faster.
    subprocess.run([sys.executable, "-W", "error", __file__, str(tmp_path)], check=True, timeout=120)
    for number, texts in enumerate(asyncio.run(stored(tmp_path))):
        assert texts == [f"question {number}", "", "0", "", "1", "", "2", "Done."]
        finished = 0
        for line in (tmp_path / f"log-{number}").read_text().splitlines():
            _, what, round = json.loads(line)
            assert round >= finished  # the model receives all finished rounds, and none runs again
            if what == "asked with":
                finished = round


if __name__ == "__main__":
    kill_a_hundred(Path(sys.argv[1]))
