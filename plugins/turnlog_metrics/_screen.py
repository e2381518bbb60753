"""The output of `turnlog stats`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from rich.console import Group
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from turnlog.metrics import Measurement


def as_json(measured: Measurement, time: float | None = None) -> str:
    """Return a measurement as one line of JSON, with its time in seconds since 1970 if it is given."""
    return json.dumps(measured.to_dict() if time is None else {"time": time, **measured.to_dict()})


def as_lines(measured: Measurement, time: float | None = None) -> str:
    """Return a line for each number, with its name, a tab, and its value or `unknown`; first the time, if given."""
    lines = [] if time is None else [f"time\t{time_of(time)}"]
    for name, value in measured.to_dict().items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            lines.append(f"{name}{'.' if part else ''}{part}\t{'unknown' if number is None else number}")
    return "\n".join(lines)


def as_screen(measured: Measurement, title: str, note: str, time: float | None = None) -> Group:
    """Return a table of the numbers for people.

    Args:
        measured: The numbers.
        title: The name of the measured sessions.
        note: A remark on the measurement.
        time: The time of the measurement, in seconds since 1970; None: not shown.
    """
    size, latency = measured.avg_history_size, measured.load_latency
    percentiles = (("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99))
    times = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in percentiles if seconds is not None)
    occupied = "unknown" if measured.storage_used is None else decimal(measured.storage_used)
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    if time is not None:
        table.add_row("time", time_of(time))
    table.add_row("active_sessions", f"{measured.active_sessions:,}")
    none = "no session could be loaded" if measured.active_sessions else "no sessions"
    mean = f"{size.messages:,.1f} messages, {decimal(round(size.bytes))} before compression"
    table.add_row("avg_history_size", mean if measured.active_sessions else "no sessions")
    table.add_row("load_latency", times or none)
    table.add_row("storage_used", occupied)
    return Group(Text(title, style="bold"), table, Text(note, style="dim"))


def as_failure(title: str, error: str, time: float) -> Group:
    """Return the reason why a measurement failed, for people.

    Args:
        title: The name of the measured sessions.
        error: The reason.
        time: The time of the measurement, in seconds since 1970.
    """
    failure = Text(f"The measurement at {time_of(time)} failed: {error}", style="red")
    return Group(Text(title, style="bold"), failure)


def time_of(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
