"""`turnlog erase`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from turnlog import CorruptRecord, InvalidInput, Layer, SessionInfo, SessionNotFound, Store
from turnlog.config import open_existing
from turnlog.layers import stack_of
from turnlog.values import Remainder

from ._hooks import Scrubs, Sweeps, lowest
from ._namespaces import check_one, stores_of
from ._text import Code, Printer, as_json, complain, counted, is_terminal, line, note, title_of


class _What(NamedTuple):
    """What to remove: a session, or the sessions of an owner in one namespace or in all."""

    session_id: str | None
    owner: str | None
    everywhere: bool


class _Receipt(NamedTuple):
    """What was removed, and what remains."""

    sessions: dict[str, int]
    """How many sessions were removed, by namespace."""
    damaged: Sequence[CorruptRecord]
    """Sessions that may be the owner's, and were left."""
    remains: Sequence[Remainder]


def erase(
    session_id: str | None,
    url: str | None,
    *,
    namespace: str | None,
    owner: str | None,
    everywhere: bool,
    yes: bool,
    json: bool,
) -> int:
    """Remove a session, or all of an owner, and print what was removed, and what remains where and until when.

    Args:
        session_id: The session; or
        url: Where; None: in the store that the configuration names.
        namespace: The namespace; None: the one that the configuration names.
        owner: the owner.
        everywhere: The owner's sessions in all namespaces.
        yes: Do not ask.
        json: One object.

    Raises:
        InvalidInput: Neither or both are given, or nobody can be asked.
    """
    if (session_id is None) == (owner is None):
        raise InvalidInput("erase takes either a session or --owner")
    if everywhere and owner is None:
        raise InvalidInput("--all-namespaces needs --owner: a session is in one namespace")
    check_one(namespace, everywhere=everywhere)
    what = _What(session_id, owner, everywhere=everywhere)
    if not yes:
        if not is_terminal(sys.stdin):
            raise InvalidInput("erase asks before it removes anything, and standard input is no terminal: give --yes")
        # asked outside of an event loop, which would swallow the first Ctrl-C
        if not _agreed(asyncio.run(_question(what, url, namespace))):
            return Code.FAILED
    receipt = asyncio.run(_erase(what, url, namespace))
    _print_json(receipt) if json else _print(receipt)
    return Code.FAILED if receipt.damaged else Code.FINE


async def _question(what: _What, url: str | None, namespace: str | None) -> str:
    async with open_existing(url, namespace=namespace) as store:
        if what.owner is None:
            info = await _info(store, what.session_id or "")
            return f"Erase session {what.session_id!r} in {store.namespace!r}{_described(info)}?"
        counts: dict[str, int] = {}
        async for view in stores_of(store, everywhere=what.everywhere):
            counts[view.namespace] = 0
            with suppress(CorruptRecord):  # the receipt names what cannot be read
                async for _ in view.sessions(owner=what.owner):
                    counts[view.namespace] += 1
    names = ", ".join(repr(name) for name, count in counts.items() if count or len(counts) == 1) or "any namespace"
    return f"Erase {counted(sum(counts.values()), 'session')} of owner {what.owner!r} in {names}?"


async def _erase(what: _What, url: str | None, namespace: str | None) -> _Receipt:
    async with open_existing(url, namespace=namespace) as store:
        if what.owner is None:
            session_id = what.session_id or ""
            info = await _info(store, session_id)
            if not await store.erase(session_id):
                raise SessionNotFound(f"there is no session {session_id!r} in {store.namespace!r}")
            owner = info.owner if info is not None and info.owner else None
            return _Receipt({store.namespace: 1}, (), await _remains(store, [(store.namespace, owner)]))
        stores = [view async for view in stores_of(store, everywhere=what.everywhere)]
        erased = [(view.namespace, await view.erase_owner(what.owner)) for view in stores]
        remains = await _remains(store, [(name, what.owner) for name, _ in erased])
    damaged = [error for _, one in erased for error in one.damaged]
    return _Receipt({name: one.sessions for name, one in erased if one.sessions}, damaged, remains)


async def _info(store: Store, session_id: str) -> SessionInfo | None:
    """Return what is known of a session; None if it is damaged, which can be erased, too."""
    try:
        return await store.info(session_id)
    except CorruptRecord as error:
        complain(error)
        return None


def _described(info: SessionInfo | None) -> str:
    if info is None:
        return ""
    owner = f", owner {info.owner!r}" if info.owner else ""
    title = f", {title_of(info.metadata)!r}" if title_of(info.metadata) else ""
    size = f"{counted(info.turns - info.first, 'turn')}, {counted(info.messages, 'message')}"
    return f" ({size}{owner}{title})"


def _agreed(question: str) -> bool:
    print(f"{line(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    agreed = sys.stdin.readline().strip().lower() in ("y", "yes")
    if not agreed:
        note("turnlog: nothing was erased")
    return agreed


async def _remains(store: Store, owners: Sequence[tuple[str, str | None]]) -> list[Remainder]:
    """Return what may still hold parts of what was erased.

    Args:
        store: The store.
        owners: Each namespace with the owner of what was erased; None: it had none, or nobody can tell.
    """
    backend = store.backend
    found = []
    if isinstance(backend, Layer):
        for name, owner in owners:
            traces = await backend.traces(name, owner)
            found += [Remainder(trace, "it is removed, as the page of its layer says") for trace in traces]
    if any(isinstance(layer, Layer) and layer.position == "cache" for layer in stack_of(backend)):
        found.append(Remainder("copies in other processes with a cache", "they use the session again, or end"))
    below = lowest(backend)
    if isinstance(below, Sweeps):  # an expired session is listed nowhere, but is stored until it is swept
        await below.sweep()
    if isinstance(below, Scrubs):
        found += await below.scrub()
    else:
        found.append(Remainder(f"perhaps the files of {below!r}", "its documentation says"))
    return [*found, Remainder("backups, snapshots and exports", "you delete them")]


def _print_json(receipt: _Receipt) -> None:
    print(
        as_json(
            {
                "sessions": sum(receipt.sessions.values()),
                "namespaces": receipt.sessions,
                "damaged": [str(error) for error in receipt.damaged],
                "remains": [
                    {"where": one.where, "until": one.until, "command": one.command} for one in receipt.remains
                ],
            }
        )
    )


def _print(receipt: _Receipt) -> None:
    for error in receipt.damaged:
        complain(error)
    out = Printer()
    for name, count in receipt.sessions.items():
        out((f"erased: {counted(count, 'session')} in {name!r}", ""))
    if not receipt.sessions:
        out(("there was nothing to erase", ""))
    out()
    out(("what remains:", "bold"))
    for one in receipt.remains:
        out.wrapped(("  ", ""), (one.where, ""))
        out.wrapped(("    until ", "dim"), (one.until, ""), indent=6)
        if one.command:
            out(("    to remove it now: ", "dim"), (one.command, "bold"))  # unbroken, so that it can be copied
