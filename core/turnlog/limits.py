"""The limits.  A test compares them with `docs/reference/limits.md`.

The same limits apply to writes and to reads, so every stored value can be read back.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "MAX_DEPTH",
    "MAX_DIGITS",
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
"""Maximum length of a namespace, a session id, an owner or a change id, in bytes of UTF-8."""

MAX_TURN_ID_BYTES: Final = 200
"""Maximum length of a turn id, in bytes of UTF-8; shorter, because a change id consists of a turn id and a part."""

MAX_MESSAGES: Final = 10_000
"""Maximum number of messages in one change."""

MAX_DEPTH: Final = 100
"""Maximum nesting depth of lists and objects in one message or metadata value."""

MAX_VALUES: Final = 100_000
"""Maximum total number of values and names in the lists and objects of one record's messages, or of the metadata.

Each value takes up to half a microsecond of the event loop whenever its message is made or read.  The maximum takes
up to 50 milliseconds, not much longer than 16 MiB of text.  A model reads fewer values, because each of them takes at
least one token.
"""

MAX_DIGITS: Final = 4_300
"""Maximum number of decimal digits of an integer: Python converts no longer one to text (`sys.int_info`)."""

MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of one encoded record, before compression, in bytes."""

MAX_METADATA_BYTES: Final = 1024 * 1024
"""Maximum size of the encoded metadata of a session, in bytes.  Each read of the session returns all of them."""

MAX_PAGE: Final = 1_000
"""Maximum number of sessions in one page."""

MAX_TTL: Final = 10 * 365 * 86_400.0
"""Maximum time to live, in seconds: ten years."""

MIN_TTL: Final = 0.001
"""Minimum time to live, in seconds: a backend's clock may count milliseconds."""

SLIDE: Final = 7 / 8
"""Share of the time to live: the use of a session does not extend its expiry while more than this share is left."""

REMEMBERED_CHANGES: Final = 64
"""Minimum number of last changes of a session whose ids a store remembers."""

MAX_SEALED_TURNS: Final = 1_024
"""Maximum number of turns in one sealed record."""

MAX_SEALED_MESSAGES: Final = 20_000
"""Maximum number of messages in one sealed record."""

MAX_NUMBER: Final = 2**53 - 1
"""Maximum turn number or count: every language reads it back exactly from a double."""
