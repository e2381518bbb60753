"""The stacks on which adapters are tested: each database, plain and with a cache and compression."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import servers
from sql_places import emptied_postgresql

DATABASES = ("memory", "sqlite", "redis", "postgresql")
LAYERS = "?layers=cache,zstd"

STACKS = [
    stack
    for database in DATABASES
    for stack in (database, database + LAYERS)
    if stack in os.environ.get("TURNLOG_TEST_STACKS", stack).split()
]
"""The stacks: all, or those that TURNLOG_TEST_STACKS names, separated by spaces."""

SERVERS = [stack for stack in STACKS if not stack.startswith("memory")]
"""The stacks that several processes can share."""


def url_of(stack: str, folder: Path) -> str:
    """Return the URL of a stack without sessions; a file is created in `folder`."""
    database, _, options = stack.partition("?")
    location = _LOCATIONS[database](folder)
    both = "&" if "?" in location else "?"
    return location + (both + options if options else "")


def _emptied_redis(_: Path) -> str:
    url = servers.redis()
    servers.ask_redis(url, "FLUSHDB")
    return url


_LOCATIONS: dict[str, Callable[[Path], str]] = {
    "memory": lambda _: "memory://",
    "sqlite": lambda folder: f"sqlite:///{folder}/turnlog.db",
    "redis": _emptied_redis,
    "postgresql": lambda _: emptied_postgresql(),
}
