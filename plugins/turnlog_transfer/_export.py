"""`export`: sessions as lines of JSON, without loss."""

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
"""How often to begin a session anew that is cut or replaced while it is read."""

_SPOOL: Final = 8 * 1024 * 1024
"""Bytes of a session that wait in memory for its end; more wait in a temporary file."""


@dataclass(frozen=True)
class Exported:
    """The size of an export so far.

    Attributes:
        sessions: How many sessions.
        messages: How many messages.
        bytes: How many bytes.
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
    """Yield the lines of an export: the sessions of the store's namespace, each as it was at one moment.

    It extends no life.  It holds parts of a session in memory, never a long session as a whole, and the ids of all
    sessions, so that it exports each once, also those that change meanwhile.

    Args:
        store: The store, or a view.
        session: Only this session.
        owner: Only the sessions of this owner.
        all_namespaces: The sessions of all namespaces; the lines name them.  Of a view of a namespace: those of the
            namespaces that are nested in it.
        progress: Called after each session.

    Yields:
        A line in UTF-8, with its end (`docs/reference/export-format.md`).

    Raises:
        SessionNotFound: There is no such `session`, or it belongs to another owner.
        InvalidInput: `session` and `all_namespaces` are given together.
        Conflict: A session was cut or replaced each time that it was read.
        CorruptRecord: At the end, after all other sessions: some cannot be read.
    """
    if session is not None and all_namespaces:
        raise InvalidInput("one session cannot be exported from all namespaces: leave out one of the two")
    if session is not None:
        view = store if owner is None else store.for_owner(owner)
        await view.info(session)  # if there is none, nothing is written
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
                except SessionNotFound:  # erased meanwhile
                    continue
                except CorruptRecord as error:
                    damaged.append(named(error, Key(view.namespace, id)))
                    continue
                done = Exported(done.sessions + 1, done.messages + messages, done.bytes + size)
                if progress is not None:
                    progress(done)
    except CorruptRecord as error:  # after all other namespaces: of some the names cannot be read
        damaged += each_of(error)
    end = encode_line(EndLine(done.sessions, len(damaged)))
    yield end
    if progress is not None:
        progress(replace(done, bytes=done.bytes + len(end)))
    if damaged:
        raise together(damaged)


async def _ids(store: Store, session: str | None, damaged: list[CorruptRecord]) -> AsyncIterator[str]:
    """Yield the ids of the sessions, each once.

    A session that changes moves to the front of the list, so one pass may miss it: go on until nothing new is found.
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
    """Yield the lines of a session, once all of it was read."""
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
