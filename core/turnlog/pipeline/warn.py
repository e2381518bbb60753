"""Warnings of a pipeline."""

from __future__ import annotations


def warn(text: str, *values: object) -> None:
    """Log a warning."""
    import logging  # imported late, to keep `import turnlog` fast

    logging.getLogger("turnlog").warning(text, *values)
