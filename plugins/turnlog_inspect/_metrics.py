"""The metrics of a namespace."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import Response

from turnlog import SessionInfo, Store, TurnlogError
from turnlog.metrics import Measurement, StateMetrics

from ._charts import bar_chart, line_chart
from ._html import markup, rendered
from ._list import namespaces_of
from ._stream import Event, EventStream, pause
from ._text import size_of
from ._visit import Visit

_SECONDS: Final = 5.0
"""Seconds between two measurements."""

_PATIENCE: Final = 0.3
"""Seconds that the page waits for the first measurement; later it arrives as an event."""

_KEPT: Final = 120
"""Number of measurements in a chart: ten minutes."""

_PROBES: Final = 20
"""Number of reads that a measurement times, if the application times none itself."""

_NEWEST: Final = 1_000
"""Number of sessions in the charts of sizes and ages."""

_SIZES: Final = (2, 5, 10, 20, 50, 100, 500)
"""The bounds of the classes of sizes, in messages."""

_AGES: Final = (("1 min", 60), ("10 min", 600), ("1 h", 3_600), ("6 h", 21_600), ("1 d", 86_400), ("7 d", 604_800))
"""The bounds of the classes of ages, in seconds."""


class _Chart(NamedTuple):
    """A chart with its newest value.

    Attributes:
        title: The title.
        value: The newest value.
        detail: An addition to the value.
        svg: The chart.
    """

    title: str
    value: str
    detail: str
    svg: Markup


async def show_metrics(visit: Visit) -> Response:
    """Show charts.  If the measurement takes long, the page shows the charts of the newest sessions first."""
    _check(visit)
    try:
        measured = await asyncio.wait_for(_measure(visit), None if visit.text("wait") else _PATIENCE)
        charts = markup("charts.html", charts=_charts([measured]))
    except TimeoutError:
        charts = Markup("")
    page = await visit.view.list_sessions(limit=_NEWEST)
    return visit.page(
        "metrics.html",
        charts=charts,
        newest=markup("charts.html", charts=_of_sessions(page.infos, visit.view.backend.clock())),
        count=len(page.infos),
        namespaces=await namespaces_of(visit),
    )


async def follow_metrics(visit: Visit) -> Response:
    """Send the charts after each measurement, until the browser disconnects."""
    _check(visit)
    return EventStream(_measurements(visit))


async def _measurements(visit: Visit) -> AsyncGenerator[Event, None]:
    measured: list[Measurement] = []
    while True:
        try:
            visit = await visit.again()
            _check(visit)
            measured = [*measured[-_KEPT + 1 :], await _measure(visit)]
        except HTTPException as error:
            yield Event("gone", error.detail)
            return
        except TurnlogError as error:
            yield Event("failed", f"The store cannot be measured now: {type(error).__name__}.")
        else:
            yield Event("measured", rendered("charts.html", charts=_charts(measured)))
        if await pause(visit.site.closing, _SECONDS):
            return


def _check(visit: Visit) -> None:
    if not visit.sees_namespaces:
        raise HTTPException(403, "Metrics cover all sessions of a namespace, and you may see those of one owner.")


async def _measure(visit: Visit) -> Measurement:
    metrics = StateMetrics(Store(visit.view.backend, namespace=visit.view.namespace))
    await metrics.probe(_PROBES)
    return await metrics.measure()


def _charts(measured: Sequence[Measurement]) -> list[_Chart]:
    """Return a chart for each metric."""
    last = measured[-1]
    size, latency = last.avg_history_size, last.load_latency
    times = [(one.load_latency.p95 or 0.0) * 1e3 for one in measured]
    return [
        _Chart("Sessions", f"{last.active_sessions:,}", "not expired", _line(measured, "active_sessions")),
        _Chart(
            "Messages per session",
            f"{size.messages:,.1f}",
            f"mean, {size_of(size.bytes)}",
            line_chart([one.avg_history_size.messages for one in measured], "messages per session over time"),
        ),
        _Chart(
            "Load of 20 messages",
            "unknown" if latency.p95 is None else f"{latency.p95 * 1e3:,.1f} ms",
            "" if latency.p50 is None else f"95th percentile; median {latency.p50 * 1e3:,.1f} ms",
            line_chart(times, "95th percentile of load times"),
        ),
        _Chart("Storage", size_of(last.storage_used), "of the backend", _line(measured, "storage_used")),
    ]


def _line(measured: Sequence[Measurement], name: str) -> Markup:
    return line_chart([getattr(one, name) or 0 for one in measured], f"{name} over time")


def _of_sessions(infos: Sequence[SessionInfo], now: float) -> list[_Chart]:
    """Return charts of the sizes and the ages of sessions."""
    sizes = Counter(next((bound for bound in _SIZES if info.messages <= bound), 0) for info in infos)
    ages = Counter(next((name for name, bound in _AGES if now - info.updated <= bound), "") for info in infos)
    size_bars = [(f"≤ {bound}", sizes[bound]) for bound in _SIZES] + [("more", sizes[0])]
    age_bars = [(f"{name}", ages[name]) for name, _ in _AGES] + [("older", ages[""])]
    messages = sorted(info.messages for info in infos) or [0]
    within = sum(ages[name] for name in ("1 min", "10 min", "1 h"))
    return [
        _Chart(
            "Messages of a session",
            f"{messages[len(messages) // 2]:,}",
            f"median; {messages[-1]:,} at the most",
            bar_chart(size_bars, "sessions by number of messages"),
        ),
        _Chart("Last turns", f"{within:,}", "in the last hour", bar_chart(age_bars, "sessions by age")),
    ]
