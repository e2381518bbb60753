"""The index of sessions by the time of their last update, for `LmdbBackend.page`.

| table | key | value |
|---|---|---|
| `sessions` | namespace, zero byte, session id | lines of the session (`SessionState.lines`) |
| `pages` | digest of the namespace, time, session id | key in `sessions` |

Keys of LMDB have at most 511 bytes, too few for a namespace, a time and a session id.  Therefore `pages` has a digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import takewhile
from struct import pack
from typing import TYPE_CHECKING

from turnlog import CorruptRecord, Key, Query, SessionInfo
from turnlog.rules import SessionState, page_of_lines

if TYPE_CHECKING:
    from lmdb import Transaction, _Database

    from ._environment import Tables


def name_of(key: Key) -> bytes:
    """Return the key of a session in `sessions`: names have no zero bytes."""
    return f"{key.namespace}\0{key.session}".encode()


def scope_of(namespace: str) -> bytes:
    """Return the beginning of the keys of a namespace in `pages`."""
    return blake2b(namespace.encode(), digest_size=16).digest()


def rest_of(updated: float, session: str) -> bytes:
    """Return the rest of a key in `pages`; its bytes sort the latest time first, and equal times by session id."""
    return bytes(255 - byte for byte in pack(">d", updated)) + session.encode()


def place_of(state: SessionState) -> bytes:
    """Return the key of a session in `pages`; a damaged session comes last."""
    updated = 0.0 if state.header is None else state.header.updated
    return scope_of(state.key.namespace) + rest_of(updated, state.key.session)


def under(
    transaction: Transaction[bytes], table: _Database, prefix: bytes, start: bytes = b""
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a table whose keys begin with a prefix, from `prefix + start` on."""
    cursor = transaction.cursor(table)
    if cursor.set_range(prefix + start):
        yield from takewhile(lambda entry: entry[0].startswith(prefix), cursor)


def index(transaction: Transaction[bytes], tables: Tables) -> None:
    """Fill the table `pages` from the table `sessions`."""
    for name, value in under(transaction, tables.sessions, b""):
        state = SessionState.from_lines(value.split(b"\n"), Key(*name.decode().split("\0")))
        transaction.put(place_of(state), name, db=tables.pages)


def forget(transaction: Transaction[bytes], tables: Tables, key: Key) -> None:
    """Remove a damaged session from `pages`: only a search finds the time of its last update."""
    entries = list(under(transaction, tables.pages, scope_of(key.namespace)))
    for place in [place for place, name in entries if name == name_of(key)]:
        transaction.delete(place, db=tables.pages)


def listed(name: bytes, value: bytes, query: Query, now: float) -> SessionInfo | CorruptRecord | None:
    """Return the info of a session, or an error if it is damaged; None if it has expired, or has another owner."""
    header, _, _ = value.partition(b"\n")
    namespace, _, session = name.decode().partition("\0")
    page = page_of_lines({session: [header]}, Query(namespace=namespace, owner=query.owner), now)
    found: tuple[SessionInfo | CorruptRecord, ...] = (*page.infos, *page.damaged)
    return found[0] if found else None
