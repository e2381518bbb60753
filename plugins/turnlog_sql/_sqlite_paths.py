"""Paths of SQLite files: in the URL of a store, for the system, and as a URI for SQLite (sqlite.org/uri.html)."""

from __future__ import annotations

import os
import re
from pathlib import PureWindowsPath
from typing import Final
from urllib.parse import quote

_WINDOWS: Final = os.name == "nt"
_SHARE: Final = re.compile(r"/[^/]+/[^/]+/[^/]")


def path_of(database: str, *, windows: bool = _WINDOWS) -> str:
    """Return the path for the system.

    Args:
        database: The part of the URL after `sqlite:///`.  On Windows, `/server/share/x.db` is a file on a server.
        windows: Whether the system is Windows.
    """
    if windows and _SHARE.match(database):
        return f"/{database}"
    return database


def uri_of(path: str, query: str, *, windows: bool = _WINDOWS) -> str:
    r"""Return the URI by which SQLite opens an absolute path.

    Args:
        path: The path: `/var/x.db`; on Windows, `C:\x.db` or `\\server\share\x.db`.
        query: The parameters of the URI.
        windows: Whether the system is Windows.
    """
    return f"file://{_from_root(path, windows=windows)}?{query}"


def url_of(path: str, *, windows: bool = _WINDOWS) -> str:
    """Return the URL of the store in a file; a path for Windows must be absolute."""
    return f"sqlite://{_from_root(path, windows=True)}" if windows else f"sqlite:///{quote(path)}"


def _from_root(path: str, *, windows: bool) -> str:
    if windows:
        path = PureWindowsPath(path).as_posix()
    text = quote(path, safe="/:" if windows else "/")
    return text if text.startswith("/") else f"/{text}"
