"""`Snippet`: a match of a search with the text around it, on one line."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ._text import line

_SPACE: Final = re.compile(r"\s+")
_CUT: Final = "..."


class Snippet(NamedTuple):
    """A part of a text, without line breaks and without characters that could control a terminal.

    Attributes:
        before: The text before the match.
        found: The match.
        after: The text after the match.
    """

    before: str
    found: str
    after: str

    def __str__(self) -> str:
        return f"{self.before}{self.found}{self.after}"

    def fitted(self, width: int) -> Snippet:
        """Return a snippet that fits into a number of columns of a terminal, with the match near the middle."""
        from rich.cells import cell_len

        found = _beginning(self.found, width)
        left = width - cell_len(found)
        before = _end(self.before, max(left // 2, left - cell_len(self.after)))
        return Snippet(before, found, _beginning(self.after, left - cell_len(before)))


def snippet_of(text: str, place: re.Match[str], around: int) -> Snippet:
    """Return the snippet of a text.

    Args:
        text: The text.
        place: The match in the text.
        around: The number of characters before and after the match.
    """
    start, end = max(0, place.start() - around), min(len(text), place.end() + around)
    before = f"{_CUT} " if start else ""
    after = f" {_CUT}" if end < len(text) else ""
    return Snippet(
        before + _on_one_line(text[start : place.start()]).lstrip(),
        _on_one_line(place[0]),
        _on_one_line(text[place.end() : end]).rstrip() + after,
    )


def _on_one_line(text: str) -> str:
    return line(_SPACE.sub(" ", text))


def _beginning(text: str, width: int) -> str:
    """Return the beginning of a text that fits into a width, with a mark if it is cut."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - len(_CUT):
        text = text[:-1]
    return f"{text}{_CUT}"[: max(0, width)]


def _end(text: str, width: int) -> str:
    """Return the end of a text that fits into a width, with a mark if it is cut."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - len(_CUT):
        text = text[1:]
    return f"{_CUT}{text}"[: max(0, width)]
