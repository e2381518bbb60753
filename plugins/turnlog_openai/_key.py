"""The key, which only the environment holds."""

from __future__ import annotations

import os
from typing import Final

from turnlog import ConfigError

_VARIABLE: Final = "OPENAI_API_KEY"
"""The variable that OpenAI's client reads."""


def check_key() -> None:
    """Check that the environment has a key that a header can hold.

    The HTTP library would quote a key with a line break, as a file of secrets may end in one, in its error.

    Raises:
        ConfigError: There is none, or it has a character that no header holds.
    """
    key = os.environ.get(_VARIABLE, "")
    if not key:
        raise ConfigError(
            f"there is no key for OpenAI: set the variable {_VARIABLE} (to any text, if the server asks for no key)"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(
            f"the variable {_VARIABLE} holds more than a key: a blank, a line break or a character that is not ASCII"
        )
