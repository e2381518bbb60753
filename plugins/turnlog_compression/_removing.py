"""Remove a dictionary that may contain fragments of messages, while all writers are stopped.

A backend cannot check the dictionaries in the same atomic step in which it stores a turn of another session.  A running
process may therefore have compressed a turn with the dictionary, and may store it after every check.  For this reason
dictionaries are never removed automatically, and all writers must be stopped first.  `remove_dictionary` checks that no
record needs the dictionary, that no session changes meanwhile, and that no recompress is running.
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
        raise InvalidInput(
            f"namespace {namespace!r} has no dictionary {id!r}; its dictionaries: {', '.join(ids) or 'none'}"
        )
    seen, store = set[int](), Store(backend, namespace=namespace)
    async for info in store.sessions():
        seen.add(hash((info.key, info.version)))
        async for record in _records(backend, info.key):
            if _may_need(record, id):
                raise Conflict(
                    f"turn {record.number} of session {info.key} needs dictionary {id}, or is damaged: "
                    "run 'turnlog recompress' with another dictionary or with none, and try again"
                )
    async for info in store.sessions():  # a session that has expired since is missing here, which is no conflict
        if hash((info.key, info.version)) not in seen:
            raise Conflict(
                f"session {info.key} has changed while all sessions were read: stop all processes that write to "
                f"namespace {namespace!r}, and try again"
            )
    if await is_running(backend, namespace):
        raise Conflict(
            f"a recompress is running in namespace {namespace!r}, or was killed: complete it with 'turnlog "
            "recompress', and try again"
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
    """Return whether a record is compressed with this dictionary, or with an unknown one."""
    if codec_of(record.payload) != ZSTD_WITH_DICTIONARY:
        return False
    from ._zstd import dictionary_of

    return dictionary_of(record.payload) in (id, None)
