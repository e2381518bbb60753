"""Fixtures of the tests of `turnlog_agent_framework`."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.stacks import STACKS, url_of

THEIRS = "FileHistoryProvider"


@pytest.fixture(params=[*STACKS, THEIRS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a stack without sessions, or a folder for the framework's own provider."""
    name: str = request.param
    return str(tmp_path) if name == THEIRS else url_of(name, tmp_path)
