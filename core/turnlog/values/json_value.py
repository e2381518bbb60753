"""JSON values: checked once on input, kept encoded, and decoded again for every reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from inspect import iscoroutine
from itertools import repeat
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from ..errors import CorruptRecord, InvalidInput, TooLarge
from ..limits import MAX_DEPTH, MAX_NUMBER, MAX_VALUES
from .stored import UNREADABLE

if TYPE_CHECKING:
    JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"
else:  # typing.get_type_hints cannot resolve a recursive alias
    JSON = str | int | float | bool | list[Any] | dict[str, Any] | None
"""The values of JSON."""

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # the integers of MessagePack, spec.md "int format family"

AWAITED: Final = "a coroutine: write await before the call that returned it"
"""A coroutine in an error: its caller has forgotten `await`."""

encode = msgspec.msgpack.Encoder().encode
canonical = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder().decode


def decode(data: bytes) -> JSON:
    """Decode a value; each call returns a new object.

    Raises:
        CorruptRecord: The bytes are not the result of `encode` for a value within the limits.
    """
    if len(data) > MAX_VALUES and count(data) > MAX_VALUES:  # before any object is made
        raise CorruptRecord(f"a value holds more than {MAX_VALUES} values, the limit: turnlog did not write it")
    try:
        value: JSON = _decode(data)
    except UNREADABLE as error:
        raise CorruptRecord(f"a value cannot be decoded: {error}") from None
    return value


def recoded(data: bytes) -> bytes:
    """Return an encoded value in canonical form: the same bytes for equal values.

    Raises:
        CorruptRecord: The bytes are not the result of `encode` for a value within the limits.
    """
    if len(data) > MAX_VALUES and count(data) > MAX_VALUES:
        raise CorruptRecord(f"a value holds more than {MAX_VALUES} values, the limit: turnlog did not write it")
    try:
        return canonical(_decode(data))
    except UNREADABLE as error:
        raise CorruptRecord(f"a value cannot be decoded: {error}") from None


def count(data: bytes) -> int:
    """Return the number of values and names of values in encoded bytes; the count stops once it exceeds the limit.

    The bytes are not checked.  Counting takes about 0.1 microseconds per value, for strings and numbers of any length.
    """
    found, place, end = -1, 0, len(data)  # without the outermost value
    while place < end and found <= MAX_VALUES:
        found += 1
        size = _SIZES[data[place]]
        if size < 0:  # a length of `-size` bytes follows
            size = 1 - size + int.from_bytes(data[place + 1 : place + 1 - size])
        place += size
    return found


def _sizes() -> Iterator[int]:
    """Yield, for each first byte, the size of a value without the values inside it (MessagePack, spec.md "Formats").

    A negative number is the size of a length that follows the first byte; data of this length follow it.
    """
    yield from repeat(1, 0xA0)  # small numbers, small objects and lists
    yield from range(1, 33)  # short strings
    yield from (1, 1, 1, 1)  # null, booleans
    yield from (-1, -2, -4, 1, 1, 1)  # bytes; extensions, which the decoder refuses
    yield from (5, 9, 2, 3, 5, 9, 2, 3, 5, 9)  # numbers
    yield from (1, 1, 1, 1, 1)  # extensions
    yield from (-1, -2, -4, 3, 5, 3, 5)  # strings; lists and objects
    yield from repeat(1, 0x20)  # small negative numbers


_SIZES: Final = tuple(_sizes())


def check_text(text: str, where: str) -> None:
    """Refuse text with lone surrogates, which UTF-8 cannot encode."""
    if not text.isascii():
        _check_text(text, (None, where))


def check(value: object, where: str, *, binary: bool = False) -> None:
    """Refuse a value that is not a JSON object; the error names the place.

    Args:
        value: The value.
        where: The name of the value for the error, such as `message`.
        binary: Whether bytes are also allowed.

    Raises:
        InvalidInput: The value is not JSON: it has a value of another type, NaN, an infinity, an integer beyond 64
            bits, or a key that is not a string.
        TooLarge: The value is nested too deeply, or has too many values.
    """
    check_mapping(value, where)
    _check(value, (None, where), MAX_DEPTH, MAX_VALUES, binary=binary)  # type: ignore[arg-type]  # checked here


_Place: TypeAlias = "tuple[_Place | None, str | int]"  # the outer place, and the name or index in it


def _check(values: list[object] | dict[str, object], place: _Place, depth: int, left: int, *, binary: bool) -> int:
    """Check the items of a list or an object.

    Args:
        values: The list or object.
        place: Its place, which becomes text only for an error.
        depth: Number of allowed levels of lists and objects, this one included.
        left: Number of allowed values and names of values.
        binary: Whether bytes are also allowed.

    Returns:
        The rest of `left`.
    """
    left -= len(values)
    items: Iterable[tuple[str | int, object]]
    if type(values) is dict:
        left -= len(values)
        for key in values:
            if type(key) is not str:
                raise InvalidInput(f"{_said(place)} has a key of type {type(key).__name__}: JSON keys are strings")
            if not key.isascii():
                _check_text(key, place, "a key of ")
        items = values.items()
    else:
        items = enumerate(values)
    if left < 0:
        while place[0] is not None:
            place = place[0]
        raise TooLarge(
            f"{_said(place)} holds more than {MAX_VALUES} values and names of values, the limit: store large data as "
            "JSON in a string"
        )
    for name, item in items:
        kind = type(item)
        if kind is str:
            if not item.isascii():  # type: ignore[attr-defined]  # type(item) is str
                _check_text(item, (place, name))  # type: ignore[arg-type]
        elif kind is dict or kind is list:
            if depth == 1:
                raise TooLarge(f"{_said((place, name))} is nested deeper than {MAX_DEPTH} levels, or holds itself")
            if item:
                left = _check(item, (place, name), depth - 1, left, binary=binary)  # type: ignore[arg-type]
        elif not (
            item is None
            or kind is bool
            or (kind is int and _MIN_INT <= item <= _MAX_INT)  # type: ignore[operator]
            or (kind is float and isfinite(item))  # type: ignore[arg-type]
            or (binary and kind is bytes)
        ):
            raise InvalidInput(f"{_said((place, name))} {_wrong(item)}")
    return left


def _check_text(text: str, place: _Place, what: str = "") -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = text[error.start : error.start + 1]
        raise InvalidInput(f"{what}{_said(place)} holds the lone surrogate {found!r}: remove it or pair it") from None


def _said(place: _Place) -> str:
    within, name = place
    if within is None:
        return str(name)
    return f"{_said(within)}.{name}" if type(name) is str else f"{_said(within)}[{name}]"


def _wrong(item: object) -> str:
    kind = type(item)
    if kind is int:
        return "is an integer beyond 64 bits: store it as a string"
    if kind is float:
        return f"is {item}, which JSON cannot represent: store None (null in JSON) or a string instead"
    hint = ": use a list" if kind is tuple else ": convert it to a str, number, bool, list or dict first"
    return f"is of type {kind.__name__}, which is not JSON{hint}"


def check_number(value: object, name: str, *, least: int) -> None:
    """Refuse a value that is not an int from `least` to 2**53 - 1."""
    if type(value) is not int or not least <= value <= MAX_NUMBER:
        text = "the text " if isinstance(value, str) else ""
        raise InvalidInput(f"{name} must be a whole number of at least {least}, not {text}{shown(value)}")


def kind_of(value: object) -> str:
    """Return the name of the type of a value, for error messages."""
    return AWAITED if iscoroutine(value) else type(value).__name__


def shown(value: object) -> str:
    """Return a short text for any value, for error messages."""
    if type(value) is int and abs(value) > MAX_NUMBER:
        return "one over 2**53"
    if iscoroutine(value):
        return AWAITED
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def check_mapping(value: object, where: str, example: str = '{"name": "value"}') -> None:
    """Refuse a value that is not a mapping."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where} must be a dictionary such as {example}, not {kind_of(value)}")
