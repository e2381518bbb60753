"""Fixtures of the tests of `turnlog_google_adk`."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.google_adk.services import THEIRS
from adapters.stacks import STACKS, url_of


@pytest.fixture(params=[*STACKS, *THEIRS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a stack without sessions, or the location of a service of ADK."""
    name: str = request.param
    return f"{name} {tmp_path}" if name in THEIRS else url_of(name, tmp_path)
