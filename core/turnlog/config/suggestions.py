"""A known name that is similar to an unknown one, for error messages."""

from __future__ import annotations

from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a text such as `; did you mean 'ttl'?`; an empty text if no known name is similar."""
    import difflib

    found = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {found[0]!r}?" if found else ""
