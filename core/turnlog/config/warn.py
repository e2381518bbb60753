"""Warnings about ignored settings."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(256)
def warn_once(text: str) -> None:
    """Log a warning once per process; the command line prints it on standard error."""
    import logging

    logging.getLogger("turnlog.config").warning("%s", text)
