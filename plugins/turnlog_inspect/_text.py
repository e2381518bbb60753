"""Texts for pages: escaped stored text, sizes, times and counts."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode whose characters control, hide or reorder text."""

_NEEDED: Final = frozenset("\t\n\u200c\u200d")
"""Characters of these categories that words and emoji need; they hide nothing."""


class _Table(dict[int, str | int]):
    """The translation of characters for `visible`, filled at the first use of each character."""

    def __missing__(self, code: int) -> str | int:
        sign = chr(code)
        found: str | int = code
        if unicodedata.category(sign) in _INVISIBLE and sign not in _NEEDED:
            found = f'<span class="control">{sign.encode("unicode_escape").decode()}</span>'
        self[code] = found
        return found


_TABLE: Final = _Table({ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&#34;", ord("'"): "&#39;"})


def visible(text: object) -> Markup:
    r"""Escape a text for HTML; show each control character, and each invisible one, as an escape such as `\x1b`."""
    return Markup(str(text).replace("\r\n", "\n").translate(_TABLE))  # noqa: S704 - the table escapes the text


def line(text: str, length: int = 100) -> str:
    """Return the beginning of a text on one line.

    Args:
        text: The text.
        length: The largest number of characters; a longer text ends with an ellipsis.
    """
    found = " ".join(text[: 4 * length].split())
    return found if len(found) <= length and len(text) <= 4 * length else f"{found[: length - 1].rstrip()}…"


def size_of(count: float | None) -> str:
    """Return a number of bytes as a text, such as `12.3 kB`; `unknown` for None."""
    if count is None:
        return "unknown"
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def time_of(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def span_of(seconds: float) -> str:
    """Return a duration in its largest unit, such as `3 days`."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}s"
    return f"{seconds:.0f} seconds"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as `1 turn` and `2,000 turns`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def title_of(metadata: Mapping[str, object]) -> str:
    """Return the metadata `title` of a session; empty if it is blank, or not text."""
    title = metadata.get("title")
    return title.strip() if isinstance(title, str) else ""
