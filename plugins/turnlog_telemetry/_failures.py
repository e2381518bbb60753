"""Errors of telemetry itself: the first is logged, and none reaches the application."""

from __future__ import annotations

import logging
from typing import Final

_logger: Final = logging.getLogger(__name__)


class Failures:
    """Logs the first error, so that the log of an application does not grow with every operation."""

    __slots__ = ("_logged",)

    def __init__(self) -> None:
        self._logged = False

    def note(self, failure: Exception) -> None:
        """Log the class of the error alone; its message may show an id."""
        if not self._logged:
            self._logged = True
            _logger.warning("telemetry failed with %s; the store works on without it", type(failure).__qualname__)
