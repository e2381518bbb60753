"""The page of limits lists every limit of the code, with its value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from turnlog import InvalidInput, Store, limits
from turnlog_memory import MemoryBackend

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "limits.md"
UNITS = {"KiB": 1024, "MiB": 1024**2}
ROW = re.compile(r"^\| [^|]+ \| (?:1 to )?([\d,.]+) ?(KiB|MiB)?[^|]*\| `(\w+)` \|$", re.MULTILINE)


def said() -> dict[str, float]:
    """Return the limits of the page, by name."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return {name: float(number.replace(",", "")) * UNITS.get(unit, 1) for number, unit, name in rows}


def test_the_page_and_the_code_agree() -> None:
    names = [name for name in dir(limits) if name.isupper()]
    assert said() == {name: float(getattr(limits, name)) for name in names}
    assert len(names) > 10


def test_every_row_is_read() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(said())


def test_the_namespaces_that_the_page_keeps_back_are_refused() -> None:
    (kept,) = re.findall(r"A namespace does not begin with `([^`]+)`", PAGE.read_text(encoding="utf-8"))
    with pytest.raises(InvalidInput, match=kept):
        Store(MemoryBackend(), namespace=f"{kept}x")
    assert Store(MemoryBackend(), namespace=f"x{kept}").namespace == f"x{kept}"
