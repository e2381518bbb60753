"""Identifiers: unique ids for changes and turns, unguessable ids for sessions."""

from __future__ import annotations

import itertools
import os
import secrets
from hashlib import sha256

from ..errors import InvalidInput
from ..limits import MAX_ID_BYTES
from .checks import kind_of
from .json_value import check_text


def _fresh() -> None:
    global _prefix, _count
    _prefix, _count = secrets.token_hex(12), itertools.count()


_prefix: str
_count: itertools.count[int]
_fresh()
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_fresh)  # a child must not use its parent's prefix


def new_id() -> str:
    """Return a unique id: 96 random bits of this process, and a counter.

    This is ten times faster than `uuid.uuid4`.  The id is not a secret.
    """
    return f"{_prefix}{next(_count):x}"


def new_session_id() -> str:
    """Return an unguessable id for an anonymous session: 128 random bits, safe in a URL."""
    return secrets.token_urlsafe(16)


def encode_id(*parts: str) -> str:
    """Return a valid session id for parts of any text; different parts have different ids.

    Short plain text stays readable: `encode_id("ann", "7")` is `ann/7`.  In a part, `%`, `/`, control characters, lone
    surrogates and leading spaces are written as `%` and the hexadecimal digits of their UTF-8 bytes.  An id that would
    have more than 255 bytes is cut, and ends with `%sha256:` and a digest of all parts.

    Args:
        parts: One or more strings, for example the names of an application and of a user, and an id of a framework.

    Raises:
        InvalidInput: There is no part, or a part is not a string.
    """
    if not parts:
        raise InvalidInput("encode_id needs at least one part")
    for part in parts:
        if type(part) is not str:
            raise InvalidInput(f"a part of an id must be a str, not {type(part).__name__}")
    encoded = "/".join(map(_encoded, parts)) or "%empty"  # neither mark is two upper-case hexadecimal digits
    if len(encoded.encode()) <= MAX_ID_BYTES:
        return encoded
    mark = "%sha256:" + sha256(encoded.encode()).hexdigest()
    start = encoded.encode()[: MAX_ID_BYTES - len(mark)].decode(errors="ignore")
    return start + mark


def _encoded(part: str) -> str:
    plain = part.lstrip()
    blanks = part[: len(part) - len(plain)]
    return "".join(map(_hexadecimal, blanks)) + "".join(
        _hexadecimal(sign) if sign in "%/" or (not sign.isprintable() and _escapes(sign)) else sign for sign in plain
    )


def _hexadecimal(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode("utf-8", "surrogatepass"))


def _escapes(sign: str) -> bool:
    return _forbidden(sign) or "\ud800" <= sign <= "\udfff"


def check_id(value: object, name: str, *, limit: int = MAX_ID_BYTES) -> str:
    """Return an id, if it is valid.

    Raises:
        InvalidInput: The id is not a string, is empty or blank, has more than `limit` bytes of UTF-8, or contains a
            control character, a line separator, a lone surrogate or a character that changes the writing direction.
    """
    if type(value) is not str:
        hint = ": convert it with str()" if type(value) is int else ""
        raise InvalidInput(f"{name} must be a str, not {kind_of(value)}{hint}")
    size = len(value)
    if value.isascii() and value.isprintable():
        if 0 < size <= limit and value[0] != " ":
            return value  # the common case
    else:
        size = _checked_size(value, name)
    if not value or value.isspace():
        raise InvalidInput(f"{name} is {'blank' if value else 'empty'}: give a text of 1 to {limit} bytes")
    if size > limit:
        raise InvalidInput(f"{name} has {size} bytes in UTF-8, more than the limit of {limit}: choose a shorter one")
    return value


def check_prefix(value: object) -> None:
    """Refuse a text with which no session id can begin.

    Raises:
        InvalidInput: The text is not a string, has more than 255 bytes of UTF-8, or contains a character that an id
            cannot contain.
    """
    if type(value) is not str:
        raise InvalidInput(f"prefix must be a str, not {kind_of(value)}")
    size = _checked_size(value, "prefix")
    if size > MAX_ID_BYTES:
        raise InvalidInput(
            f"prefix has {size} bytes in UTF-8, more than the limit of {MAX_ID_BYTES}: choose a shorter one"
        )


def _checked_size(text: str, name: str) -> int:
    """Return the size of a text in UTF-8, in bytes, if an id may contain all of its characters."""
    check_text(text, name)
    for sign in text:
        if not sign.isprintable() and _forbidden(sign):
            raise InvalidInput(f"{name} holds the control character {sign!a}: remove it")
    return len(text.encode())


def _forbidden(sign: str) -> bool:
    """Return whether a character is a control, a line or paragraph separator, or a bidirectional control.

    Sources: Unicode category Cc; UAX #9, table 4.
    """
    code = ord(sign)
    return code < 32 or 127 <= code < 160 or 0x2028 <= code <= 0x202E or 0x2066 <= code <= 0x2069
