"""Text without lone surrogates, which every model and token counter accepts."""

from __future__ import annotations


def paired(text: str) -> str:
    """Return a text whose surrogate pairs are joined, with a replacement character for each lone surrogate.

    A stream may split a pair between two pieces, and the result of a tool or the text of an error may hold anything.
    """
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
