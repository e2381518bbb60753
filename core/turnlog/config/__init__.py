"""Configuration: makes a store of installed plugins from a URL, a file, variables and arguments."""

from __future__ import annotations

from .configuration import open_existing, open_store
from .options import duration, size
from .plugins import (
    PLUGIN_API,
    Plugin,
    fault_of,
    find_backend,
    find_command,
    find_layer,
    find_model,
    find_token_counter,
    installed,
)
from .settings import Setting, mask, masked_url, settings_of
from .sources import read_table
from .suggestions import suggestion
from .url import URL, parse_url

__all__ = [
    "PLUGIN_API",
    "URL",
    "Plugin",
    "Setting",
    "duration",
    "fault_of",
    "find_backend",
    "find_command",
    "find_layer",
    "find_model",
    "find_token_counter",
    "installed",
    "mask",
    "masked_url",
    "open_existing",
    "open_store",
    "parse_url",
    "read_table",
    "settings_of",
    "size",
    "suggestion",
]
