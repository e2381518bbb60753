"""The how-to page, and the example of a lost history."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from adapters import page

EXAMPLE = Path(__file__).parents[3] / "docs/examples/frameworks/llama_index_example.py"


def test_what_the_page_shows_is_what_happens(tmp_path: Path) -> None:
    page.check("llama-index", tmp_path)


def test_their_store_loses_a_history_and_turnlog_does_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "SQLAlchemyChatStore: 0 of 2 messages\nturnlog: 2 of 2 messages\n"
