"""Values: encoded once on input, kept encoded, and decoded again for every reader.

`docs/reference/format.md` specifies the encoding: MessagePack, and two extension types for values that it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import msgspec

from ..errors import CorruptRecord, InvalidInput, TooLarge
from ..limits import MAX_DEPTH, MAX_DIGITS, MAX_VALUES
from .stored import UNREADABLE

if TYPE_CHECKING:
    JSON: TypeAlias = "str | int | float | bool | bytes | list[JSON] | dict[str, JSON] | None"
else:  # typing.get_type_hints cannot resolve a recursive alias
    JSON = str | int | float | bool | bytes | list[Any] | dict[str, Any] | None
"""The values of Python's `json` module, and bytes."""

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # the integers of MessagePack, spec.md "int format family"
_LARGEST: Final = 10**MAX_DIGITS
_TEXT, _INTEGER = 1, 2  # the extension types
_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})

_Place: TypeAlias = "tuple[_Place | None, str | int]"  # the outer place, and the name or index in it


def _nested(levels: int) -> Any:  # noqa: ANN401 - a type
    """Return the type of the values that MessagePack has.  Decoders check it without Python code.

    Args:
        levels: Number of nested lists and dictionaries.  Each level doubles the time to make a decoder, 0.2 ms for six.
    """
    found: Any = str | int | float | bool | None
    for _ in range(levels):
        found = str | int | float | bool | list[found] | dict[str, found] | None
    return found


_encode = msgspec.msgpack.Encoder().encode
canonical: Callable[[object], bytes] = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_common = msgspec.msgpack.Decoder(_nested(6)).decode  # neither deep values, nor bytes, nor extensions
decode_object: Callable[[bytes], dict[str, JSON]] = msgspec.msgpack.Decoder(
    dict[str, _nested(5)]  # type: ignore[misc]  # made at run time
).decode
"""Decode an object that is at most six levels deep, and has neither bytes nor extensions; otherwise raise."""


def _of_extension(code: int, data: memoryview) -> str | int:
    if code == _TEXT:
        return bytes(data).decode("utf-8", "surrogatepass")
    if code == _INTEGER:
        number = int.from_bytes(data, signed=True)
        if abs(number) < _LARGEST:
            return number
        raise ValueError(f"it has an integer of more than {MAX_DIGITS} digits")
    raise ValueError(f"extension type {code} is unknown")


_decode_any = msgspec.msgpack.Decoder(ext_hook=_of_extension).decode
_decode_raw = msgspec.msgpack.Decoder().decode


def encode(value: object, where: str, name: str | None = None) -> bytes:
    """Return the encoded form of a value.

    Args:
        value: A value of `json`: a string, a number, a boolean, None, a list, or a dictionary with string keys; or
            bytes.  A value of a subclass, such as an enum, is encoded as the value of its base class.
        where: The place of the value for errors, such as `message`.
        name: The entry at this place; None: the value itself.

    Raises:
        InvalidInput: The value contains a value of another type, or a key that is not a string; the error names the
            place.
        TooLarge: The value is nested too deeply, has too many values, or an integer of too many digits.
    """
    if _is_plain(value):
        try:
            return _encode(value)
        except (OverflowError, UnicodeEncodeError):  # an integer beyond 64 bits, or a text with lone surrogates
            pass
    place: _Place = (None, where)
    return _encode(_Conversion().of(value, place if name is None else (place, name), MAX_DEPTH))


def decode(data: bytes) -> JSON:
    """Decode a value; each call returns a new object.

    Raises:
        CorruptRecord: The bytes are not the result of `encode` for a value within the limits.
    """
    _check_count(data)
    value: JSON
    try:
        value = _decode_common(data)
    except UNREADABLE:
        try:
            value = _decode_any(data)
            if not _is_plain(value):  # a key is binary, or the value is forged
                value = cast("JSON", _restored(value, MAX_DEPTH))
        except UNREADABLE as error:
            raise CorruptRecord(f"a value cannot be decoded: {error}") from None
    return value


_LONG_TEXT: Final = b"\xdb"
"""The first byte of a text of more than 65,535 bytes: `str 32` of the MessagePack specification."""


def recoded(data: bytes) -> bytes:
    """Return an encoded value in canonical form: the same bytes for equal values.

    Raises:
        CorruptRecord: The bytes are not the result of `encode` for a value within the limits.
    """
    if data[:1] == _LONG_TEXT and int.from_bytes(data[1:5], "big") == len(data) - 5 > 0xFFFF:
        return data  # the only form of such a text: do not copy up to a megabyte twice
    _check_count(data)
    try:
        value = _decode_raw(data)
        try:
            return canonical(value)
        except TypeError:  # a key is binary
            return _encode(_sorted(value))
    except UNREADABLE as error:
        raise CorruptRecord(f"a value cannot be decoded: {error}") from None


def _check_count(data: bytes) -> None:
    if len(data) > MAX_VALUES and count(data) > MAX_VALUES:  # before any object is made
        raise CorruptRecord(f"a value holds more than {MAX_VALUES} values, the limit: turnlog did not write it")


def _is_plain(value: object) -> bool:
    """Return whether a value is within the limits and has only values of the types that MessagePack has.

    An integer may still be too large for it, and a text may have lone surrogates.
    """
    kind = type(value)
    if kind is dict or kind is list:
        return _left(value, MAX_DEPTH, MAX_VALUES) >= 0  # type: ignore[arg-type]  # checked here
    return kind in _PLAIN


def _left(values: list[object] | dict[object, object], depth: int, left: int) -> int:
    """Check the items of a list or a dictionary.

    Args:
        values: The list or dictionary.
        depth: Number of allowed levels of lists and dictionaries, this one included.
        left: Number of allowed values and names of values.

    Returns:
        The rest of `left`; negative if an item is not plain.
    """
    left -= len(values)
    items: Iterable[object] = values
    if type(values) is dict:
        left -= len(values)
        for key in values:
            if type(key) is not str:
                return -1
        items = values.values()
    if left < 0:
        return -1
    for item in items:
        kind = type(item)
        if kind is str:
            continue
        if kind is dict or kind is list:
            if depth == 1:
                return -1
            if item:
                left = _left(item, depth - 1, left)  # type: ignore[arg-type]  # checked here
                if left < 0:
                    return -1
        elif kind not in _PLAIN:
            return -1
    return left


def _restored(value: object, depth: int) -> object:
    """Return a decoded value with strings in place of binary keys.

    Raises:
        ValueError: `encode` does not make such a value.
    """
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, list):
            return [_restored(item, depth - 1) for item in value]
        return {_restored_key(key): _restored(item, depth - 1) for key, item in value.items()}
    if type(value) in _PLAIN:
        return value
    raise ValueError(f"it has a value of type {type(value).__name__}")


def _restored_key(key: object) -> str:
    if type(key) is bytes:
        return key.decode("utf-8", "surrogatepass")
    if type(key) is not str:
        raise ValueError(f"it has a key of type {type(key).__name__}")
    return key


def _sorted(value: object) -> object:
    """Return a value with the entries of each dictionary in the order of their encoded keys."""
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _sorted(value[key]) for key in sorted(value, key=_encode)}


def count(data: bytes) -> int:
    """Return the number of values and names of values in encoded bytes; the count stops once it exceeds the limit.

    The bytes are not checked.  Counting takes about 0.1 microseconds per value, for strings and numbers of any length.
    """
    found, place, end = -1, 0, len(data)  # without the outermost value
    while place < end and found <= MAX_VALUES:
        found += 1
        first = data[place]
        size = _SIZES[first]
        if size < 0:  # a length of `-size` bytes follows
            size = 1 - size + int.from_bytes(data[place + 1 : place + 1 - size])
            if 0xC7 <= first <= 0xC9:  # the type of an extension follows the length
                size += 1
        place += size
    return found


def _sizes() -> Iterator[int]:
    """Yield, for each first byte, the size of a value without the values inside it (MessagePack, spec.md "Formats").

    A negative number is the size of a length that follows the first byte; data of this length follow it.
    """
    yield from repeat(1, 0xA0)  # small numbers, small objects and lists
    yield from range(1, 33)  # short strings
    yield from (1, 1, 1, 1)  # null, booleans
    yield from (-1, -2, -4, -1, -2, -4)  # bytes; extensions
    yield from (5, 9, 2, 3, 5, 9, 2, 3, 5, 9)  # numbers
    yield from (3, 4, 6, 10, 18)  # extensions of 1, 2, 4, 8 and 16 bytes
    yield from (-1, -2, -4, 3, 5, 3, 5)  # strings; lists and objects
    yield from repeat(1, 0x20)  # small negative numbers


_SIZES: Final = tuple(_sizes())


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can encode a text: it has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fits_64_bits(number: int) -> bool:
    """Return whether MessagePack has an integer."""
    return _MIN_INT <= number <= _MAX_INT


def check_text(text: str, where: str) -> None:
    """Refuse text with lone surrogates, which UTF-8 cannot encode."""
    if not is_utf8(text):
        found = next(sign for sign in text if "\ud800" <= sign <= "\udfff")
        raise InvalidInput(f"{where} holds the lone surrogate {found!r}: remove it or pair it")


def text_of(value: object) -> str | None:
    """Return a string as a MessagePack string can hold it; None for other values, and for lone surrogates."""
    if not isinstance(value, str):
        return None
    text = value if type(value) is str else str.__str__(value)  # the value of an enum
    return text if is_utf8(text) else None


class _Conversion:
    """A conversion of one value to the values that the encoder accepts, for values that it does not take as they are.

    It replaces values of subclasses, integers beyond 64 bits and texts with lone surrogates, and refuses other values.
    """

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def of(self, value: object, place: _Place, depth: int) -> object:
        """Return the converted value.

        Args:
            value: The value.
            place: Its place, which becomes text only for an error.
            depth: Number of allowed levels of lists and dictionaries.
        """
        if value is None or isinstance(value, bool | bytes):
            return value
        if isinstance(value, str):
            text = str.__str__(value)
            return text if is_utf8(text) else msgspec.msgpack.Ext(_TEXT, text.encode("utf-8", "surrogatepass"))
        if isinstance(value, int):
            return self._integer(int.__int__(value), place)
        if isinstance(value, float):
            return float.__float__(value)
        if not isinstance(value, dict | list):
            raise InvalidInput(f"{_said(place)} {_wrong(value)}")
        if not depth:
            raise TooLarge(f"{_said(place)} is nested deeper than {MAX_DEPTH} levels, or holds itself")
        self._left -= len(value) * (2 if isinstance(value, dict) else 1)
        if self._left < 0:
            while place[0] is not None:
                place = place[0]
            raise TooLarge(
                f"{_said(place)} holds more than {MAX_VALUES} values and names of values, the limit: store large data "
                "as JSON in a string"
            )
        if isinstance(value, list):
            return [self.of(item, (place, number), depth - 1) for number, item in enumerate(value)]
        found = {_key(key, place): self.of(item, (place, key), depth - 1) for key, item in value.items()}
        if len(found) < len(value):
            raise InvalidInput(f"{_said(place)} has two keys that are equal as strings: leave one of them out")
        return found

    def _integer(self, number: int, place: _Place) -> object:
        if fits_64_bits(number):
            return number
        if abs(number) >= _LARGEST:
            raise TooLarge(f"{_said(place)} is an integer of more than {MAX_DIGITS} digits: store it as a string")
        size = number.bit_length() // 8 + 1
        return msgspec.msgpack.Ext(_INTEGER, number.to_bytes(size, signed=True))


def _key(key: object, place: _Place) -> str | bytes:
    if not isinstance(key, str):
        raise InvalidInput(f"{_said(place)} has a key of type {type(key).__name__}: JSON keys are strings")
    text = str.__str__(key)
    return text if is_utf8(text) else text.encode("utf-8", "surrogatepass")


def _said(place: _Place) -> str:
    within, name = place
    if within is None:
        return str(name)
    return f"{_said(within)}[{name}]" if type(name) is int else f"{_said(within)}.{name}"


def _wrong(item: object) -> str:
    kind = type(item)
    hint = ": use a list" if isinstance(item, tuple) else ": convert it to a str, number, bool, list or dict first"
    return f"is of type {kind.__name__}, which is not JSON{hint}"
