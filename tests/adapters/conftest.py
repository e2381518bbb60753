"""Setup of the tests of adapters: the stacks, and a note for each framework that is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

import pytest

import servers
from adapters.stacks import SERVERS, STACKS, url_of

FRAMEWORKS: dict[str, str] = {
    "agent_framework": "agent_framework",
    "claude_agent_sdk": "claude_agent_sdk",
    "google_adk": "google.adk",
    "langgraph": "langgraph",
    "llama_index": "llama_index",
    "openai_agents": "agents",
    "pydantic_ai": "pydantic_ai",
    "strands": "strands",
}
"""The package that each adapter's framework provides, by the name of the folder with the adapter's tests."""


def _is_missing(package: str) -> bool:
    parents = accumulate(package.split("."), "{}.{}".format)  # find_spec imports the parents
    return any(find_spec(parent) is None for parent in parents)


collect_ignore = [name for name, package in FRAMEWORKS.items() if _is_missing(package)]
for _name in collect_ignore:
    servers.left_out[f"adapter {_name}"] = "its framework is not installed; nox -s adapters tests it"


@pytest.fixture(params=STACKS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a stack without sessions."""
    stack: str = request.param
    return url_of(stack, tmp_path)


@pytest.fixture(params=SERVERS)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a stack without sessions that several processes can share."""
    stack: str = request.param
    return url_of(stack, tmp_path)
