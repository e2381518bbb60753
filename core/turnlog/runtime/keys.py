"""The key of a provider, which only the environment holds."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import ConfigError


def check_key(variables: Sequence[str], missing: str) -> None:
    """Check that the environment has a key that an HTTP header can hold.

    HTTP libraries quote a header that they refuse in their errors, such as a key with a line break, as a file of
    secrets may end in one.

    Args:
        variables: The variables that the provider's client reads: the first that is set counts.
        missing: The error if none is set.

    Raises:
        ConfigError: There is no key, or it has a character that no header holds.
    """
    for variable in variables:
        key = os.environ.get(variable, "")
        if not key:
            continue
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError(
                f"the variable {variable} holds more than a key: a blank, a line break or a character that is not ASCII"
            )
        return
    raise ConfigError(missing)
