"""Checks of arguments, and texts of wrong arguments for error messages."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import iscoroutine
from typing import Final

from ..errors import InvalidInput
from ..limits import MAX_NUMBER

_AWAITED: Final = "a coroutine: write await before the call that returned it"
"""A coroutine in an error: its caller has forgotten `await`."""


def check_number(value: object, name: str, *, least: int) -> None:
    """Refuse a value that is not an int from `least` to 2**53 - 1."""
    if type(value) is not int or not least <= value <= MAX_NUMBER:
        text = "the text " if isinstance(value, str) else ""
        raise InvalidInput(f"{name} must be a whole number of at least {least}, not {text}{shown(value)}")


def kind_of(value: object) -> str:
    """Return the name of the type of a value, for error messages."""
    return _AWAITED if iscoroutine(value) else type(value).__name__


def shown(value: object) -> str:
    """Return a short text for any value, for error messages."""
    if type(value) is int and abs(value) > MAX_NUMBER:
        return "one over 2**53"
    if iscoroutine(value):
        return _AWAITED
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def check_mapping(value: object, where: str, example: str = '{"name": "value"}') -> None:
    """Refuse a value that is not a mapping."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where} must be a dictionary such as {example}, not {kind_of(value)}")
