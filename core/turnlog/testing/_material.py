"""Data and helpers of the tests."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import msgspec

from ..backend import Backend
from ..errors import SessionNotFound
from ..layers import Layer
from ..store import Store
from ..values.change import Change, Expect, Receipt
from ..values.ids import new_id
from ..values.key import Key
from ..values.message import Message, user
from ..values.query import Query
from ..values.record import Record
from ..values.session import Page, Session
from ..values.version import Version

ID = "alice"
"""The session that most tests write to."""


def key(store: Store, session_id: str = ID) -> Key:
    """Return the key of a session."""
    return Key(store.namespace, session_id)


def say(*texts: str) -> list[Message]:
    """Return messages of a user."""
    return [user(text) for text in texts]


def noise(size: int) -> str:
    """Return random characters, of 64 kinds, which no codec makes much smaller."""
    return b64encode(os.urandom(size)).decode()[:size]


def texts(messages: Iterable[Message]) -> list[str]:
    """Return the texts of messages."""
    return [message.text for message in messages]


def record(*texts: str, id: str | None = None, time: float = 0.0, part: int = 0, open: bool = False) -> Record:
    """Return a round to append, of a new turn if no id is given."""
    return Record.of(tuple(say(*texts)), id=new_id() if id is None else id, time=time, part=part, open=open)


async def history(store: Store, session_id: str = ID) -> list[str]:
    """Return the texts of a session without extending its life; an empty list if the session does not exist."""
    try:
        return texts((await store.session(session_id, touch=False)).messages)
    except SessionNotFound:
        return []


async def has_ended(store: Store, session_id: str = ID) -> bool:
    """Return whether a session has expired, or does not exist."""
    try:
        await store.info(session_id)
    except SessionNotFound:
        return True
    return False


async def picture(store: Store, session_id: str = ID) -> object:
    """Return a session for comparison, without `expires_in`, and without `bytes`, which a seal changes."""
    try:
        session = await store.session(session_id, touch=False)
    except SessionNotFound:
        return None
    return msgspec.structs.replace(session.info, expires_in=None, bytes=0), session.turns


def numbers(session: Session) -> list[int]:
    """Return the numbers of the turns."""
    return [turn.number for turn in session.turns]


def later(version: Version, rounds: int = 1) -> Version:
    """Return a later version, which the store lacks after a fail-over that lost writes."""
    return msgspec.structs.replace(version, rounds=version.rounds + rounds, tip=b"lost1234")


def diverged(version: Version) -> Version:
    """Return a version with the same number of rounds, but different rounds."""
    return msgspec.structs.replace(version, tip=b"lost1234")


def made_by_hand(version: Version) -> list[Version]:
    """Return versions that each hold one invalid value."""
    wrong: list[dict[str, Any]] = [
        *({name: bad} for name in ("epoch", "tip", "stamp") for bad in (None, "text", 7)),
        *({name: bad} for name in ("generation", "rounds") for bad in (None, "1", True, 1.5, -1, 2**53, 2**63, 2**64)),
    ]
    return [msgspec.structs.replace(version, **change) for change in wrong]


class Watched(Layer):
    """A layer that records calls, to show that invalid input is refused before any I/O."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.calls: list[str] = []

    async def read(self, key: Key, **how: Any) -> Session:  # noqa: ANN401 - forwarded as it is
        """Record and forward."""
        self.calls.append("read")
        return await super().read(key, **how)

    async def commit(self, key: Key, change: Change) -> Receipt:
        """Record and forward."""
        self.calls.append("commit")
        return await super().commit(key, change)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        """Record and forward."""
        self.calls.append("delete")
        return await super().delete(key, expect=expect, for_owner=for_owner)

    async def page(self, query: Query) -> Page:
        """Record and forward."""
        self.calls.append("page")
        return await super().page(query)
