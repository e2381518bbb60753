"""What the tests write, and how they look at what is stored."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import msgspec

from ..errors import SessionNotFound
from ..store import Layer, Store
from ..values.change import Change, Receipt
from ..values.ids import new_id
from ..values.key import Key
from ..values.message import Message, user
from ..values.record import Record
from ..values.session import Page, Query, Session
from ..values.version import Version

ID = "alice"
"""The session that most tests write to."""


def key(store: Store, session_id: str = ID) -> Key:
    """The key behind a session id."""
    return Key(store.namespace, session_id)


def say(*texts: str) -> list[Message]:
    """A user's messages."""
    return [user(text) for text in texts]


def noise(size: int) -> str:
    """So many characters that no codec takes much off: random ones of 64."""
    return b64encode(os.urandom(size)).decode()[:size]


def texts(messages: Iterable[Message]) -> list[str]:
    """What was said."""
    return [message.text for message in messages]


def record(*texts: str, id: str | None = None, time: float = 0.0, part: int = 0, open: bool = False) -> Record:
    """A round of a turn to be appended; of a turn of its own, if it has no id."""
    return Record.of(tuple(say(*texts)), id=new_id() if id is None else id, time=time, part=part, open=open)


async def history(store: Store, session_id: str = ID) -> list[str]:
    """What was said in a session, without extending its life; nothing, if there is none."""
    try:
        return texts((await store.session(session_id, touch=False)).messages)
    except SessionNotFound:
        return []


async def picture(store: Store, session_id: str = ID) -> object:
    """A session, to be compared with what it is later: without how long it lives, and how large it is once sealed."""
    try:
        session = await store.session(session_id, touch=False)
    except SessionNotFound:
        return None
    return msgspec.structs.replace(session.info, expires_in=None, bytes=0), session.turns


def numbers(session: Session) -> list[int]:
    """The numbers of its turns."""
    return [turn.number for turn in session.turns]


def ahead(version: Version, rounds: int = 1) -> Version:
    """What a reader holds who saw more than the store has, as after a fail-over that lost writes."""
    return msgspec.structs.replace(version, rounds=version.rounds + rounds, tip=b"lost1234")


def beside(version: Version) -> Version:
    """What a reader holds who saw as many rounds, but others."""
    return msgspec.structs.replace(version, tip=b"lost1234")


def made_by_hand(version: Version) -> list[Version]:
    """What looks like a version, and holds in one place what no store puts there."""
    wrong: list[dict[str, Any]] = [
        *({name: bad} for name in ("epoch", "tip", "stamp") for bad in (None, "text", 7)),
        *({name: bad} for name in ("generation", "rounds") for bad in (None, "1", True, 1.5, -1, 2**53, 2**63, 2**64)),
    ]
    return [msgspec.structs.replace(version, **change) for change in wrong]


class Watched(Layer):
    """A store that notes whether anything was asked of it: what is refused before any I/O never comes so far."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.asked: list[str] = []

    async def read(self, key: Key, **how: Any) -> Session:  # noqa: ANN401 - forwarded as it is
        """Note and forward."""
        self.asked.append("read")
        return await super().read(key, **how)

    async def commit(self, key: Key, change: Change) -> Receipt:
        """Note and forward."""
        self.asked.append("commit")
        return await super().commit(key, change)

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        """Note and forward."""
        self.asked.append("delete")
        return await super().delete(key, expect=expect)

    async def page(self, query: Query) -> Page:
        """Note and forward."""
        self.asked.append("page")
        return await super().page(query)
