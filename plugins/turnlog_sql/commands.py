"""The command `turnlog migrate`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from cyclopts import App

from turnlog import open_store
from turnlog.layers import stack_of

__all__ = ["migrate"]


@runtime_checkable
class _HasTables(Protocol):
    """A backend with tables, of any plugin (`docs/how-to/databases.md`)."""

    async def bring_up(self) -> str:
        """Create the tables, or upgrade them, close all connections, and return one line that says what was done."""


def migrate(app: App) -> None:
    """Register `turnlog migrate`."""
    app.command(_migrate, name="migrate")


async def _migrate(*, store: str | None = None) -> None:
    """Create the tables of a store, or upgrade them to the version that this turnlog needs.

    A store without tables, or with tables of that version, stays as it is.

    Args:
        store: The URL of the store, such as sqlite:///chat.db.
    """
    *_, backend = stack_of(open_store(store).backend)
    if isinstance(backend, _HasTables):
        print(_on_one_line(await backend.bring_up()))
    else:
        print(f"{backend!r} has no tables: nothing to do")


def _on_one_line(text: str) -> str:
    """Escape the characters that could control a terminal."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
