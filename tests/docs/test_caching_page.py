"""The page about caching names every option with its default, and every counter."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

from turnlog_cache import CacheLayer, CacheStats

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "caching.md"
UNITS = {"": 1, "s": 1, "h": 3600, "MiB": 1024**2}


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading, without its header."""
    _, _, below = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    lines = [line for line in below.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def value(text: str) -> object:
    """Return the value of a default in the table: a number with a unit, or a word."""
    number = re.fullmatch(r"([\d,]+) ?(\w*)", text)
    return int(number[1].replace(",", "")) * UNITS[number[2]] if number else text.strip("`")


def test_the_options_and_their_defaults_are_those_of_the_layer() -> None:
    said = {row[0].strip("`"): value(row[2]) for row in rows("Options")}
    takes = inspect.signature(CacheLayer).parameters.values()
    assert said == {one.name: one.default for one in takes if one.kind is one.KEYWORD_ONLY and one.name != "timer"}


def test_the_counters_are_those_of_the_layer() -> None:
    said = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows("Reading the counters")))
    assert said == [field.name for field in fields(CacheStats)]
