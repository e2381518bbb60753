"""The commands `turnlog alerts run` and `turnlog alerts check`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App

from turnlog import ConfigError, Store
from turnlog.config import duration, open_existing
from turnlog.metrics import Measurement, StateMetrics

from ._alert import Alert
from ._alerts import Alerts
from ._configured import read_alerts
from ._measure import Measure, metrics_of
from ._units import number, with_unit

__all__ = ["alerts"]


def alerts(app: App) -> None:
    """Register `turnlog alerts`."""
    group = App(name="alerts", help="Evaluate the alerts of the configuration against the state of a store.")
    group.command(_run, name="run")
    group.command(_check, name="check")
    app.command(group)


async def _run(*, store: str | None = None, namespace: str | None = None, every: str = "1m") -> None:
    """Evaluate the alerts at an interval, and report each alert that fires or is resolved, until Ctrl-C.

    Run only one such process for each deployment, because each process sends its own reports.  Load latencies are
    measured with 100 probe reads, which restart no time to live.

    Args:
        store: The URL of the store, such as sqlite:///chat.db.  The alerts are always those of turnlog.toml.
        namespace: The namespace; a nested one is written outer/inner.
        every: The time between two evaluations, such as 30s or 5m.
    """
    seconds = duration(every, "--every")
    if not seconds:
        raise ConfigError("--every must be more than 0 seconds: write 30s or 5m")
    configured = _configured()
    opened = open_existing(store, namespace=namespace)
    watch = Alerts(_measure_of(opened), configured)
    async with opened:
        print(f"turnlog: evaluating {len(configured)} alerts every {every}; press Ctrl-C to stop", file=sys.stderr)
        await watch.run(every=seconds)


async def _check(*, store: str | None = None, namespace: str | None = None) -> int:
    """Measure once, and print the name, state, value and condition of each alert, without sending reports.

    On a terminal, the output is a table with units.  Otherwise each alert is one line with tabs and plain numbers.  The
    exit code is 1 if a metric is beyond its threshold in this measurement.

    Args:
        store: The URL of the store, such as sqlite:///chat.db.  The alerts are always those of turnlog.toml.
        namespace: The namespace; a nested one is written outer/inner.
    """
    configured = _configured()
    opened = open_existing(store, namespace=namespace)
    measure = _measure_of(opened)
    Alerts(measure, configured)  # the constructor checks the destinations
    async with opened:
        metrics = await metrics_of(measure)
    measured = [(alert, alert.value_in(metrics)) for alert in configured]
    if sys.stdout.isatty():
        _print_table(measured)
    else:
        for alert, value in measured:
            shown = "" if value is None else number(value)
            print(f"{alert.name}\t{_state(alert, value)}\t{shown}\t{alert.metric} {alert.plain_condition}")
    return 1 if any(_state(alert, value) == "beyond" for alert, value in measured) else 0


def _state(alert: Alert, value: float | None) -> str:
    return "unknown" if value is None else "beyond" if alert.is_beyond(value) else "ok"


def _print_table(measured: Sequence[tuple[Alert, float | None]]) -> None:
    from rich.console import Console

    from ._table import table_of

    rows = []
    for alert, value in measured:
        shown = "" if value is None else with_unit(alert.metric, value, digits=4)
        condition = f"{alert.metric} {alert.condition}"
        rows.append((alert.name, _state(alert, value), shown, "" if condition == alert.name else condition))
    Console(highlight=False).print(table_of(rows))


def _configured() -> tuple[Alert, ...]:
    found = read_alerts()
    if not found:
        raise ConfigError("no alert is configured: write [[alerts]] tables in turnlog.toml (docs/how-to/alerts.md)")
    return found


def _measure_of(store: Store) -> Measure:
    """Return the function that measures the state of a store, with the load times of 100 probe reads."""
    metrics = StateMetrics(store)

    async def measure() -> Measurement:
        await metrics.probe()
        return await metrics.measure()

    return measure
