"""`Totals`: the sums over the sessions of a namespace."""

from __future__ import annotations

import msgspec


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of the unexpired sessions of a namespace.

    Attributes:
        sessions: Number of sessions.
        messages: Number of messages.
        bytes: Sum of `SessionInfo.bytes`, the size before a layer compresses or encrypts records.
        stored: Estimated number of bytes that the backend occupies, with its indexes and other data, after compression
            and encryption.  Each backend documents the part of its database that it measures.  None if unknown.
    """

    sessions: int
    messages: int
    bytes: int
    stored: int | None = None
