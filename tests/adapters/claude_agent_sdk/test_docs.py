"""The how-to page runs, and the example shows a batch that only the SDK's example store stores twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import servers
from adapters import page
from adapters.published import sources
from checkout import ROOT


def test_the_page_runs(tmp_path: Path) -> None:
    page.check("claude-agent-sdk", tmp_path)


def test_a_lost_answer_doubles_a_batch_in_their_store_alone() -> None:
    theirs = sources("claude-agent-sdk", "0.2.189") / "examples/session_stores/redis_session_store.py"
    program = ROOT / "docs/examples/frameworks/claude_lost_answer.py"
    command = [sys.executable, str(program), servers.redis(), str(theirs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "SDK's example: 3 entries\nturnlog: 2 entries\n", done.stderr
