"""An OpenTelemetry layer: `layers=telemetry` creates a span and measurements for each operation of a backend.

The layer uses only the API of OpenTelemetry.  Without an SDK it does almost nothing.  With an SDK, the application
chooses the destinations of spans and metrics.
"""

from __future__ import annotations

from ._layer import TelemetryLayer

__all__ = ["TelemetryLayer"]
