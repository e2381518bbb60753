"""`settings_of`: the settings of a store in a readable form, with the source of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ..errors import TurnlogError
from .merging import merged
from .options import Given
from .url import URL

__all__ = ["Setting", "mask", "masked_url", "settings_of"]

_SECRET: Final = re.compile("pass|secret|token|key", re.IGNORECASE)
"""The names of settings whose values are not shown."""


class Setting(msgspec.Struct, frozen=True):
    """A setting in effect.

    Attributes:
        name: The name, such as `ttl`.
        value: The value as text; `***` if it is a secret.
        where: The source, such as `turnlog.toml: store.ttl`.
    """

    name: str
    value: str
    where: str


def settings_of(url: str | None = None, *, namespace: str | None = None) -> list[Setting]:
    """Return the settings of the store that `open_existing(url, namespace=namespace)` makes.

    Raises:
        ConfigError: A URL, the file or a variable is wrong.
        PluginError: The backend is not installed, or is broken.
    """
    found = merged(url, namespace=namespace)
    settings = [Setting("url", found.location.masked(found.location.base), found.url.where)]
    for name, given in found.given.items():
        if name != "url":
            settings.append(Setting(name, _shown(name, given, found.location), given.where))
    return settings


def masked_url(url: str | None = None) -> str:
    """Return the URL of the store that `open_existing(url)` makes, without its options, and with `***` for a password.

    Raises:
        ConfigError: A URL, the file or a variable is wrong.
        PluginError: The backend is not installed, or is broken.
    """
    location = merged(url, namespace=None).location
    return location.masked(location.base)


def mask(text: str, url: str | None = None) -> str:
    """Return a text with `***` in place of the password of the store, such as the text of a driver's error.

    Args:
        text: The text.
        url: The URL of the store; None: the URL in the configuration.
    """
    try:
        return merged(url, namespace=None).location.masked(text)
    except TurnlogError:  # without a valid configuration there is no driver whose error could show a password
        return text


def _shown(name: str, given: Given, location: URL) -> str:
    value = given.value
    if name == "layers" and isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_layer(item) for item in value)
    return "***" if _SECRET.search(name) else location.masked(str(value))


def _layer(item: object) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    options = [f"{key}={'***' if _SECRET.search(str(key)) else value}" for key, value in item.items() if key != "name"]
    return f"{item.get('name')} ({', '.join(options)})" if options else str(item.get("name"))
