"""Identifiers: cheap unique ones for changes and turns, unguessable ones for sessions."""

from __future__ import annotations

import itertools
import os
import secrets

from ..errors import InvalidInput
from ..limits import MAX_ID_BYTES
from .json_value import check_text, kind_of

OWN = "turnlog:"
"""What the namespaces begin with in which layers keep what no application shall see."""


def _fresh() -> None:
    global _prefix, _count
    _prefix, _count = secrets.token_hex(12), itertools.count()


_prefix: str
_count: itertools.count[int]
_fresh()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh)  # a child must not go on counting under its parent's prefix


def new_id() -> str:
    """An id that no other process or call makes: 96 random bits of this process, and a counter.

    Ten times cheaper than `uuid.uuid4`.  It is unique, not secret.
    """
    return f"{_prefix}{next(_count):x}"


def new_session_id() -> str:
    """An id for an anonymous session: 128 random bits, safe in a URL, not to be guessed."""
    return secrets.token_urlsafe(16)


def check_id(value: object, name: str, *, limit: int = MAX_ID_BYTES) -> str:
    """Return an id; refuse what cannot name something.

    Raises:
        InvalidInput: Not a string; empty or blank; longer than `limit` bytes of UTF-8; or it holds a control character,
            a line separator, a lone surrogate or a sign that turns the writing direction.
    """
    if type(value) is not str:
        hint = ": convert it with str()" if type(value) is int else ""
        raise InvalidInput(f"{name} must be a str, not {kind_of(value)}{hint}")
    size = len(value)
    if value.isascii() and value.isprintable():
        if 0 < size <= limit and value[0] != " ":
            return value  # as a rule
    else:
        check_text(value, name)
        for sign in value:
            if not sign.isprintable() and _forbidden(sign):
                raise InvalidInput(f"{name} holds the control character {sign!a}: remove it")
        size = len(value.encode())
    if not value or value.isspace():
        raise InvalidInput(f"{name} is {'blank' if value else 'empty'}: give a text of 1 to {limit} bytes")
    if size > limit:
        raise InvalidInput(f"{name} has {size} bytes in UTF-8, more than the limit of {limit}: choose a shorter one")
    return value


def check_namespace(value: object) -> None:
    """Refuse what an application cannot work in: no id, or the place where layers keep what is theirs.

    Raises:
        InvalidInput: As in `check_id`; or it begins with `turnlog:`.
    """
    check_id(value, "namespace")
    if isinstance(value, str) and value.startswith(OWN):
        raise InvalidInput(
            f"namespace {value!r} begins with {OWN!r}, which is reserved for layers: choose another name"
        )


def nested_namespace(outer: str, name: str) -> str:
    """Return the namespace of a name within another namespace, as `outer/name`.

    A `/` or `%` in the name is written `%2F` or `%25`: no two names within one namespace share a namespace.

    Raises:
        InvalidInput: It would have more than 255 bytes.
    """
    namespace = f"{outer}/{_escaped(name)}"
    check_id(namespace, "the nested namespace")
    return namespace


def nested_name(outer: str, namespace: str) -> str | None:
    """Return the name that leads from one namespace towards another that is nested in it, at any depth.

    Returns:
        The name; None if no name leads there, as to the text `a/` within `a`.
    """
    written = namespace[len(outer) + 1 :].partition("/")[0]
    name = written.replace("%2F", "/").replace("%25", "%")
    try:
        check_namespace(name)
    except InvalidInput:
        return None
    return name if _escaped(name) == written else None


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


def _forbidden(sign: str) -> bool:
    """Control characters (Unicode Cc), line and paragraph separators, and bidirectional controls (UAX #9, table 4)."""
    code = ord(sign)
    return code < 32 or 127 <= code < 160 or 0x2028 <= code <= 0x202E or 0x2066 <= code <= 0x2069
