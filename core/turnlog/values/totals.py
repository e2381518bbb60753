"""`Totals`: what the sessions of a namespace hold together."""

from __future__ import annotations

import msgspec


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of the unexpired sessions of a namespace.

    Attributes:
        sessions: How many there are.
        messages: How many messages they hold.
        bytes: The sum of their `SessionInfo.bytes`: what readers get, before a layer compresses or encrypts it.
        stored: About how many bytes the backend occupies, with its indexes and what it keeps beside messages, after
            layers have compressed and encrypted.  Each backend says which part of its database it measures.  None: the
            backend cannot tell.
    """

    sessions: int
    messages: int
    bytes: int
    stored: int | None = None
