"""Configuration: a store out of a URL, a file, variables and arguments, made of installed plugins."""

from __future__ import annotations

from .configuration import open_existing, open_store
from .options import duration, size
from .plugins import Plugin, find_backend, find_command, find_layer, find_model, find_token_counter, installed
from .sources import read_table
from .url import URL, parse_url

__all__ = [
    "URL",
    "Plugin",
    "duration",
    "find_backend",
    "find_command",
    "find_layer",
    "find_model",
    "find_token_counter",
    "installed",
    "open_existing",
    "open_store",
    "parse_url",
    "read_table",
    "size",
]
