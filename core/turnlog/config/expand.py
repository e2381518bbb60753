"""`${VARIABLE}` in a file: the value of an environment variable."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from ..errors import ConfigError

_VARIABLE: Final = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)\})?")
_PASSWORD_WITHOUT_BRACES: Final = re.compile(r"://[^/@]*:\$[A-Za-z_][A-Za-z0-9_]*@")


def expanded(value: object, where: str) -> object:
    """Return a value of a file with environment variables in place of their names, also inside lists and tables.

    A variable that is only a part of a URL is percent-encoded, so that it may hold any character.

    Raises:
        ConfigError: A variable is not set, a `${` is not followed by a name and a `}`, or the password of a URL is the
            name of a variable without braces.
    """
    if isinstance(value, Mapping):
        return {key: expanded(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [expanded(item, where) for item in value]
    if not isinstance(value, str):
        return value
    encodes = "://" in value
    if _PASSWORD_WITHOUT_BRACES.search(value):  # do not print it, because it may be the password itself
        raise ConfigError(
            f"{where}: the password in the URL is $ and a name, and is not replaced: write the name of a variable in "
            "braces, like ${DB_PASSWORD}, or write %24 for a $ of the password"
        )

    def text_of(found: re.Match[str]) -> str:
        if found[1] is None:
            raise ConfigError(
                f"{where}: a ${{ has no name of a variable and }} after it: write it like ${{DB_PASSWORD}}"
            )
        text = os.environ.get(found[1])
        if text is None:
            raise ConfigError(f"{where}: the variable {found[1]} is not set: set it, or remove ${{{found[1]}}}")
        return quote(text, safe="") if encodes else text

    return _VARIABLE.sub(text_of, value)
