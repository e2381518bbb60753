"""The password of a store that is not in its URL: the option `password`, or a file that `password_file` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ..errors import ConfigError
from .options import Given, Option
from .sources import Source
from .url import URL

PASSWORD: Final = "password"  # noqa: S105 - the name of an option
PASSWORD_FILE: Final = "password_file"  # noqa: S105


def with_password_file(has: Mapping[str, Option]) -> Mapping[str, Option]:
    """Return the options of a backend, with `password_file` if it has a `password`."""
    return {**has, PASSWORD_FILE: Option(PASSWORD_FILE, str, (), nullable=False)} if PASSWORD in has else has


def read_password(location: URL, url: Given, given: Source, has: Mapping[str, Option]) -> URL:
    """Return the location with the password; in `given`, replace `password_file` with the password that it holds.

    Raises:
        ConfigError: There are two passwords, or the file cannot be read.
    """
    if PASSWORD not in has:
        return location
    sources = [given[name].where for name in (PASSWORD, PASSWORD_FILE) if name in given]
    if location.password is not None:
        sources.insert(0, url.where)
    if len(sources) > 1:
        raise ConfigError(f"{' and '.join(sources)}: the password is given twice: remove one of them")
    file = given.pop(PASSWORD_FILE, None)
    if file is not None:
        given[PASSWORD] = Given(_contents(file), file.where, text=True)
    value = given[PASSWORD].value if PASSWORD in given else None
    return msgspec.structs.replace(location, password=value) if isinstance(value, str) else location


def _contents(given: Given) -> str:
    """Return the text of a file without the end of its line."""
    path = given.value
    if not isinstance(path, str) or not path:
        raise ConfigError(f"{given.where}: must be the path of a file that holds the password")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        text = f"{getattr(error, 'strerror', None) or error}; check the path and its permissions"
        if isinstance(error, UnicodeError):
            text = "it is not UTF-8; write the password into it as text in UTF-8"
        raise ConfigError(f"{given.where}: {path!r} cannot be read: {text}") from None  # it might show the contents
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise ConfigError(f"{given.where}: {path!r} is empty: write the password into it")
    return password
