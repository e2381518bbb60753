"""Remove a dictionary, for what it holds of people: a step that is taken on purpose, while nobody writes.

No backend can compare the dictionaries in the same step in which it stores a turn of some session.  So another process
may always hold a turn that it has compressed already, and no check proves that it will not be stored.  That is why
nothing removes a dictionary by itself, and why this needs all writers to be stopped.  What can be checked is checked:
that no record needs it, that no session changes meanwhile, and that no recompressing goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from turnlog import Backend, Key, Record, Store
from turnlog.errors import Conflict, InvalidInput, SessionNotFound
from turnlog.payload import codec_of

from ._codec import ZSTD_WITH_DICTIONARY
from ._dictionaries import Dictionaries
from ._progress import is_running

_MESSAGES: Final = 4096  # messages to read at once


async def remove_dictionary(backend: Backend, dictionaries: Dictionaries, namespace: str, id: int) -> None:
    """See `CompressionLayer.remove_dictionary`."""
    stored = await dictionaries.stored(namespace)
    ids = [record.id for record in stored.records]
    if str(id) not in ids:
        known = ", ".join(ids) or "none"
        raise InvalidInput(f"namespace {namespace!r} has no dictionary {id!r}; its dictionaries are: {known}")
    seen, store = set[int](), Store(backend, namespace=namespace)
    async for info in store.sessions():
        seen.add(hash((info.key, info.version)))
        async for record in _records(backend, info.key):
            if _may_need(record, id):
                raise Conflict(
                    f"turn {record.number} of session {info.key} needs dictionary {id}, or is damaged: "
                    "run 'turnlog recompress' with another dictionary, or without, and then try again"
                )
    async for info in store.sessions():  # one that has expired meanwhile is no sign of a writer
        if hash((info.key, info.version)) not in seen:
            raise Conflict(
                f"session {info.key} has changed while all sessions were read: stop all processes that write to "
                f"namespace {namespace!r}, and then try again"
            )
    if await is_running(backend, namespace):
        raise Conflict(
            f"a recompress is running in namespace {namespace!r}, or was killed: run it to its end, and then try again"
        )
    await dictionaries.remove(namespace, id, stored)


async def _records(backend: Backend, key: Key) -> AsyncIterator[Record]:
    before: int | None = None
    while True:
        try:
            session = await backend.read(key, last=_MESSAGES, before=before, touch=False)
        except SessionNotFound:
            return
        for record in session.records:
            yield record
        if not session.records or session.records[0].number <= session.info.first:
            return
        before = session.records[0].number


def _may_need(record: Record, id: int) -> bool:
    """Return whether a record is compressed with a dictionary, or with one that cannot be told."""
    if codec_of(record.payload) != ZSTD_WITH_DICTIONARY:
        return False
    from ._zstd import dictionary_of

    return dictionary_of(record.payload) in (id, None)
