"""The JSON form of values: JSON Lines of a session, exports and the command line use it.

`docs/reference/format.md` specifies it.  A value that JSON text cannot hold is an object with the one name `$turnlog`,
whose value is the encoded value in base64.
"""

from __future__ import annotations

import base64
from math import isfinite
from typing import Final, cast

import msgspec

from ..errors import CorruptRecord
from .json_value import JSON, decode, encode, fits_64_bits, is_utf8

_NAME: Final = "$turnlog"


def to_json(value: JSON) -> JSON:
    """Return the JSON form of a value, which every encoder of JSON accepts."""
    if isinstance(value, dict):
        if _NAME in value or not all(map(is_utf8, value)):
            return _escaped(value)
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, str):
        return value if is_utf8(value) else _escaped(value)
    if isinstance(value, float):
        return value if isfinite(value) else _escaped(value)
    if isinstance(value, int):
        return value if fits_64_bits(value) else _escaped(value)
    return _escaped(value) if isinstance(value, bytes) else value


def from_json(value: object) -> JSON:
    """Return the value of a JSON form.

    Raises:
        ValueError: An object with the name `$turnlog` is not the form of a value.
    """
    if isinstance(value, dict):
        if _NAME not in value:
            return {name: from_json(item) for name, item in value.items()}
        encoded = value[_NAME]
        if len(value) > 1 or not isinstance(encoded, str):
            raise ValueError(f"an object with the name {_NAME} must have no other name, and base64 as its value")
        try:
            return decode(base64.b64decode(encoded, validate=True))
        except CorruptRecord as error:
            raise ValueError(f"the value of {_NAME} cannot be decoded: {error}") from None
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return cast("JSON", value)


def json_text(value: JSON) -> str:
    """Return the JSON form of a value as text."""
    return msgspec.json.encode(to_json(value)).decode()


def _escaped(value: JSON) -> JSON:
    return {_NAME: base64.b64encode(encode(value, "value")).decode()}
