"""The how-to page, and the example of a lost exchange."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from adapters import page

EXAMPLE = Path(__file__).parents[3] / "docs/examples/frameworks/langgraph_two_runs.py"


def test_the_page_shows_what_happens(tmp_path: Path) -> None:
    page.check("langgraph", tmp_path)


def test_two_runs_lose_an_exchange_on_sqlite_saver_and_not_on_turnlog(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    shown = (Path(__file__).parents[3] / "docs/how-to/frameworks/langgraph.md").read_text()
    assert done.stdout.startswith("SqliteSaver: ['Where is my order?']\n")
    assert f"```text\n{done.stdout}```" in shown
