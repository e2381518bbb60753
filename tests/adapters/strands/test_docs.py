"""The how-to page, and the example of a lost turn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from adapters import page

EXAMPLE = Path(__file__).parents[3] / "docs/examples/frameworks/strands_example.py"


def test_what_the_page_shows_is_what_happens(tmp_path: Path) -> None:
    page.check("strands", tmp_path)


def test_files_lose_a_turn_and_turnlog_does_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "FileSessionManager: 1 of 2 turns\nturnlog: 2 of 2 turns\n"
