"""The tests of the examples write their files to memory, because most of their time would be synchronisation."""

import os
import tempfile

import pytest

MEMORY = "/dev/shm"  # noqa: S108 - Linux; `mkdtemp` makes a folder of its own there

collect_ignore = ["turnlog-jsonl"]  # tests/faults/test_example_store.py installs it, and runs its tests


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.isdir(MEMORY):
        monkeypatch.setattr(tempfile, "tempdir", MEMORY)
