"""Alerts from the configuration, and the commands `turnlog alerts run` and `turnlog alerts check`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from turnlog import ConfigError, Store, Unavailable, open_store, user
from turnlog_alerts import Alert, read_alerts
from turnlog_cli import main


def test_alerts_come_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "turnlog.toml"
    path.write_text("""
        [store]
        url = "memory://?namespace=shop"

        [[alerts]]
        name = "slow loads"
        metric = "load_latency.p95"
        above = "200ms"
        for = "5m"
        cooldown = "1h"
        clear_at = 0.1
        to = ["log", "https://example.com/hook", "env:ALERT_URL"]

        [[alerts]]
        metric = "storage_used"
        above = "10GB"
        to = "env:ALERT_URL"

        [[alerts]]
        metric = "active_sessions"
        below = 10
    """)
    assert read_alerts(config=path) == (
        Alert(
            name="slow loads",
            metric="load_latency.p95",
            above=0.2,
            for_=300.0,
            cooldown=3600.0,
            clear_at=0.1,
            to=("log", "https://example.com/hook", "env:ALERT_URL"),
        ),
        Alert(metric="storage_used", above=10**10, to=("env:ALERT_URL",)),
        Alert(metric="active_sessions", below=10),
    )
    assert open_store(config=path).namespace == "shop"
    assert read_alerts(config={}) == read_alerts(config={"alerts": []}) == ()


def wrong(**options: object) -> dict[str, object]:
    return {"alerts": [{"metric": "active_sessions", "above": 1}, {"metric": "load_latency.p95", **options}]}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"alerts": {"metric": "m"}}, "config: alerts: must be a list of tables, not dict: write [[alerts]]"),
        ({"alerts": ["slow"]}, "config: alerts[0]: must be a table, not str: write [[alerts]]"),
        ({"alert": []}, "config: the table [alert] is unknown; write [store] or [[alerts]]; did you mean 'alerts'?"),
        (
            wrong(),
            "config: alerts[1]: an alert needs either above or below, and has neither: write one, such as above = 0.2",
        ),
        (wrong(above=1, abov=2), "config: alerts[1]: 'abov' is not a key of an alert; the keys are metric, "),
        (wrong(above=1, for_=2), "config: alerts[1]: 'for_' is not a key of an alert; the keys are"),
        (wrong(metric="load_latency"), "config: alerts[1].metric: must be one of active_sessions, avg_history_size."),
        (wrong(metric="p95"), "load_latency.p99, storage_used, not 'p95'"),
        (wrong(metric=["p95"]), "config: alerts[1].metric: must be one of"),
        (wrong(above="fast"), 'config: alerts[1].above: "fast" is not a duration; write 90, "90s", "24h" or "30d"'),
        (wrong(metric="storage_used", above="9s"), 'config: alerts[1].above: "9s" is not a size; write 65536, "64KiB"'),
        (wrong(metric="active_sessions", below="9"), "config: alerts[1].below: must be a number such as 1000, not str"),
        (wrong(metric="active_sessions", below=float("nan")), "config: alerts[1]: below must be a number from"),
        (
            wrong(above=1, clear_at="2s"),
            "config: alerts[1]: clear_at must be at most the threshold of the alert (above 1 s), ",
        ),
        (wrong(above=1, **{"for": "5 minutes"}), 'config: alerts[1].for: "5 minutes" is not a duration'),
        (wrong(above=1, cooldown=-1), "config: alerts[1].cooldown: -1 is not a duration"),
        (wrong(above=1, to="mail"), 'config: alerts[1]: to must be "log", the URL of a webhook'),
        (wrong(above=1, to=[]), "config: alerts[1]: to must have at least one destination"),
        (wrong(above=1, to=5), "config: alerts[1]: to must be text, not int"),
        (wrong(above=1, to="https://u:hunter2@example.com"), "config: alerts[1]: to is a URL with a user"),
        (wrong(above=1, name=5), "config: alerts[1]: name must be text, not int"),
        (
            wrong(above=1, name="active_sessions above 1 session"),
            "config: alerts[1]: config: alerts[0] has the same name 'active_sessions above 1 session': give one",
        ),
    ],
)
def test_a_wrong_alert_says_where_and_how(config: Mapping[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_alerts(config=config)
    assert says in str(error.value)
    assert "hunter2" not in str(error.value)


# ------------------------------------------------------------------------------------------------------------ commands

CONFIG = """
    [[alerts]]
    name = "slow loads"
    metric = "load_latency.p95"
    above = "200ms"

    [[alerts]]
    metric = "storage_used"
    above = "10GB"
"""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter a working directory whose configuration has two alerts."""
    monkeypatch.chdir(tmp_path)
    Path("turnlog.toml").write_text(CONFIG)


def measures(monkeypatch: pytest.MonkeyPatch, *values: float | None) -> list[Store]:
    """Make the commands measure these latencies in order, then press Ctrl-C; return the stores that they measure."""
    left, stores = list(values), []

    async def measure() -> Mapping[str, object]:
        if not left:
            signal.raise_signal(signal.SIGINT)
        return {"load_latency": {"p95": left.pop(0) if left else None}, "storage_used": 10**9}

    def measure_of(store: Store) -> object:
        stores.append(store)
        return measure

    monkeypatch.setattr("turnlog_alerts.commands._measure_of", measure_of)
    return stores


@pytest.mark.parametrize(
    ("value", "code", "line"),
    [
        (0.2, 0, "slow loads\tok\t0.2\tload_latency.p95 above 0.2"),
        (0.25, 1, "slow loads\tbeyond\t0.25\tload_latency.p95 above 0.2"),
        (None, 0, "slow loads\tunknown\t\tload_latency.p95 above 0.2"),
    ],
)
def test_check_prints_each_alert_and_returns_1_if_one_is_beyond(
    value: float | None, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stores = measures(monkeypatch, value)
    assert main(["alerts", "check", "--store=memory://", "--namespace=shop"]) == code
    second = "storage_used above 10 GB\tok\t1000000000\tstorage_used above 10000000000"
    assert capsys.readouterr() == (f"{line}\n{second}\n", "")
    assert [store.namespace for store in stores] == ["shop"]


@pytest.mark.parametrize("columns", [80, 120])
def test_check_prints_a_table_with_units_on_a_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    measures(monkeypatch, 0.2500001)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["alerts", "check", "--store=memory://"]) == 1
    head, _, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["alert", "state", "value", "condition"]
    assert first.startswith("slow loads  ")
    assert "beyond  250 ms  load_latency.p95 above 200 ms" in first
    assert second.split("  ", 1)[0] == "storage_used above 10 GB"
    assert second.rstrip().endswith("ok        1 GB"), "the name is the condition"
    assert max(map(len, (head, first, second))) <= columns


def test_check_refuses_a_destination_that_is_not_set(capsys: Any) -> None:
    """`turnlog alerts run` refuses it in the same way."""
    Path("turnlog.toml").write_text("[[alerts]]\nmetric = 'active_sessions'\nabove = 0\nto = 'env:NOT_SET'\n")
    assert main(["alerts", "check", "--store=memory://"]) == 2
    assert "the environment variable NOT_SET is not set" in capsys.readouterr().err


def test_check_measures_a_real_store(capsys: Any) -> None:
    """It measures latencies with 100 probe reads."""

    async def filled() -> None:
        async with open_store("sqlite:///chat.db") as store:
            await store.append("alice", [user("hello")])

    asyncio.run(filled())
    Path("turnlog.toml").write_text(
        "[[alerts]]\nmetric = 'active_sessions'\nabove = 0\n[[alerts]]\nmetric = 'load_latency.p50'\nabove = '1m'\n"
    )
    assert main(["alerts", "check", "--store=sqlite:///chat.db"]) == 1
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["active_sessions above 0 sessions", "beyond", "1", "active_sessions above 0"]
    assert rows[1][1] == "ok"
    assert 0 < float(rows[1][2]) < 60


def test_run_reports_each_alert_that_begins_or_ends(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    measures(monkeypatch, 0.1, 0.3, 0.4, None, 0.1, 0.1)
    assert main(["alerts", "run", "--store=memory://", "--every=1ms"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "turnlog: evaluating 2 alerts every 1ms; press Ctrl-C to stop\n"
        "turnlog: alert 'slow loads' is firing: load_latency.p95 is 300 ms, above 200 ms\n"
        "turnlog: alert 'slow loads' is resolved: load_latency.p95 is 100 ms, no longer above 200 ms\n"
    )


@pytest.mark.parametrize(
    ("arguments", "contents", "code", "says"),
    [
        (["check"], "", 2, "no alert is configured: write [[alerts]] tables in turnlog.toml"),
        (["run"], "", 2, "no alert is configured: write [[alerts]] tables in turnlog.toml"),
        (["run", "--every=0"], CONFIG, 2, "--every must be more than 0 seconds: write 30s or 5m"),
        (["run", "--every=often"], CONFIG, 2, '--every: "often" is not a duration; write 90 (seconds)'),
        (["run"], f"{CONFIG}\nto = 'env:NO_SUCH_URL'", 2, "the environment variable NO_SUCH_URL is not set"),
        (["check"], f"{CONFIG}\nfro = '5m'", 2, "turnlog.toml: alerts[1]: 'fro' is not a key of an alert"),
        (["check", "--store=sqlite:///none.db"], CONFIG, 3, "none.db' does not exist"),
        (["chek"], CONFIG, 2, "did you mean 'check'?"),
    ],
)
def test_a_command_that_cannot_run_says_why(
    arguments: list[str],
    contents: str,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    Path("turnlog.toml").write_text(contents)
    measures(monkeypatch)
    store = (
        [] if any("--store" in argument for argument in arguments) or arguments == ["chek"] else ["--store=memory://"]
    )
    assert main(["alerts", *arguments, *store]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_a_store_that_fails_fails_the_check(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    async def measure() -> Mapping[str, object]:
        raise Unavailable("the server is gone")

    monkeypatch.setattr("turnlog_alerts.commands._measure_of", lambda store: measure)
    assert main(["alerts", "check", "--store=memory://"]) == 3
    assert capsys.readouterr() == ("", "turnlog: the server is gone\n")
