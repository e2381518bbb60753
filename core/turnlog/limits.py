"""The limits, one table: `docs/reference/limits.md` is held to it by a test.

The same limits hold on writing and on reading, so what can be stored can be read back.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "MAX_DEPTH",
    "MAX_ID_BYTES",
    "MAX_MESSAGES",
    "MAX_METADATA_BYTES",
    "MAX_NUMBER",
    "MAX_PAGE",
    "MAX_PAYLOAD_BYTES",
    "MAX_SEALED_MESSAGES",
    "MAX_SEALED_TURNS",
    "MAX_TTL",
    "MAX_TURN_ID_BYTES",
    "MAX_VALUES",
    "MIN_TTL",
    "REMEMBERED_CHANGES",
    "SLIDE",
]

MAX_ID_BYTES: Final = 255
"""A namespace, a session id, an owner or a change id, in bytes of UTF-8."""

MAX_TURN_ID_BYTES: Final = 200
"""A turn id, in bytes of UTF-8; shorter, because a change id is made of it and a part number."""

MAX_MESSAGES: Final = 10_000
"""Messages in one change."""

MAX_DEPTH: Final = 100
"""Lists and objects inside each other in one message or metadata value."""

MAX_VALUES: Final = 100_000
"""Values, and names of values, inside the lists and objects of one record's messages, together.

Each costs about half a microsecond of the event loop whenever its message is made or read, so all of them about 50
milliseconds, not much longer than 16 MiB of text.  A model reads fewer: each takes a token or more.
"""

MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024
"""One encoded record, before compression."""

MAX_METADATA_BYTES: Final = 64 * 1024
"""All metadata of a session, encoded."""

MAX_PAGE: Final = 1_000
"""Sessions in one page."""

MAX_TTL: Final = 10 * 365 * 86_400.0
"""A time to live, in seconds: ten years."""

MIN_TTL: Final = 0.001
"""The shortest time to live, in seconds: a backend's clock may count milliseconds."""

SLIDE: Final = 7 / 8
"""An expiry stays where it is while more than this share of the time to live is left."""

REMEMBERED_CHANGES: Final = 64
"""Changes of a session whose ids a store remembers at the least."""

MAX_SEALED_TURNS: Final = 1_024
"""Turns in one sealed record."""

MAX_SEALED_MESSAGES: Final = 20_000
"""Messages in one sealed record."""

MAX_NUMBER: Final = 2**53 - 1
"""A turn number or a count: what any language reads back exactly from a double."""
