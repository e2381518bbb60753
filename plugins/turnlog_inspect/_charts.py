"""Small charts, as SVG without scripts or styles of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

_WIDTH: Final = 240
_HEIGHT: Final = 48
_GAP: Final = 2
"""The size of a chart and of the gap between bars, in units that the style sheet scales."""


def line_chart(values: Sequence[float], label: str) -> Markup:
    """Return a line through values, from the oldest to the newest; the bottom is 0."""
    most = max([*values, 0.0]) or 1.0
    step = _WIDTH / max(len(values) - 1, 1)
    points = [f"{place * step:.1f},{_y(value, most):.1f}" for place, value in enumerate(values)]
    if len(points) == 1:
        points.append(f"{_WIDTH},{_y(values[0], most):.1f}")
    return Markup(
        '<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">'
        '<polyline points="{}"/></svg>'
    ).format(label, _WIDTH, _HEIGHT, " ".join(points))


def bar_chart(bars: Sequence[tuple[str, int]], label: str) -> Markup:
    """Return a bar for each name with its number; the names are below the bars."""
    most = max([count for _, count in bars] or [1]) or 1
    width = _WIDTH / max(len(bars), 1)
    shapes = Markup("").join(
        Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}: {}</title></rect>').format(
            place * width, _y(count, most), max(width - _GAP, 0.5), _HEIGHT - _y(count, most), name, count
        )
        for place, (name, count) in enumerate(bars)
        if count
    )
    names = Markup("").join(Markup("<span>{}</span>").format(name) for name, _ in bars)
    return Markup(
        '<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>'
        '<div class="ticks" aria-hidden="true">{}</div>'
    ).format(f"{label}: {_listed(bars)}", _WIDTH, _HEIGHT, shapes, names)


def _listed(bars: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in bars)


def _y(value: float, most: float) -> float:
    return _HEIGHT - 1 - (_HEIGHT - 4) * max(value, 0.0) / most
