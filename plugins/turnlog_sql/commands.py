"""The commands `turnlog migrate` and `turnlog check`."""

from __future__ import annotations

from shlex import quote
from typing import Protocol, runtime_checkable

from cyclopts import App

from turnlog import open_store
from turnlog.config import masked_url, open_existing
from turnlog.layers import stack_of

__all__ = ["check", "migrate"]


@runtime_checkable
class _HasTables(Protocol):
    """A backend with tables, of any plugin (`docs/how-to/databases.md`)."""

    async def bring_up(self) -> str:
        """Create or upgrade the tables, close all connections, and return a report in one line."""


@runtime_checkable
class _HasCheck(Protocol):
    """A backend whose database can check itself, of any plugin."""

    async def check(self, *, quick: bool = False) -> list[str]:
        """Return one line for each problem."""


def migrate(app: App) -> None:
    """Register `turnlog migrate`."""
    app.command(_migrate, name="migrate")


async def _migrate(*, store: str | None = None) -> None:
    """Create the tables of a store, or upgrade them to the version that this turnlog needs.

    If the tables have this version, or the backend has no tables, the command changes nothing.

    Args:
        store: The URL of the store, such as sqlite:///chat.db.
    """
    *_, backend = stack_of(open_store(store).backend)
    if isinstance(backend, _HasTables):
        print(_on_one_line(await backend.bring_up()))
    else:
        print(_on_one_line(f"{masked_url(store)} has no tables: nothing to do"))


def check(app: App) -> None:
    """Register `turnlog check`."""
    app.command(_check, name="check")


async def _check(*, store: str | None = None, quick: bool = False) -> int:
    """Check an SQLite database for damage, and print each problem.  The check changes nothing.

    The exit code is 1 if the database is damaged.

    Args:
        store: The URL of the store, such as sqlite:///chat.db.
        quick: Skip the comparison of indexes with tables, which takes longest.
    """
    opened = open_existing(store)
    *_, backend = stack_of(opened.backend)
    if not isinstance(backend, _HasCheck):
        url = masked_url(store)
        print(
            _on_one_line(f"{url} has no check of its own; to read every session: turnlog verify --store {quote(url)}")
        )
        return 0
    async with opened:
        found = await backend.check(quick=quick)
    for one in found:
        print(_on_one_line(one))
    if not found:
        print(_on_one_line(f"{masked_url(store)}: no damage was found"))
    return 1 if found else 0


def _on_one_line(text: str) -> str:
    """Escape the characters that could control a terminal."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
