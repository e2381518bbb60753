"""`open_store` and `open_existing`: make a store from a URL, a TOML table, variables and arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ..store import Store
from .building import build
from .merging import merge, merged
from .sources import arguments_given

__all__ = ["open_existing", "open_store"]


def open_store(
    url: str | None = None,
    *,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    namespace: str | None = None,
    ttl: str | float | None = None,
    retain: int | None = None,
    max_session_bytes: int | str | None = None,
    layers: Sequence[str | Mapping[str, object]] | None = None,
) -> Store:
    """Make the store that the configuration names; `async with` opens it.

    Settings come from the arguments and the query of `url`, then from the variables `TURNLOG_STORE_URL`,
    `TURNLOG_STORE_TTL` and so on, then from the table `[store]` of the file.  If `url` is given, a file that is only
    found in the working directory is ignored, and a warning names the settings in it.  The default of `url` is
    `sqlite:///turnlog.db`.

    Args:
        url: The backend and its location, such as `sqlite:///chat.db?namespace=shop&ttl=24h` or `memory://`.
        config: The path of the file, or its contents as a mapping.  None: the file that `TURNLOG_CONFIG` names, else
            `turnlog.toml`, else the table `[tool.turnlog]` of `pyproject.toml`, both in the working directory.
        namespace: As in `Store`; the same text as for `Store.within`.
        ttl: As in `Backend`; seconds, or a duration such as `"24h"` or `"30d"`; 0: for ever.
        retain: As in `Store`.
        max_session_bytes: As in `Store`; bytes, or a size such as `"64KiB"` or `"10MB"`.
        layers: The names of layers, or mappings with the `name` and options; the first is the outermost.

    Raises:
        ConfigError: A URL, the file, a variable or an option is wrong, or an option is given twice.
        PluginError: The backend or a layer is not installed, or is broken.
    """
    arguments = {
        "url": url,
        "namespace": namespace,
        "ttl": ttl,
        "retain": retain,
        "max_session_bytes": max_session_bytes,
        "layers": layers,
    }
    return build(merge(arguments_given(arguments), config))


def open_existing(url: str | None = None, *, namespace: str | None = None) -> Store:
    """Make the store that the configuration names, for a command that only needs stored sessions.

    The store is the store of `open_store(url, namespace=namespace)`, but opening it changes nothing.  If the
    constructor of the backend takes `migrate: Literal["auto", "check"]`, it is called with `migrate="check"`, and the
    backend creates no tables.  If the constructor takes `sweep: float`, it is called with `sweep=0`, and the backend
    removes no expired sessions.

    Raises:
        ConfigError: A URL, the file, a variable or an option is wrong.
        PluginError: The backend or a layer is not installed, or is broken.
    """
    return build(merged(url, namespace=namespace), existing=True)
