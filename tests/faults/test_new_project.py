"""The projects of `turnlog new-backend` and `new-layer` pass the kit at once, as their authors run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from turnlog_new import new_project

MEMORY = "/dev/shm"  # noqa: S108 - Linux: without it, most of the time would be synchronisation of files


@pytest.mark.parametrize("kind", ["backend", "layer"])
def test_a_new_project_passes_the_kit(kind: Literal["backend", "layer"], tmp_path: Path) -> None:
    folder = new_project(kind, "acme-db", tmp_path)
    path = os.pathsep.join(filter(None, [str(folder / "src"), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": MEMORY if os.path.isdir(MEMORY) else str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(done.stdout.splitlines()[-1].split()[0]) > 250
