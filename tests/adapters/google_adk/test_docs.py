"""The how-to page runs, and the example shows states that only ADK's service loses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from adapters import page
from checkout import ROOT


def test_the_page_runs(tmp_path: Path) -> None:
    page.check("google-adk", tmp_path)


def test_states_are_lost_in_their_service_alone() -> None:
    program = ROOT / "docs/examples/frameworks/google_adk_state.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    theirs, ours = done.stdout.splitlines()
    assert int(theirs.removeprefix("DatabaseSessionService: ").split()[0]) < 8, done.stderr
    assert ours == "turnlog: 8 of 8 facts"
