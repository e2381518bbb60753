"""Text that a store takes: without lone surrogates."""

from __future__ import annotations


def paired(text: str) -> str:
    """Return a text whose surrogates are joined in pairs, with a replacement character for each that has no other half.

    Pieces of a stream may part a pair, and what a tool or an error says may hold anything.
    """
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
