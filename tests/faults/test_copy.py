"""A copy of a store that is killed, and continued while others write."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
from pathlib import Path

from command_line import SLOW, turnlog
from test_transfer_commands import fill, sessions_at
from turnlog import open_store


def test_a_copy_that_is_killed_and_continued_while_others_write(tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db"
    fill(source, *(f"s{number}" for number in range(30)), turns=2)
    command = [*SLOW, "copy", source, target]
    kills = 0
    for turn in range(2):
        with subprocess.Popen([*command, "--rate=40"], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
            while not _has_sessions(tmp_path / "b.db", at_least=3 * (turn + 1)):
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        fill(source, f"s{turn}", f"new {turn}")
        asyncio.run(_change(source, turn))
    assert kills == 2
    done = turnlog("copy", source, target, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert sessions_at(target) == sessions_at(source)


async def _change(source: str, turn: int) -> None:
    async with open_store(source) as store:
        await store.rewind(f"s{10 + turn}", turns=1)
        await store.erase(f"s{20 + turn}")
        newest = [info.key.session async for info in store.sessions()][-1]  # the oldest is copied first
        await store.rewind(newest, turns=1)


def _has_sessions(path: Path, *, at_least: int) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        ((found,),) = connection.execute("SELECT count(*) FROM turnlog_sessions").fetchall()
    except sqlite3.OperationalError:  # the tables do not exist yet
        return False
    finally:
        connection.close()
    return bool(found >= at_least)
