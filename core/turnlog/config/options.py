"""Options: the parameters of a constructor that can be configured, and their values from text or TOML.

Durations are seconds (`90`, `"1.5s"`, `"24h"`), sizes are bytes (`65536`, `"64KiB"`, `"10MB"`).
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Union

from ..errors import ConfigError, PluginError
from ..limits import MAX_NUMBER
from .suggestions import suggestion

_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES: Final[dict[str, int]] = {"": 1, "b": 1} | {
    f"{p}{b}b": n**e for e, p in enumerate("kmgt", 1) for b, n in (("", 1000), ("i", 1024))
}
_DURATION: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([a-z]*)")
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([a-z]*)", re.IGNORECASE)
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,15}")
_JOINED: Final = re.compile("[;?][a-z_]+=")  # another option at the end of a value in a query
_TRUTH: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


class Given(NamedTuple):
    """A value and its source, such as `turnlog.toml: store.ttl`."""

    value: object
    where: str
    text: bool
    """Whether the source is a URL or a variable, which hold numbers as text."""


class Option(NamedTuple):
    """The values that a keyword-only parameter accepts."""

    name: str
    kind: type
    choices: tuple[object, ...]
    nullable: bool

    def of(self, given: Given) -> object:
        """Return the value for the constructor.

        Raises:
            ConfigError: The value does not fit the parameter.
        """
        try:
            return self._converted(given)
        except ConfigError as error:
            if ": ?" in given.where and isinstance(given.value, str) and _JOINED.search(given.value):
                raise ConfigError(f"{error}; separate options with &") from None
            raise

    def _converted(self, given: Given) -> object:
        value = given.value
        if value is None and self.nullable:
            return None
        if self.kind is float:
            return duration(value, given.where)
        if self.kind is int and self.name.endswith("bytes"):
            return size(given.value, given.where)
        if self.kind is int:
            return _whole(given)
        if self.kind is bool:
            return _truth(given)
        if self.choices:
            return _choice(given, self.choices)
        if not isinstance(value, str):
            raise ConfigError(f"{given.where}: must be text, not {type(value).__name__}")  # the value may be a secret
        return value


def options_of(maker: type) -> dict[str, Option]:
    """Return the keyword-only parameters of a class that can be configured, by name.

    Raises:
        PluginError: The constructor has no readable signature.
    """
    options = {}
    for parameter in signature_of(maker).values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            option = _option(parameter.name, _annotation(maker, parameter))
            if option is not None:
                options[option.name] = option
    return options


def signature_of(maker: type) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class's constructor, without `self`."""
    try:
        return inspect.signature(maker).parameters
    except (ValueError, TypeError, NameError) as error:
        raise PluginError(f"{maker.__module__}.{maker.__qualname__} has no readable signature: {error}") from error


def _annotation(maker: type, parameter: inspect.Parameter) -> object:
    """Return the type; None if its name cannot be resolved, for example because only type checkers import it."""
    function = inspect.unwrap(maker.__init__)  # type: ignore[misc]
    holder = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return typing.get_type_hints(holder, getattr(function, "__globals__", {}))["it"]
    except (NameError, AttributeError, TypeError):
        return None


def _option(name: str, annotation: object) -> Option | None:
    nullable = False
    if typing.get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
        nullable = len(kinds) < len(typing.get_args(annotation))
        annotation = kinds[0] if len(kinds) == 1 else None
    if typing.get_origin(annotation) is Literal:
        return Option(name, object, typing.get_args(annotation), nullable)
    if annotation in (float, int, bool, str):
        return Option(name, typing.cast("type", annotation), (), nullable)
    return None


def duration(value: object, where: str) -> float:
    """Return a duration in seconds.

    Args:
        value: A number of seconds, or text such as `"90s"`, `"24h"` or `"30d"`.
        where: The source of the value, for the error message.

    Raises:
        ConfigError: The value is not a duration.
    """
    if isinstance(value, str):
        found = _DURATION.fullmatch(value)
        if found and found[2] in _SECONDS:
            return float(found[1]) * _SECONDS[found[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER:
        return float(value)
    examples = "90 (seconds), 90s, 24h or 30d" if where.startswith("--") else '90, "90s", "24h" or "30d"'
    raise ConfigError(f"{where}: {_shown(value)} is not a duration; write {examples}")


def size(value: object, where: str) -> int:
    """Return a size in bytes.

    Args:
        value: A number of bytes, or text such as `"64KiB"` or `"10MB"`.
        where: The source of the value, for the error message.

    Raises:
        ConfigError: The value is not a size.
    """
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        if found and found[2].lower() in _BYTES:
            return int(found[1]) * _BYTES[found[2].lower()]
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER:
        return value
    raise ConfigError(f'{where}: {_shown(value)} is not a size; write 65536, "64KiB" or "10MB"')


def _whole(given: Given) -> int:
    value = given.value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER:
        return value
    if given.text and isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        raise ConfigError(f"{given.where}: {_shown(value)} is text: write {value} without quotation marks")
    raise ConfigError(f"{given.where}: {_shown(value)} is not a whole number; write a number such as 500")


def _truth(given: Given) -> bool:
    value = given.value
    if type(value) is bool:
        return value
    if given.text and isinstance(value, str) and value.lower() in _TRUTH:
        return _TRUTH[value.lower()]
    raise ConfigError(f"{given.where}: {_shown(value)} is neither true nor false; write yes or no")


def _choice(given: Given, choices: tuple[object, ...]) -> object:
    value = given.value
    for choice in choices:
        if (type(value) is type(choice) and value == choice) or (given.text and value == str(choice)):
            return choice
    known = [str(choice) for choice in choices]
    wanted = " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))
    near = suggestion(value, known) if isinstance(value, str) else ""
    raise ConfigError(f"{given.where}: must be {wanted}, not {_shown(value)}{near}")


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 and value.isprintable() else f"text of {len(value)} characters"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) <= MAX_NUMBER):
        return str(value)
    return "a number over 2**53" if isinstance(value, int) else f"a {type(value).__name__}"
