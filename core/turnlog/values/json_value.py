"""JSON values: checked once when they come in, kept encoded, decoded anew for every reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from ..errors import CorruptRecord, InvalidInput, TooLarge
from ..limits import MAX_DEPTH, MAX_NUMBER
from .stored import UNREADABLE

if TYPE_CHECKING:
    JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"
else:  # typing.get_type_hints resolves no alias that names itself
    JSON = str | int | float | bool | list[Any] | dict[str, Any] | None
"""The values of JSON."""

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # the integers of MessagePack, spec.md "int format family"

encode = msgspec.msgpack.Encoder().encode
canonical = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder().decode


def decode(data: bytes) -> JSON:
    """The value behind encoded bytes, made anew at each call.

    Raises:
        CorruptRecord: They are not what `encode` makes.
    """
    try:
        value: JSON = _decode(data)
    except UNREADABLE as error:
        raise CorruptRecord(f"a value cannot be decoded: {error}") from None
    return value


def recoded(data: bytes) -> bytes:
    """Return an encoded value in canonical form: the same bytes for equal values.

    Raises:
        CorruptRecord: The bytes are not what `encode` makes.
    """
    try:
        return canonical(_decode(data))
    except UNREADABLE as error:
        raise CorruptRecord(f"a value cannot be decoded: {error}") from None


def check_text(text: str, where: str) -> None:
    """Refuse what UTF-8 cannot say: lone surrogates."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = text[error.start : error.start + 1]
            raise InvalidInput(f"{where} holds the lone surrogate {found!r}: remove it or pair it") from None


def check(value: object, where: str, *, binary: bool = False, depth: int = MAX_DEPTH) -> None:
    """Refuse what is not JSON, naming its place.

    Args:
        value: Anything.
        where: The place to name in the error, such as `message.content`.
        binary: Whether bytes are allowed too.
        depth: How many levels of lists and objects are allowed.

    Raises:
        InvalidInput: Not JSON: another type, NaN or an infinity, an integer beyond 64 bits, a key that is no string.
        TooLarge: Too deep.
    """
    kind = type(value)
    if kind is str:
        check_text(value, where)  # type: ignore[arg-type]  # type(value) is str
    elif value is None or kind is bool:
        pass
    elif kind is int:
        if not _MIN_INT <= value <= _MAX_INT:  # type: ignore[operator]  # type(value) is int
            raise InvalidInput(f"{where} is an integer beyond 64 bits: store it as a string")
    elif kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]  # type(value) is float
            raise InvalidInput(f"{where} is {value}, which JSON cannot say: use null or a string")
    elif kind is list:
        if depth == 0:
            raise TooLarge(f"{where} is nested deeper than {MAX_DEPTH} levels, or holds itself")
        for index, item in enumerate(cast("list[object]", value)):
            check(item, f"{where}[{index}]", binary=binary, depth=depth - 1)
    elif kind is dict:
        if depth == 0:
            raise TooLarge(f"{where} is nested deeper than {MAX_DEPTH} levels, or holds itself")
        for name, item in cast("dict[object, object]", value).items():
            if type(name) is not str:
                raise InvalidInput(f"{where} has a key of type {type(name).__name__}: JSON keys are strings")
            check_text(name, f"a key of {where}")
            check(item, f"{where}.{name}", binary=binary, depth=depth - 1)
    elif not (binary and kind is bytes):
        hint = ": use a list" if kind is tuple else ": convert it to a str, number, bool, list or dict first"
        raise InvalidInput(f"{where} is of type {kind.__name__}, which is not JSON{hint}")


def check_number(value: object, name: str, *, least: int) -> None:
    """Refuse what is no int from `least` to 2**53 - 1."""
    if type(value) is not int or not least <= value <= MAX_NUMBER:
        raise InvalidInput(f"{name} must be an int from {least}, not {shown(value)}")


def shown(value: object) -> str:
    """A value as an error names it: in a few characters, whatever it is."""
    if type(value) is int and abs(value) > MAX_NUMBER:
        return "one over 2**53"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def check_mapping(value: object, where: str) -> None:
    """Refuse what is not a mapping."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where} must be a mapping, not {type(value).__name__}")
