"""The name of a session."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from ..errors import InvalidInput
from .ids import check_id
from .json_value import shown


class Key(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """Which session: a namespace (the tenant) and a session id.

    Both are 1 to 255 bytes of UTF-8 without control characters, and are compared as bytes: no case, accent or normal
    form is folded, and a trailing space counts.  An id is a name, not a secret: who may use it is for the application
    to decide.

    Raises:
        InvalidInput: One of them is not such a string.
    """

    namespace: str
    session: str

    def __post_init__(self) -> None:
        check_id(self.namespace, "namespace")
        check_id(self.session, "session id")

    def __str__(self) -> str:
        return f"{self.session!r} in {self.namespace!r}"


def check_key(value: object) -> None:
    """Refuse what is no key, such as the session id alone: a store would only find nothing under it."""
    if type(value) is not Key:
        raise InvalidInput(f"key must be a Key, not {shown(value)}: the methods of an application take a session id")


def key_of(namespace: str, session: str) -> Key:
    """The same as `Key(namespace, session)`; one that was made a moment ago need not be checked again."""
    return _made(namespace, session) if type(session) is str else Key(namespace, session)


_made = lru_cache(4_096)(Key)  # at most 2 MiB of names
