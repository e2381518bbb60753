"""Two processes append, pop, rewrite and trim one session: no message is lost or doubled."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import servers
from session_editors import SESSIONS
from turnlog import open_store

EDITORS = Path(__file__).with_name("session_editors.py")


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/chat.db?namespace=edits"
    return f"{getattr(servers, request.param)()}?namespace=edits"


def test_two_processes_edit_one_session(url: str) -> None:
    """A `rewrite` that ignored its condition would lose a turn of the other writer."""
    command = [sys.executable, str(EDITORS), url]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("a", "b")]
    logs = []
    for writer in writers:
        out, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0
        logs.append(json.loads(out))
    created = logs[0]["created"] | logs[1]["created"]
    gone = Counter(logs[0]["removed"] + logs[1]["removed"])
    assert len(created) == len(logs[0]["created"]) + len(logs[1]["created"])

    async def check() -> int:
        trimmed = 0
        async with open_store(url) as store:
            for number in range(SESSIONS):
                session = await store.session(f"s{number}")
                left = Counter(message.text for message in session.messages)
                ours = {text: turn for text, turn in created.items() if text.startswith(f"{number}-")}
                assert set(left) <= set(ours)
                for text, turn in ours.items():
                    assert left[text] + gone[text] <= 1, text
                    if not left[text] + gone[text]:
                        assert turn < session.info.first, f"{text} of turn {turn} is lost"
                        trimmed += 1
                await store.erase(f"s{number}")
        return trimmed

    assert asyncio.run(check()) > 0
    assert gone
