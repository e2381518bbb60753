"""Errors of telemetry itself: only the first one is logged, and none is raised."""

from __future__ import annotations

import logging
from typing import Final

_logger: Final = logging.getLogger(__name__)


class Failures:
    """Logs only the first error, so that the log does not grow with every operation."""

    __slots__ = ("_logged",)

    def __init__(self) -> None:
        self._logged = False

    def note(self, failure: Exception) -> None:
        """Log the class of the first error; its message is not logged, because it may contain an id."""
        if not self._logged:
            self._logged = True
            _logger.warning("telemetry failed with %s; the store works without it", type(failure).__qualname__)
