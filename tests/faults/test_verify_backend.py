"""`turnlog verify-backend` runs the whole kit against what a URL names, and reports honestly."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributions import install
from example_store import environment
from turnlog import open_store, user
from turnlog.testing import BackendContract
from turnlog.testing.over_url import TOPICS

MEMORY = Path("/dev/shm")  # noqa: S108 - `TemporaryDirectory` makes a folder of its own there


def verify(url: str, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    code = "import sys, turnlog_cli; sys.exit(turnlog_cli.main(['verify-backend', sys.argv[1]]))"
    path = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-c", code, url],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory on Linux: otherwise most of the time would be synchronisation of files."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def test_each_chapter_has_a_name() -> None:
    named = {one for chapters in TOPICS.values() for one in chapters}
    chapters = {one for one in BackendContract.__mro__ if any(name.startswith("test_") for name in vars(one))}
    assert chapters == named
    assert set(TOPICS) >= {
        "contract",
        "order",
        "concurrency",
        "retry",
        "cancel",
        "crash",
        "corrupt",
        "tenant",
        "owner",
        "limits",
        "time",
    }


def test_the_report_of_the_example_is_honest(site: Path, fast: Path) -> None:
    done = verify("jsonl:///chats", fast, environment(site)["PYTHONPATH"])
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "declares: durable, processes, shared, threads"
    verdicts = {
        words[0]: " ".join(words[1:]) for line in lines[2:] if not line[0].isspace() and (words := line.split())
    }
    assert list(verdicts) == list(TOPICS)
    assert verdicts.pop("corrupt") == "not tested"
    assert all(verdict.endswith((" tests pass", " test passes")) for verdict in verdicts.values())
    assert "turnlog cannot damage the storage of an unknown backend" in done.stdout
    shown = done.stderr.splitlines()
    assert sum(line.endswith("time: for ever by default") for line in shown) == 1


BROKEN = '''
from turnlog_memory import MemoryBackend
from msgspec.structs import replace

class LastWriteWins(MemoryBackend):
    """Ignores conditions."""

    async def commit(self, key, change):
        return await super().commit(key, replace(change, expect=None))
'''


def test_a_broken_sentence_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"turnlog.backends": {"broken": "broken_backend:LastWriteWins"}}
    install(monkeypatch, tmp_path, "turnlog-broken", entries, broken_backend=BROKEN)
    done = verify("broken://", tmp_path, str(tmp_path / "site-turnlog-broken"))
    assert done.returncode == 1
    assert "conflict     BROKEN: " in done.stdout
    assert "- The version of another session is refused. (Failed: DID NOT RAISE" in done.stdout
    assert "broken: The version of another session is refused." in done.stderr


async def test_a_store_with_sessions_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    async with open_store(url) as store:
        await store.within("shop").append("alice", [user("Hello")])
    done = verify(url, tmp_path, "")
    assert done.returncode == 2, done.stderr
    assert "this store holds session 'alice' in namespace 'shop'" in done.stderr
    assert done.stdout == ""


def test_a_run_that_ends_early_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from turnlog_memory import MemoryBackend\n"
    source += "class Stops(MemoryBackend):\n    async def delete(self, *a, **k):\n        raise KeyboardInterrupt\n"
    install(monkeypatch, tmp_path, "turnlog-stops", {"turnlog.backends": {"stops": "stops:Stops"}}, stops=source)
    done = verify("stops://", tmp_path, str(tmp_path / "site-turnlog-stops"))
    assert done.returncode == 1
    assert "INCOMPLETE: the tests ended after " in done.stdout


def test_a_backend_that_hangs_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import asyncio\nfrom turnlog.testing import _base\nfrom turnlog_memory import MemoryBackend\n"
    source += "_base.SECONDS = 0\nclass Hangs(MemoryBackend):\n    async def commit(self, *a, **k):\n"
    source += "        await asyncio.Event().wait()\n"
    install(monkeypatch, tmp_path, "turnlog-hangs", {"turnlog.backends": {"hangs": "hangs:Hangs"}}, hangs=source)
    done = verify("hangs://", tmp_path, str(tmp_path / "site-turnlog-hangs"))
    assert done.returncode == 1
    assert "INCOMPLETE: the tests ended after " in done.stdout
    assert "; 3 tests did not end within " in done.stdout
    assert "it waited in commit, at " in done.stdout


def test_an_open_that_raises_a_foreign_error_names_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from turnlog_memory import MemoryBackend\n"
    source += "class Shut(MemoryBackend):\n    async def open(self):\n        raise OSError('no such device')\n"
    install(monkeypatch, tmp_path, "turnlog-shut", {"turnlog.backends": {"shut": "shut:Shut"}}, shut=source)
    done = verify("shut://", tmp_path, str(tmp_path / "site-turnlog-shut"))
    assert done.returncode == 2, done.stderr
    assert "no test has run: <Shut> raised OSError: no such device when it was opened" in done.stderr
