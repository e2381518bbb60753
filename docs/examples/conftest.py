"""The tests of the examples write their files to memory, because most of their time would be synchronisation."""

import os
import tempfile

import pytest

MEMORY = "/dev/shm"  # noqa: S108 - Linux; `mkdtemp` makes a folder of its own there


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.isdir(MEMORY):
        monkeypatch.setattr(tempfile, "tempdir", MEMORY)
