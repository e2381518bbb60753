"""The how-to page runs, and the example shows half a turn that only the framework's provider stores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from adapters import page
from checkout import ROOT


def test_the_page_runs(tmp_path: Path) -> None:
    page.check("agent-framework", tmp_path)


def test_half_a_turn_is_stored_by_their_provider_alone() -> None:
    program = ROOT / "docs/examples/frameworks/agent_framework_half_turn.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == (
        "FileHistoryProvider raises UnicodeEncodeError\n"
        "FileHistoryProvider has stored: user, assistant\n"
        "TurnlogHistoryProvider has stored: user, assistant, tool, assistant\n"
    ), done.stderr
