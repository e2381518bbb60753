"""Measurements: mappings of metrics, or objects such as those that `StateMetrics` returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias


class Measured(Protocol):
    """A measurement."""

    def to_dict(self) -> Mapping[str, object]:
        """Return the metrics, nested as the paths of alerts name them."""


Measure: TypeAlias = Callable[[], Awaitable[Mapping[str, object] | Measured]]
"""Measures once."""


async def metrics_of(measure: Measure) -> Mapping[str, object]:
    """Measure once, and return the metrics."""
    measured = await measure()
    return measured if isinstance(measured, Mapping) else measured.to_dict()
