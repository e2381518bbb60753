"""JSON as foldable HTML."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from markupsafe import Markup

from ._text import line, visible

_VALUES: Final = 2_000
"""The largest number of values in one tree; the raw view shows the others."""

_DEEP: Final = 60
"""The depth below which values are shown as text: browsers need a stack for each level."""

_LONG: Final = 5_000
"""The largest number of characters of a string."""

_OPEN: Final = 12
"""The largest number of entries of a list or object that is open at first."""

_SMALL: Final = 4
"""As `_OPEN`, for a list or object deep in the tree; it must hold no others."""


def json_tree(value: object) -> Markup:
    """Return HTML for a value of JSON, which may hold bytes.  Lists and objects can be folded."""
    return Markup("").join(_shown(value, "", 0, _Budget()))


def json_line(value: object, length: int = 100) -> str:
    """Return the beginning of a value of JSON on one line; an object as its entries, without braces."""
    if isinstance(value, str):
        return line(value, length)
    if isinstance(value, list) and len(value) > 50:
        return f"{len(value):,} items"
    try:
        if isinstance(value, dict) and len(value) <= 50:
            entries = (f"{name}: {json_line(one, 40)}" for name, one in value.items())
            return line(", ".join(entries), length)
        return line(json_text(value)[: 8 * length], length)
    except (ValueError, RecursionError):
        return "…"


def json_text(value: object) -> str:
    """Return a value of JSON as JSON, with descriptions of bytes; a string as it is.

    Raises:
        RecursionError: The value is too deep.
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_described)


class _Budget:
    """The number of values that may still be shown."""

    def __init__(self) -> None:
        self.left = _VALUES


def _shown(value: object, name: str | Markup, depth: int, budget: _Budget) -> Iterator[Markup]:
    budget.left -= 1
    if not isinstance(value, dict | list) or not value or depth > _DEEP:
        yield Markup('<div class="leaf">{}{}</div>').format(name, _leaf(value))
        return
    entries: Iterator[tuple[str | Markup, object]]
    inner: Collection[object]
    if isinstance(value, dict):
        entries = ((Markup('<span class="key">{}</span>: ').format(visible(key)), one) for key, one in value.items())
        inner = value.values()
        brief = "{} {}".format(len(value), "entry" if len(value) == 1 else "entries")
    else:
        entries = ((Markup('<span class="key">{}</span>: ').format(place), one) for place, one in enumerate(value))
        inner = value
        brief = "{} {}".format(len(value), "item" if len(value) == 1 else "items")
    is_open = len(value) <= _OPEN if depth < 2 else len(value) <= _SMALL and not any(_is_nested(one) for one in inner)
    if depth:
        yield Markup("<details open>") if is_open else Markup("<details>")
        yield Markup('<summary>{}<span class="brief">{}</span></summary>').format(name, brief)
    yield Markup('<div class="inner">')
    for key, one in entries:
        if budget.left <= 0:
            yield Markup('<div class="brief">… more in the raw view</div>')
            break
        yield from _shown(one, key, depth + 1, budget)
    yield Markup("</div></details>") if depth else Markup("</div>")


def _is_nested(value: object) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _leaf(value: object) -> Markup:
    if isinstance(value, str):
        cut = value[:_LONG]
        more = f" … {len(value) - _LONG:,} more characters in the raw view" if len(value) > _LONG else ""
        return Markup('<span class="string" dir="auto">{}</span><span class="brief">{}</span>').format(
            visible(cut), more
        )
    if isinstance(value, Mapping | list):
        return Markup('<span class="brief">{}</span>').format(
            "…" if value else "{}" if isinstance(value, dict) else "[]"
        )
    return Markup('<span class="atom">{}</span>').format(json.dumps(value, default=_described))


def _described(value: object) -> str:
    """Return a description of bytes, the only values of messages that are not JSON."""
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
