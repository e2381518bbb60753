"""Variables of the environment.

An unknown variable is not an error, because other programs may set variables with the same prefix.  Kubernetes sets
such variables for each Service: for a Service named `turnlog-store`, `TURNLOG_STORE_PORT` is an address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

from .options import Given
from .sources import CONFIG, Source, twice
from .warn import warn_once

_OURS: Final = "TURNLOG_"
_VARIABLE: Final = "TURNLOG_STORE_"
_NAME: Final = re.compile(r"TURNLOG_(?!TEST_)[A-Za-z0-9_]+")

_KUBERNETES: Final = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""Names of the variables that Kubernetes sets for a Service.

Source: kubernetes.io/docs/concepts/services-networking/service, "Discovering services".
"""

_NEAR: Final = 0.9
"""Minimum similarity of two names (`difflib.SequenceMatcher.ratio`): about one letter after the prefix may differ."""


def variables_given() -> Source:
    """Return the settings in variables, unknown settings included.

    Raises:
        ConfigError: Two variables differ only in the case of their letters.
    """
    source: Source = {}
    for name in _names():
        if name.startswith(_VARIABLE):
            key, given = name.removeprefix(_VARIABLE).lower(), Given(os.environ[name], name, text=True)
            if key in source:
                raise twice(key, source[key], given)
            source[key] = given
    return source


def warn_of_unknown(known: Iterable[str], of_layers: Mapping[str, str]) -> None:
    """Warn of ignored variables with nearly the name of a known variable.

    Args:
        known: The settings that a variable can set.
        of_layers: The options of the store's layers, which no variable can set, and the layer of each.
    """
    names = {CONFIG, *(_VARIABLE + key.upper() for key in known)}
    for name in _names():
        if name.upper() in names:
            continue
        layer = of_layers.get(name.removeprefix(_VARIABLE).lower())
        if layer is not None:
            warn_once(f"the variable {name} is ignored: give the option with the name of the layer {layer}, in layers")
        elif near := _near(name.upper(), names):
            warn_once(f"the variable {name} is ignored: did you mean {near}?")


def _names() -> list[str]:
    return [name for name in os.environ if _NAME.fullmatch(name) and not _KUBERNETES.fullmatch(name)]


def _near(name: str, names: Iterable[str]) -> str | None:
    import difflib

    whole = name.replace(_OURS, _VARIABLE, 1)
    for one in (whole, f"{name}_URL"):
        if one in names:
            return one
    found = difflib.get_close_matches(name, sorted(names), 1, _NEAR)
    return found[0] if found else None
