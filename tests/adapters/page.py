"""Runs the how-to page of a framework."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def check(name: str, folder: Path) -> None:
    """Run docs/how-to/frameworks/NAME.md in a folder; fail unless it prints what it shows."""
    done = subprocess.run(
        [sys.executable, _ROOT / "tests/docs/run_page.py", _ROOT / f"docs/how-to/frameworks/{name}.md"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
