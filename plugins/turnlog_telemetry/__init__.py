"""OpenTelemetry as a layer: `layers=telemetry` makes a span and measurements of each operation of a backend.

The layer uses the API of OpenTelemetry alone.  Without an SDK it does almost nothing; with one, the application chooses
where spans and metrics go.
"""

from __future__ import annotations

from ._layer import TelemetryLayer

__all__ = ["TelemetryLayer"]
