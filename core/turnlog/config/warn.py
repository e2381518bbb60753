"""Warnings about settings that do not count."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final

_log: Final = logging.getLogger("turnlog.config")


@lru_cache(256)
def warn_once(text: str) -> None:
    """Log a warning, once in a process; the command line prints it on standard error."""
    _log.warning("%s", text)
