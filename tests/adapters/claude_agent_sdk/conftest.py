"""Fixtures of the tests of `turnlog_claude_agent_sdk`."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.stacks import SERVERS, url_of


@pytest.fixture(params=SERVERS)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a stack without sessions that several processes can share."""
    stack: str = request.param
    return url_of(stack, tmp_path)
