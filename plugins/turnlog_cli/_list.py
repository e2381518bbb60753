"""`turnlog list` and `turnlog plugins`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Final, NamedTuple

from turnlog import InvalidInput, Store
from turnlog.config import Plugin, fault_of, installed, open_existing

from ._namespaces import check_one
from ._table import Table
from ._text import Code, Printer, as_json, complain, counted, line, minute_of, note, time_of, title_of

_TITLE: Final = 48  # characters of a title on a terminal
_OWNER: Final = 24  # characters of an owner on a terminal


def list_sessions(
    url: str | None,
    owner: str | None,
    limit: int,
    *,
    namespace: str | None = None,
    prefix: str | None = None,
    everywhere: bool = False,
    json: bool,
) -> int:
    """Print sessions, most recently updated first: a table on a terminal, otherwise lines with tabs.

    Args:
        url: The URL of the store; None: the store in the configuration.
        owner: Print only sessions of this owner.
        limit: The largest number of sessions; 0: all.
        namespace: The namespace; None: the namespace in the configuration.
        prefix: Print only sessions whose ids begin with this text.
        everywhere: Print the sessions of all namespaces, each with its namespace.
        json: Print one JSON object per line.
    """
    if limit < 0:
        raise InvalidInput(f"--limit must be 0 or greater, not {limit}")
    check_one(namespace, everywhere=everywhere)
    wanted = _Wanted(owner, prefix, limit, everywhere=everywhere)
    return asyncio.run(_list_sessions(url, wanted, namespace, json=json))


class _Wanted(NamedTuple):
    """The sessions to print."""

    owner: str | None
    prefix: str | None
    limit: int
    everywhere: bool

    def described(self, store: Store) -> str:
        """Return the end of the sentence about a list without sessions."""
        whose = "" if self.owner is None else f" of owner {self.owner!r}" if self.owner else " without an owner"
        which = f" with the prefix {self.prefix!r}" if self.prefix else ""
        return f"{whose}{which} in {'any namespace' if self.everywhere else f'namespace {store.namespace!r}'}"


async def _list_sessions(url: str | None, wanted: _Wanted, namespace: str | None, *, json: bool) -> int:
    limit = wanted.limit
    table = Table(
        *(["namespace"] if wanted.everywhere else []), "session", "turns", "messages", "updated", "owner", "title"
    )
    count = 0
    async with open_existing(url, namespace=namespace) as store:
        infos = store.sessions(owner=wanted.owner, prefix=wanted.prefix, all_namespaces=wanted.everywhere)
        try:
            async for info in infos:  # raises the error of damaged sessions at the end
                if limit and count == limit:
                    note(f"turnlog: {counted(limit, 'session')} shown, there are more: --limit 0 shows all")
                    break
                count += 1
                if json:
                    print(as_json(info.to_dict()))
                else:
                    where = [info.key.namespace] if wanted.everywhere else []
                    turns, messages = str(info.turns - info.first), str(info.messages)
                    updated = (minute_of if table.on_terminal else time_of)(info.updated)
                    owner_shown, title = info.owner, title_of(info.metadata)
                    if table.on_terminal:
                        owner_shown, title = _shortened(owner_shown, _OWNER), _shortened(title, _TITLE)
                    table.add(*where, info.key.session, turns, messages, updated, owner_shown, title)
        finally:
            table.end()
        if not count:
            note(f"turnlog: there are no sessions{wanted.described(store)}")
    return Code.FINE


def _shortened(text: str, most: int) -> str:
    return f"{text[:most]}..." if len(text) > most else text


def list_plugins(*, json: bool) -> int:
    """Print the installed plugins, in the format of `list_sessions`, and the faults of those that cannot be used."""
    found = [(plugin, fault_of(plugin)) for plugin in installed()]
    if not json and Printer().console is not None:
        return _print_groups(found)
    for plugin, fault in found:
        names = ("group", "name", "target", "distribution", "version")
        fields = {**{name: str(getattr(plugin, name)) for name in names}, "fault": fault}
        print(as_json(fields) if json else "\t".join(map(line, fields.values())))
    return Code.FINE


def _print_groups(found: Sequence[tuple[Plugin, str]]) -> int:
    out = Printer()
    for group, plugins in groupby(found, key=lambda one: one[0].group):
        out((group, "bold"))
        table = Table("name", "target", "distribution")
        for plugin, _ in plugins:
            table.add(plugin.name, plugin.target, f"{plugin.distribution} {plugin.version}")
        table.end()
        out()
    for _, fault in found:
        if fault:
            complain(fault)
    return Code.FINE
