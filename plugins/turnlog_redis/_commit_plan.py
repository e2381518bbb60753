"""`CommitPlan`: the keys and arguments of a commit of one change, or of several changes together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from turnlog import Change, Key, Receipt
from turnlog.errors import TurnlogError
from turnlog.limits import REMEMBERED_CHANGES
from turnlog.rules import NOTHING, Header, Near, Plan, Remembered, needs, plan

from . import _layout
from ._connection import Argument
from ._layout import Keys
from ._writer import Waiting

_TOGETHER: Final = 1 << 20
"""Largest number of bytes of records of other tasks in a commit."""

_DEFERRED: Final = Near(deferred=True)

Turn: TypeAlias = "asyncio.Future[Receipt | None]"


class Seen(NamedTuple):
    """The last seen header of a session, with which a commit needs no read before."""

    header: Header
    raw: bytes
    """The stored element of the header."""
    metadata: bytes
    """The stored element of the metadata."""


def header_of(key: Key, seen: Seen | None, raw: bytes, metadata: bytes, left: int) -> Header:
    """Return the stored header of a session; the last seen one is not decoded again.

    Args:
        key: The session.
        seen: The last seen header; None: no header was seen.
        raw: The stored element of the header.
        metadata: The stored element of the metadata.
        left: As in `header_from`.

    Raises:
        CorruptRecord: As in `header_from`.
    """
    if seen is None or seen.raw != raw or seen.metadata != metadata:
        return _layout.header_from(key, raw, metadata, left)
    return msgspec.structs.replace(seen.header, expires=_layout.expiry(left))


class Other(NamedTuple):
    """A change of another task that waits for the lock."""

    turn: Turn
    waiting: Waiting
    change: Change
    todo: Plan


class CommitPlan(NamedTuple):
    """The plan of a commit, and the keys and arguments of the script that carries it out."""

    todo: Plan
    others: list[Other]
    """The changes that are committed with it, in order."""
    keys: tuple[bytes, ...]
    arguments: list[Argument]
    metadata: bytes
    """The new element of the metadata; empty: the metadata stay unchanged."""


def commit_plan(  # noqa: PLR0917 - the values of one commit, in the order in which they become known
    key: Key,
    keys: Keys,
    change: Change,
    hashed: bytes,
    seen: Seen | None,
    near: Near,
    elements: int | None,
    *,
    others: Sequence[tuple[Turn, Waiting]],
    ttl: float | None,
    writer: bytes,
) -> CommitPlan:
    """Return the plan of a commit.

    Args:
        key: The session.
        keys: The Redis keys of the session.
        change: The change.
        hashed: The hash of the change.
        seen: The last seen header; None: the session does not exist.
        near: The stored records that the change touches.
        elements: The number of elements to keep; None: all.
        others: Other changes that may be committed together with this one.
        ttl: The backend's time to live in seconds.
        writer: The name of the writer.

    Raises:
        Conflict: A round does not continue the turn that is open.
        SplitsSealed: The cut falls inside a sealed record.
    """
    before, raw = (None, b"") if seen is None else (seen.header, seen.raw)
    near = _DEFERRED if near is NOTHING else msgspec.structs.replace(near, deferred=True)
    todo = plan(key, before, change, near, 0.0, ttl=ttl, nonce=os.urandom)
    added = _added(key, change, todo, others, ttl) if others and change.times is None else []
    header = added[-1].todo.header if added else todo.header
    entries: list[bytes] = [_entry(key, hashed, change, todo)]
    records = [_layout.record_bytes(key, record) for record in todo.append]
    for other in added:
        one = _layout.change_hash(other.change.id)
        hashed += one
        entries.append(_entry(key, one, other.change, other.todo))
        records += [_layout.record_bytes(key, record) for record in other.todo.append]
    metadata = header.metadata.pack(key) if change.metadata is not None or before is None else b""
    old = header.owner if before is None else before.owner
    arguments: list[Argument] = [
        hashed,
        raw,
        _layout.header_bytes(header),
        "" if elements is None else elements,
        "" if todo.drop is None else todo.drop,
        "" if change.max_bytes is None else change.max_bytes,
        metadata,
        _layout.ttl_text(ttl),
        _expires(change),
        keys.member,
        old,
        header.owner,
        keys.prefix,
        keys.owners,
        key.namespace.encode(),
        writer,
        *entries,
        *records,
    ]
    owners = [_layout.index_of(keys.bucket, key.namespace, it) if it else keys.listing for it in (header.owner, old)]
    names = [_layout.namespaces_of(keys.bucket)[0]] if before is None else []
    return CommitPlan(todo, added, (keys.session, keys.listing, *owners, *names), arguments, metadata)


def _expires(change: Change) -> str:
    """Return the expiry in seconds since 1970; 0: the time to live restarts; empty: the expiry slides."""
    if change.times is not None and change.times.expires is not None:
        return repr(change.times.expires)
    return "" if change.ttl is None else "0"


def _entry(key: Key, hashed: bytes, change: Change, todo: Plan) -> bytes:
    """Return the element of a remembered change."""
    return hashed + Remembered(change.digest, todo.header.version, todo.number).pack(key)


def _added(
    key: Key, change: Change, todo: Plan, others: Sequence[tuple[Turn, Waiting]], ttl: float | None
) -> list[Other]:
    """Return the first waiting changes that can join a commit: they only append, and touch no stored record."""
    added: list[Other] = []
    ids = {change.id}
    header, most = todo.header, todo.header.bytes + _TOGETHER
    for turn, waiting in others:
        other = waiting.change
        if other is None or not other.append or other.describes or other.max_bytes != change.max_bytes:
            break
        if other.times is not None:
            break
        if other.id in ids or len(ids) == REMEMBERED_CHANGES:
            break
        try:
            if needs(key, header, other) is not NOTHING:
                break
            todo = plan(key, header, other, _DEFERRED, 0.0, ttl=ttl, nonce=os.urandom)
        except TurnlogError:  # the change's own task will raise it
            break
        header = todo.header
        if header.bytes > most:
            break
        ids.add(other.id)
        added.append(Other(turn, waiting, other, todo))
    return added


def receipt_of(todo: Plan, after: Header) -> Receipt:
    """Return the receipt of a committed change.

    Args:
        todo: The plan of the change.
        after: The stored header, after this change and possibly further ones.
    """
    header = todo.header
    if header.changes != after.changes:
        after = msgspec.structs.replace(header, first=after.first, start=after.start, expires=after.expires)
    return after.receipt(0.0, after.version, todo.number, todo.previous)
