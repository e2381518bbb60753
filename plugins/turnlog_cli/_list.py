"""`turnlog list` and `turnlog plugins`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from turnlog import InvalidInput
from turnlog.config import open_existing

from ._text import Code, Printer, as_json, line, note, time_of


def list_sessions(url: str | None, owner: str | None, limit: int, *, namespace: str | None = None, json: bool) -> int:
    """Print sessions, the last updated first: on a terminal a table, else lines with tabs between the columns.

    Args:
        url: Where they are; None: what the configuration names.
        owner: Only those of this owner.
        limit: How many at most; 0: all.
        namespace: The namespace; None: the one that the configuration names.
        json: An object a line instead.
    """
    if limit < 0:
        raise InvalidInput(f"--limit must be a number from 0, not {limit}")
    return asyncio.run(_list_sessions(url, owner, limit, namespace, json=json))


async def _list_sessions(url: str | None, owner: str | None, limit: int, namespace: str | None, *, json: bool) -> int:
    table = Table("session", "turns", "messages", "updated", "owner")
    count = 0
    async with open_existing(url, namespace=namespace) as store:
        try:
            async for info in store.sessions(owner=owner):  # after all others it raises the error of damaged ones
                if limit and count == limit:
                    note(f"turnlog: {limit} sessions shown, there are more: --limit 0 shows all")
                    break
                count += 1
                if json:
                    print(as_json(info.to_dict()))
                else:
                    turns, messages = str(info.turns - info.first), str(info.messages)
                    table.add(info.key.session, turns, messages, time_of(info.updated), info.owner)
        finally:
            table.end()
    return Code.FINE


def list_plugins(*, json: bool) -> int:
    """Print the installed plugins, as `list_sessions` prints sessions."""
    from turnlog.config import installed

    table = Table("group", "name", "target", "distribution", "version")
    for plugin in installed():
        fields = (plugin.group, plugin.name, plugin.target, plugin.distribution, plugin.version)
        if json:
            print(as_json(dict(zip(table.columns, fields, strict=True))))
        else:
            table.add(*fields)
    table.end()
    return Code.FINE


class Table:
    """Rows: on a terminal a table at the end, else lines at once."""

    def __init__(self, *columns: str) -> None:
        self.columns: Sequence[str] = columns
        self._rows: list[tuple[str, ...]] = []
        self._console = Printer().console

    def add(self, *cells: str) -> None:
        """One more row."""
        if self._console is None:
            print("\t".join(line(cell) for cell in cells))
        else:
            self._rows.append(cells)

    def end(self) -> None:
        """There are no more."""
        if self._console is None or not self._rows:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD)
        for column in self.columns:
            table.add_column(column, justify="right" if column in ("turns", "messages") else "left", overflow="fold")
        for row in self._rows:
            table.add_row(*(Text(line(cell)) for cell in row))
        self._console.print(table)
