"""`read_alerts`: the alerts of the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from turnlog import ConfigError, InvalidInput
from turnlog.config import duration, read_table, size, suggestion

from ._alert import Alert


def _number(value: object, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ConfigError(f"{where}: must be a number such as 1000, not {type(value).__name__}")


_METRICS: Final[Mapping[str, Callable[[object, str], float]]] = {
    "active_sessions": _number,
    "avg_history_size.messages": _number,
    "avg_history_size.bytes": size,
    "load_latency.p50": duration,
    "load_latency.p95": duration,
    "load_latency.p99": duration,
    "storage_used": size,
}
"""The metrics of `StateMetrics`, each with the parser of its thresholds."""

_KEYS: Final = ("metric", "above", "below", "for", "cooldown", "clear_at", "to", "name")


def read_alerts(*, config: str | os.PathLike[str] | Mapping[str, object] | None = None) -> tuple[Alert, ...]:
    """Return the alerts of the configuration: the tables `[[alerts]]` of the file.

    Args:
        config: As in `open_store`: the file, or its contents as a mapping.

    Raises:
        ConfigError: The file or an alert is wrong; the message names the place and the problem.
    """
    tables, where = read_table("alerts", config=config)
    if tables is None:
        return ()
    if not isinstance(tables, list):
        raise ConfigError(f"{where}: must be a list of tables, not {type(tables).__name__}: write [[alerts]]")
    found: dict[str, str] = {}
    alerts = []
    for number, table in enumerate(tables):
        place = f"{where}[{number}]"
        alert = _alert(table, place)
        if alert.name in found:
            raise ConfigError(
                f"{place}: {found[alert.name]} has the same name {alert.name!r}: give one of them another name"
            )
        found[alert.name] = place
        alerts.append(alert)
    return tuple(alerts)


def _alert(table: object, where: str) -> Alert:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: must be a table, not {type(table).__name__}: write [[alerts]]")
    for key in table:
        if key not in _KEYS:
            near = suggestion(key, _KEYS)
            raise ConfigError(f"{where}: {key!r} is not a key of an alert; the keys are {', '.join(_KEYS)}{near}")
    metric = table.get("metric")
    if not isinstance(metric, str) or metric not in _METRICS:
        given = "" if metric is None else f", not {metric!r}"
        raise ConfigError(f"{where}.metric: must be one of {', '.join(_METRICS)}{given}")
    options: dict[str, object] = {"metric": metric}
    for key in ("above", "below", "clear_at"):
        if key in table:
            options[key] = _METRICS[metric](table[key], f"{where}.{key}")
    for key, option in (("for", "for_"), ("cooldown", "cooldown")):
        if key in table:
            options[option] = duration(table[key], f"{where}.{key}")
    if "to" in table:
        options["to"] = tuple(table["to"]) if isinstance(table["to"], list) else (table["to"],)
    if "name" in table:
        options["name"] = table["name"]
    try:
        return Alert(**options)  # type: ignore[arg-type]
    except InvalidInput as error:
        raise ConfigError(f"{where}: {error}") from None
