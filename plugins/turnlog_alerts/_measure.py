"""Types of measurements: mappings of metrics, or objects such as the measurements of `StateMetrics`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias


class Measured(Protocol):
    """A measurement."""

    def to_dict(self) -> Mapping[str, object]:
        """Return the metrics, nested by the parts of their dotted paths."""


Measure: TypeAlias = Callable[[], Awaitable[Mapping[str, object] | Measured]]
"""A function that returns a measurement."""


async def metrics_of(measure: Measure) -> Mapping[str, object]:
    """Measure once, and return the metrics."""
    measured = await measure()
    return measured if isinstance(measured, Mapping) else measured.to_dict()
