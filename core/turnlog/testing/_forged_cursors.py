"""Invalid cursors that a client may send."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_NUMBERS: list[Any] = [
    *[float("nan"), float("inf"), float("-inf"), -0.0, -1.0, -5e-324, 1e308, -1e308, 2.0**53, 1e16],
    *[0, 1, -1, 2**53, 2**63, 2**64 - 1, True, False, None, "1.0", "nan", b"\x00" * 8, [1.0], {"a": 1.0}, {}],
]
_SESSIONS: list[Any] = [
    *["", " ", "a\0b", "a\nb", "\x7f", "\u202eab", "\u2028", "x" * 256, "é" * 128, "x" * 70_000],
    *[None, 7, 1.0, True, b"alice", ["alice"], {"alice": 1}],
]


def cursor_of(*parts: object) -> str:
    """Return a cursor of these parts, in the encoding of a page."""
    return urlsafe_b64encode(_encode(parts)).decode()


def forged_cursors(namespace: str) -> Iterator[Any]:
    """Yield invalid cursors for a query of all sessions of a namespace."""
    sound = _encode((namespace, None, None, namespace, 1.0, "alice"))
    text = urlsafe_b64encode(sound).decode()
    for number in _NUMBERS:
        yield cursor_of(namespace, None, None, namespace, number, "alice")
    for session in _SESSIONS:
        yield cursor_of(namespace, None, None, namespace, 1.0, session)
    parts: list[Any] = [namespace, None, None, namespace, 1.0, "alice"]
    for place in range(len(parts)):  # a part is missing, or is nested deeply
        yield cursor_of(*parts[:place], *parts[place + 1 :])
        yield urlsafe_b64encode(b"\x96" + b"".join(map(_encode, parts[:place])) + b"\x91" * 100_000).decode()
    yield cursor_of(*parts, None)
    yield cursor_of(namespace, None, None, "another", 1.0, "alice")
    names = ("namespace", "owner", "prefix", "place", "updated", "session")
    yield cursor_of(dict(zip(names, parts, strict=True)))
    for wrong in (b"", b"\xc1", b"\x91" * 100_000, b"\x81\xa1a" * 50_000, b"\x96", sound + b"\xc0", sound[:-1]):
        yield urlsafe_b64encode(wrong).decode()
    yield urlsafe_b64encode(sound.replace(b"alice", b"al\xffce")).decode()  # not UTF-8
    yield urlsafe_b64encode(sound.replace(b"alice", b"al\xed\xa0\x80")).decode()  # a lone surrogate
    yield urlsafe_b64encode(b"\xdc\x00\x06" + sound[1:]).decode()  # the same parts in another encoding
    yield from (text[:length] for length in range(len(text)))
    yield from (text + more for more in ("=", "A", "====", " ", "\n", "\0", text))
    yield from (f" {text}", f"\n{text}", text.rstrip("="), text.lower(), text.encode(), text * 10_000, "A" * 10_000_000)
    yield from ("%", "é", "\ud800", "null", "1", 1, 1.0, True, (), [text], {"cursor": text}, object())
    different = "\u07ff\uffff"  # encoded with a + or a / in the other alphabet of base64
    other = b64encode(_encode((namespace, None, None, namespace, 1.0, different))).decode()
    assert set("+/") & set(other), "it is the same in both alphabets"
    yield other
