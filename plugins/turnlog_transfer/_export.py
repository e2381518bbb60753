"""`export`: writes sessions as lines of JSON, without loss."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import Final

from turnlog import Key, SessionInfo, Store
from turnlog.errors import Conflict, CorruptRecord, InvalidInput, SessionNotFound

from ._damage import each_of, named, together
from ._format import FIRST, EndLine, RoundLine, SessionLine, encode_line
from ._namespaces import views_of
from ._snapshot import Changed, snapshot

_TRIES: Final = 10
"""Largest number of attempts for a session that is cut or replaced while it is read."""

_SPOOL: Final = 8 * 1024 * 1024
"""Bytes of an unfinished session that are kept in memory; more are kept in a temporary file."""


@dataclass(frozen=True)
class Exported:
    """The size of an export so far.

    Attributes:
        sessions: The number of sessions.
        messages: The number of messages.
        bytes: The number of bytes.
    """

    sessions: int = 0
    messages: int = 0
    bytes: int = 0


async def export(
    store: Store,
    *,
    session: str | None = None,
    owner: str | None = None,
    all_namespaces: bool = False,
    progress: Callable[[Exported], None] | None = None,
) -> AsyncIterator[bytes]:
    """Yield the lines of an export of the store's namespace.

    Each session is a consistent snapshot.  No time to live is restarted.  A long session is never held in memory as a
    whole.  The ids of all sessions are kept in memory, so that each session is exported once, even if it changes.

    Args:
        store: The store, or a view.
        session: Export only this session.
        owner: Export only the sessions of this owner.
        all_namespaces: Export the sessions of all namespaces; the lines name them.  On a view of a namespace, export
            the namespaces that are nested in it.
        progress: Called after each session.

    Yields:
        A line in UTF-8, with its end (`docs/reference/export-format.md`).

    Raises:
        SessionNotFound: `session` does not exist, or belongs to another owner.
        InvalidInput: `session` and `all_namespaces` are given together.
        Conflict: A session was cut or replaced each time that it was read.
        CorruptRecord: Some sessions cannot be read; raised at the end, after all other sessions.
    """
    if session is not None and all_namespaces:
        raise InvalidInput("a session cannot be combined with all namespaces: leave out one of them")
    if session is not None:
        view = store if owner is None else store.for_owner(owner)
        await view.info(session)  # if it does not exist, nothing is written
    yield FIRST
    done = Exported(bytes=len(FIRST))
    damaged: list[CorruptRecord] = []
    try:
        async for name, place in views_of(store, all_namespaces=all_namespaces):
            view = place if owner is None else place.for_owner(owner)
            async for id in _ids(view, session, damaged):
                messages = size = 0
                try:
                    async for info, line in _lines(view, id, name):
                        messages, size = info.messages, size + len(line)
                        yield line
                except SessionNotFound:  # erased since the list was read
                    continue
                except CorruptRecord as error:
                    damaged.append(named(error, Key(view.namespace, id)))
                    continue
                done = Exported(done.sessions + 1, done.messages + messages, done.bytes + size)
                if progress is not None:
                    progress(done)
    except CorruptRecord as error:  # raised after all other namespaces: some names cannot be read
        damaged += each_of(error)
    end = encode_line(EndLine(done.sessions, len(damaged)))
    yield end
    if progress is not None:
        progress(replace(done, bytes=done.bytes + len(end)))
    if damaged:
        raise together(damaged)


async def _ids(store: Store, session: str | None, damaged: list[CorruptRecord]) -> AsyncIterator[str]:
    """Yield the ids of the sessions, each once.

    A session that changes moves to the front of the list, where the present pass may miss it.  Passes are repeated
    until no new session is found.
    """
    if session is not None:
        yield session
        return
    seen: set[str] = set()
    new, first = True, True
    while new:
        new = False
        try:
            async for info in store.sessions():
                if info.key.session not in seen:
                    seen.add(info.key.session)
                    new = True
                    yield info.key.session
        except CorruptRecord as error:
            if first:
                damaged += each_of(error)
        first = False


async def _lines(store: Store, session_id: str, namespace: str | None) -> AsyncIterator[tuple[SessionInfo, bytes]]:
    """Yield the lines of a session after the whole session was read."""
    for _ in range(_TRIES):
        now = store.backend.clock()
        info, parts = await snapshot(store, session_id)
        with SpooledTemporaryFile(max_size=_SPOOL) as spool:
            try:
                async for records in parts:
                    for record in records:
                        spool.write(encode_line(RoundLine.of(record)))
            except Changed:
                continue
            spool.seek(0)
            yield info, encode_line(SessionLine.of(info, namespace, now))
            for line in spool:
                yield info, line
            return
    raise Conflict(f"session {info.key} was cut or replaced each time that it was exported: export it again")
