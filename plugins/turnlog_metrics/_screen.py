"""The output of `turnlog stats`."""

from __future__ import annotations

import json

from rich.console import Group
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from turnlog.metrics import Measurement


def as_json(measured: Measurement) -> str:
    """Return a measurement as JSON on one line."""
    return json.dumps(measured.to_dict())


def as_lines(measured: Measurement) -> str:
    """Return a line for each number: its name, a tab, and the number, or `unknown`."""
    lines = []
    for name, value in measured.to_dict().items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            lines.append(f"{name}{'.' if part else ''}{part}\t{'unknown' if number is None else number}")
    return "\n".join(lines)


def as_screen(measured: Measurement, title: str, note: str) -> Group:
    """Return the numbers for people.

    Args:
        measured: The numbers.
        title: What was measured.
        note: How.
    """
    size, latency = measured.avg_history_size, measured.load_latency
    percentiles = (("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99))
    times = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in percentiles if seconds is not None)
    occupied = "unknown" if measured.storage_used is None else decimal(measured.storage_used)
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("active_sessions", f"{measured.active_sessions:,}")
    table.add_row("avg_history_size", f"{size.messages:,.1f} messages, {decimal(round(size.bytes))} before compression")
    table.add_row("load_latency", times or "no sessions to load")
    table.add_row("storage_used", occupied)
    return Group(Text(title, style="bold"), table, Text(note, style="dim"))
