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

from ._hooks import Postpones, Sweeps, lowest, scrubbed, unfinished
from ._namespaces import check_one, stores_of
from ._remains import print_remains
from ._suggestion import not_found, suggested
from ._text import Code, Printer, as_json, complain, counted, is_terminal, line, note, title_of


class _What(NamedTuple):
    """The target: a session, or the sessions of an owner in one namespace or in all namespaces."""

    session_id: str | None
    owner: str | None
    everywhere: bool


class _Receipt(NamedTuple):
    """The receipt: the removed sessions, and the data that remains."""

    sessions: dict[str, int]
    """The number of removed sessions by namespace."""
    damaged: Sequence[CorruptRecord]
    """Sessions that may belong to the owner, and were not removed."""
    expired: int
    """The number of expired sessions of all owners that were removed.  No list shows expired sessions."""
    remains: Sequence[Remainder]

    @property
    def is_empty(self) -> bool:
        """Whether no session was found."""
        return not (self.sessions or self.damaged or self.expired)


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
    """Remove a session, or all sessions of an owner, and print the removed sessions and the data that remains.

    Args:
        session_id: The session; None: the sessions of `owner`.
        url: The URL of the store; None: the store in the configuration.
        namespace: The namespace; None: the namespace in the configuration.
        owner: The owner, in place of a session.
        everywhere: Remove the owner's sessions in all namespaces.
        yes: Do not ask for confirmation.
        json: Print one JSON object.

    Returns:
        1 if a damaged session was not removed, or if another command of turnlog can remove more data now.

    Raises:
        InvalidInput: Both or neither of a session and an owner are given, or the user cannot be asked.
    """
    if (session_id is None) == (owner is None):
        given = "neither was given: name one of them" if owner is None else "both were given: leave one of them out"
        raise InvalidInput(f"erase needs either SESSION or --owner, and {given}")
    if everywhere and owner is None:
        raise InvalidInput("--all-namespaces needs --owner: a session is in one namespace")
    check_one(namespace, everywhere=everywhere)
    what = _What(session_id, owner, everywhere=everywhere)
    if not yes:
        if not is_terminal(sys.stdin):
            raise InvalidInput(
                "erase asks before it removes data, and standard input is not a terminal: --yes erases without asking"
            )
        # asked outside of an event loop, because a loop would swallow the first Ctrl-C
        if not _agreed(asyncio.run(_question(what, url, namespace))):
            return Code.FAILED
    receipt = asyncio.run(_erase(what, url, namespace))
    _print_json(receipt) if json else _print(receipt)
    if unfinished(receipt.remains):
        note(
            "turnlog: parts of erased sessions are still in the store: the receipt names the command that removes them"
        )
    return Code.FAILED if receipt.damaged or unfinished(receipt.remains) else Code.FINE


async def _question(what: _What, url: str | None, namespace: str | None) -> str:
    async with open_existing(url, namespace=namespace) as store:
        if what.owner is None:
            try:
                info = await _info(store, what.session_id or "")
            except SessionNotFound as error:
                backend = lowest(store.backend)
                if not (isinstance(backend, Postpones) and await backend.unswept()):
                    raise await not_found(store, what.session_id or "", str(error)) from None
                return f"Erase all expired sessions? Session {what.session_id!r} may be one of them."
            return f"Erase session {what.session_id!r} in namespace {store.namespace!r}{_described(info)}?"
        counts: dict[str, int] = {}
        async for view in stores_of(store, everywhere=what.everywhere):
            counts[view.namespace] = 0
            with suppress(CorruptRecord):  # the receipt names the damaged sessions
                async for _ in view.sessions(owner=what.owner):
                    counts[view.namespace] += 1
    found = [repr(name) for name, count in counts.items() if count or len(counts) == 1]
    where = f"namespace{'s' * (len(found) > 1)} {', '.join(found)}" if found else "any namespace"
    return f"Erase {counted(sum(counts.values()), 'session')} of owner {what.owner!r} in {where}?"


async def _erase(what: _What, url: str | None, namespace: str | None) -> _Receipt:
    async with open_existing(url, namespace=namespace) as store:
        if what.owner is None:
            return await _erase_one(store, what.session_id or "")
        stores = [view async for view in stores_of(store, everywhere=what.everywhere)]
        erased = [(view.namespace, await view.erase_owner(what.owner)) for view in stores]
        damaged = [error for _, one in erased for error in one.damaged]
        sessions = {name: one.sessions for name, one in erased if one.sessions}
        expired = await _sweep(store)
        remains = await _remains(store, [(name, what.owner) for name, _ in erased])
    return _Receipt(sessions, damaged, expired, remains)


async def _erase_one(store: Store, session_id: str) -> _Receipt:
    try:
        info = await _info(store, session_id)
        is_there = await store.erase(session_id)
    except SessionNotFound:
        info, is_there = None, False
    expired = await _sweep(store)  # the session may be among them
    if not is_there:
        missing = f"there is no session {session_id!r} in namespace {store.namespace!r}"
        if not expired:
            raise await not_found(store, session_id, missing)
        close = await suggested(store, session_id)
        complain(f"{missing}, unless it was one of the expired sessions that were removed{close}")
    owner = info.owner if info is not None and info.owner else None
    remains = await _remains(store, [(store.namespace, owner)])
    return _Receipt({store.namespace: 1} if is_there else {}, (), expired, remains)


async def _sweep(store: Store) -> int:
    """Remove the expired sessions, which no list shows, and return their number."""
    backend = lowest(store.backend)
    return await backend.sweep(now=True) if isinstance(backend, Sweeps) else 0


async def _info(store: Store, session_id: str) -> SessionInfo | None:
    """Return the info of a session; None if it is damaged.  Damaged sessions can also be erased."""
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
    """Return the data that may still contain parts of erased sessions.

    Args:
        store: The store.
        owners: Each namespace with the owner of the erased sessions; None: they had none, or it is unknown.
    """
    backend = store.backend
    found = []
    if isinstance(backend, Layer):
        for name, owner in owners:
            traces = await backend.traces(name, owner)
            found += [Remainder(trace, "it is removed (see the documentation of its layer)") for trace in traces]
    if any(isinstance(layer, Layer) and layer.position == "cache" for layer in stack_of(backend)):
        found.append(Remainder("copies in other processes with a cache", "they read the session again, or end"))
    found += await scrubbed(lowest(backend))
    return [*found, Remainder("backups, snapshots and exports", "you delete them")]


def _print_json(receipt: _Receipt) -> None:
    print(
        as_json(
            {
                "sessions": sum(receipt.sessions.values()),
                "namespaces": receipt.sessions,
                "expired": receipt.expired,
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
    if receipt.expired:
        out((f"erased: {counted(receipt.expired, 'expired session')} of the store", ""))
    if receipt.is_empty:
        out(("there was nothing to erase", ""))
        if not unfinished(receipt.remains):
            return
    out()
    print_remains(out, receipt.remains)
