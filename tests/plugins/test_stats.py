"""`turnlog stats`, and the endpoint for Prometheus."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from checkout import ROOT
from command_line import Kept, Screen, append, use
from turnlog import InvalidInput, Key, Session, Store, Totals, Unavailable, open_store, user
from turnlog.metrics import HistorySize, LoadLatency, Measurement, StateMetrics
from turnlog.testing import Clock
from turnlog_cli import main
from turnlog_memory import MemoryBackend
from turnlog_metrics._screen import as_screen
from turnlog_metrics.prometheus import StateCollector, serving

KEYS = ["active_sessions", "avg_history_size", "load_latency", "storage_used"]
NOTE = "turnlog: load_latency was measured with 100 probe reads of the last 20 messages\n"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return the store that every command opens."""
    store = Kept(ttl=80, clock=Clock())
    use(monkeypatch, store)
    return store


# -------------------------------------------------------------------------------------------------------- turnlog stats


def test_one_object_with_four_keys(store: Kept, capsys: Any) -> None:
    append(store, "a", user("one"), user("two"))
    append(store, "b", user("three"))
    assert main(["stats", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert list(found) == KEYS
    assert (found["active_sessions"], found["avg_history_size"]["messages"]) == (2, 1.5)
    assert found["load_latency"]["loads"] == 100
    assert 0 < found["load_latency"]["p50"] <= found["load_latency"]["p95"] <= found["load_latency"]["p99"]
    assert found["storage_used"] > 0
    assert err == NOTE


def test_a_line_for_each_number_in_a_pipe(store: Kept, capsys: Any) -> None:
    append(store, "a", user("one"))
    assert main(["stats"]) == 0
    out, err = capsys.readouterr()
    lines = dict(line.split("\t") for line in out.splitlines())
    assert lines["active_sessions"] == "1"
    assert {name.partition(".")[0] for name in lines} == set(KEYS)
    assert err == NOTE


def test_an_empty_store_says_so(store: Kept, capsys: Any) -> None:
    assert main(["stats"]) == 0
    out, err = capsys.readouterr()
    assert "load_latency.p50\tunknown\n" in out
    assert err == "turnlog: there are no sessions in namespace 'default'\n"


def test_expired_sessions_are_not_counted_and_probes_extend_no_life(store: Kept, capsys: Any) -> None:
    append(store, "a", user("one"))
    clock: Any = store.backend.clock
    for seconds, sessions in ((75, 1), (6, 0)):
        clock.advance(seconds)
        assert main(["stats", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["active_sessions"] == sessions


def test_watch_measures_again_until_it_is_interrupted(store: Kept, capsys: Any, monkeypatch: Any) -> None:
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise KeyboardInterrupt
        await store.append(f"s{len(waited)}", [user("x")])

    monkeypatch.setattr("turnlog_metrics.commands._sleep", sleep)
    assert main(["stats", "--watch", "--json"]) == 130
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["active_sessions"] for one in found] == [0, 1, 2]
    assert [one["time"] for one in found] == [store.backend.clock()] * 3
    assert err == f"turnlog: there are no sessions in namespace 'default'\n{NOTE}"
    assert waited == [2.0] * 3


def test_watch_goes_on_after_a_measurement_that_fails(store: Kept, capsys: Any, monkeypatch: Any) -> None:
    waited: list[float] = []
    measure = StateMetrics.measure

    async def fails_once(self: StateMetrics) -> Measurement:
        if not waited:
            raise Unavailable("the server is gone")
        return await measure(self)

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(StateMetrics, "measure", fails_once)
    monkeypatch.setattr("turnlog_metrics.commands._sleep", sleep)
    assert main(["stats", "--watch", "--json"]) == 130
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert re.match(r"turnlog: \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ: the server is gone\n", err)


def on_screen(monkeypatch: Any, capsys: Any, *arguments: str) -> str:
    """Return the output of a command on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main(list(arguments))
    out: str = capsys.readouterr().out
    return out


def test_an_empty_namespace_has_no_sessions_on_a_terminal(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    out = on_screen(monkeypatch, capsys, "stats")
    assert re.search("avg_history_size +no sessions *\n", out)
    assert re.search("load_latency +no sessions *\n", out)
    assert "0.0" not in out


def test_the_title_is_the_url_without_its_password(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    out = on_screen(monkeypatch, capsys, "stats", "--store=redis://:hunter2@localhost:6379/0?ttl=1h")
    assert out.splitlines()[0] == "namespace 'default' of redis://:***@localhost:6379/0"


def test_watch_shows_the_time_or_the_reason_on_a_terminal(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    errors = [None, Unavailable("the server is gone")]

    async def sleep(_: float) -> None:
        if not errors:
            raise KeyboardInterrupt

    measure = StateMetrics.measure

    async def fails_at_last(self: StateMetrics) -> Measurement:
        error = errors.pop(0)
        if error is not None:
            raise error
        return await measure(self)

    monkeypatch.setattr(StateMetrics, "measure", fails_at_last)
    monkeypatch.setattr("turnlog_metrics.commands._sleep", sleep)
    monkeypatch.setattr("turnlog_metrics._screen.time_of", lambda seconds: f"time {seconds}")
    out = on_screen(monkeypatch, capsys, "stats", "--watch")
    assert f"The measurement at time {store.backend.clock()} failed: the server is gone" in out


async def _fill(url: str) -> None:
    async with open_store(url) as store:
        await store.append("a", [user("x")])


def test_watch_on_a_terminal(tmp_path: Path) -> None:
    asyncio.run(_fill(f"sqlite:///{tmp_path}/chat.db"))
    with Screen("stats", "--watch", "--store", "sqlite:///chat.db", cwd=tmp_path) as screen:
        assert re.search(r"time\W.*\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", screen.wait_for("100 probe reads"))
        assert re.search(r"active_sessions\W.*\b1\b", screen.seen)
        assert "namespace 'default' of sqlite:///chat.db" in screen.seen
        assert screen.end("\x03") == 130


@pytest.mark.parametrize("width", [80, 120])
def test_a_screen_of_six_lines(width: int) -> None:
    """Nothing is cut or wrapped, even with large numbers."""
    measured = Measurement(
        active_sessions=1_000_000_000,
        avg_history_size=HistorySize(messages=123_456.7, bytes=987_654_321.0),
        load_latency=LoadLatency(loads=100, seconds=9.0, p50=1.23456, p95=22.5, p99=30.0),
        storage_used=987_654_321_000,
    )
    console = Console(width=width, file=io.StringIO(), markup=False)
    console.print(as_screen(measured, "namespace 'default' of postgresql://localhost:5432/chat", "note"))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 6
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(name in text for name in ("1,000,000,000", "123,456.7 messages", "p99 30000.00 ms", "987.7 GB"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--serve", "localhost"], "--serve must be HOST:PORT, such as 127.0.0.1:9464, not 'localhost'"),
        (["--serve", ":9464"], "must be HOST:PORT"),
        (["--serve", "127.0.0.1:65536"], "must be HOST:PORT"),
        (["--serve", "127.0.0.1:x"], "must be HOST:PORT"),
        (["--serve", "127.0.0.1:0", "--json"], "--serve cannot be combined with --watch or --json"),
        (["--serve", "127.0.0.1:0", "--watch"], "cannot be combined with --watch"),
        (["--namespace", ""], "namespace"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], says: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["stats", "--store", "memory://", *arguments]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert (out, err.count("\n")) == ("", 1)


def test_a_missing_store(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["stats", "--store", "sqlite:///none.db"]) == 3
    assert "none.db" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


def test_without_the_extra(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.delitem(sys.modules, "turnlog_metrics.prometheus")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["stats", "--serve", "127.0.0.1:0"]) == 2
    assert capsys.readouterr().err == (
        "turnlog: --serve needs prometheus_client, which is not installed: pip install 'turnlog[prometheus]'\n"
    )


# ----------------------------------------------------------------------------------------------------------- Prometheus

Sample = tuple[str, tuple[tuple[str, str], ...]]


def scraped(url: str) -> dict[Sample, float]:
    """Return every sample of a real scrape."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - a server of this test
        assert answer.status == 200
        families = [*text_string_to_metric_families(answer.read().decode())]
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def sample(found: Mapping[Sample, float], name: str, **labels: str) -> float:
    return found[f"turnlog_{name}", tuple(sorted(labels.items()))]


async def test_a_scrape_has_the_figures_of_the_store() -> None:
    store = Store(MemoryBackend(), namespace='a "quoted"\\name')
    metrics = StateMetrics(store)
    async with serving(metrics, "127.0.0.1", 0) as url:
        here = {"namespace": store.namespace}
        found = await asyncio.to_thread(scraped, url)
        assert sample(found, "active_sessions", **here) == 0
        assert ("turnlog_load_latency_seconds", (("quantile", "0.5"),)) not in found
        for name in ("a", "b"):
            await store.append(name, [user("one"), user("two"), user("three")])
        await store.load("a")
        found, measured = await asyncio.to_thread(scraped, url), await metrics.measure()
    latency = measured.load_latency
    assert {name: value for name, value in found.items() if name[0] != "turnlog_errors_total"} == {
        (f"turnlog_{name}", tuple(labels.items())): value
        for name, labels, value in (
            ("up", here, 1),
            ("active_sessions", here, 2),
            ("avg_history_messages", here, 3),
            ("avg_history_bytes", here, measured.avg_history_size.bytes),
            ("storage_used_bytes", here, measured.storage_used),
            ("load_latency_seconds", {"quantile": "0.5"}, latency.p50),
            ("load_latency_seconds", {"quantile": "0.95"}, latency.p95),
            ("load_latency_seconds", {"quantile": "0.99"}, latency.p99),
            ("load_latency_seconds_count", {}, 1),
            ("load_latency_seconds_sum", {}, latency.seconds),
        )
    }


async def test_nobody_listens_after_the_block() -> None:
    async with serving(StateMetrics(Store(MemoryBackend())), "127.0.0.1", 0) as url:
        pass
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(scraped, url)


class Failing(MemoryBackend):
    """A backend that fails on demand."""

    error: Exception | None = None

    async def read(self, key: Key, **how: Any) -> Session:
        if self.error:
            raise self.error
        return await super().read(key, **how)

    async def totals(self, namespace: str) -> Totals:
        if self.error:
            raise self.error
        return await super().totals(namespace)


async def test_a_store_that_fails_is_down_and_its_errors_are_counted() -> None:
    backend = Failing()
    store = Store(backend)
    async with serving(StateMetrics(store), "127.0.0.1", 0) as url:
        backend.error = Unavailable("gone")
        for _ in range(2):
            with pytest.raises(Unavailable):
                await store.load("a")
        found = await asyncio.to_thread(scraped, url)
        assert sample(found, "up", namespace="default") == 0
        assert sample(found, "failure", namespace="default", error="Unavailable") == 1
        assert not any("gone" in str(one) for one in found)
        assert sample(found, "errors_total", error="Unavailable") >= 2
        assert sample(found, "errors_total", error="CorruptRecord") == 0
        assert ("turnlog_active_sessions", (("namespace", "default"),)) not in found
        backend.error = None
        found = await asyncio.to_thread(scraped, url)
        assert sample(found, "up", namespace="default") == 1
        assert not any(name == "turnlog_failure" for name, _ in found)


async def test_a_store_that_does_not_answer_is_down() -> None:
    class Silent(MemoryBackend):
        async def totals(self, namespace: str) -> Totals:
            await asyncio.Event().wait()
            raise AssertionError

    collector = StateCollector(StateMetrics(Store(Silent())), timeout=0.01)
    up, failure, *_ = await asyncio.to_thread(lambda: [*collector.collect()])
    assert up.samples[0].value == 0
    assert "'turnlog stats'" in up.documentation
    assert failure.samples[0].labels == {"namespace": "default", "error": "TimeoutError"}


def test_a_store_whose_event_loop_has_ended_is_down() -> None:
    async def made() -> StateCollector:
        return StateCollector(StateMetrics(Store(MemoryBackend())))

    up, failure, *_ = asyncio.run(made()).collect()
    assert up.samples[0].value == 0
    assert failure.samples[0].labels["error"] == "Closed"


async def test_a_collector_does_not_wait_for_its_own_event_loop() -> None:
    collector = StateCollector(StateMetrics(Store(MemoryBackend())))
    CollectorRegistry(auto_describe=True).register(collector)  # as the library's own, which asks for a description
    with pytest.raises(RuntimeError, match="outside the thread of its event loop"):
        next(collector.collect())


async def test_an_address_that_cannot_be_listened_on() -> None:
    metrics = StateMetrics(Store(MemoryBackend()))
    async with serving(metrics, "127.0.0.1", 0) as url:
        taken = int(url.rpartition(":")[2].partition("/")[0])
        for port in (taken, 65_536):
            with pytest.raises(InvalidInput, match=rf"cannot listen on 127\.0\.0\.1:{port}: "):
                async with serving(metrics, "127.0.0.1", port):
                    pass


def test_serve_measures_at_each_scrape(store: Kept, capsys: Any, monkeypatch: Any) -> None:
    found: list[dict[Sample, float]] = []

    async def scrape() -> None:
        url = re.findall(r"http://\S+/metrics", capsys.readouterr().err)[0]
        for name in ("a", "b"):
            await store.append(name, [user("x")])
            found.append(await asyncio.to_thread(scraped, url))

    monkeypatch.setattr("turnlog_metrics.commands._for_ever", scrape)
    assert main(["stats", "--serve", "127.0.0.1:0"]) == 0
    assert [sample(one, "active_sessions", namespace="default") for one in found] == [1, 2]
    assert [sample(one, "load_latency_seconds_count") for one in found] == [100, 200]


# ----------------------------------------------------------------------------------------------------------------- docs


def exported() -> set[str]:
    """Return the names of all samples of a store that was used."""

    async def collected() -> set[str]:
        store = Store(MemoryBackend())
        metrics = StateMetrics(store)
        await store.append("a", [user("x")])
        await store.load("a")
        collector = StateCollector(metrics)
        families = await asyncio.to_thread(lambda: [*collector.collect()])
        assert not families[1].samples  # no failure is reported while the store can be measured
        return {families[1].name} | {one.name for family in families for one in family.samples}

    return asyncio.run(collected())


@pytest.mark.parametrize("name", ["operations/prometheus-rules.yml", "operations/grafana-dashboard.json"])
def test_rules_and_dashboard_use_exported_metrics(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    expressions = re.findall(r'"?expr"?: (.*)', text) + re.findall(r"label_values\(.*?\)", text)
    used = {one for expression in expressions for one in re.findall(r"\bturnlog_\w+", expression)}
    assert used - exported() == set()
    four = {"active_sessions", "avg_history_bytes", "load_latency_seconds", "storage_used_bytes", "errors_total", "up"}
    assert {f"turnlog_{one}" for one in four} <= used


def test_the_dashboard_is_json_with_an_expression_in_each_panel() -> None:
    board = json.loads((ROOT / "docs" / "operations" / "grafana-dashboard.json").read_text(encoding="utf-8"))
    assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_page_names_every_metric() -> None:
    page = (ROOT / "docs" / "how-to" / "metrics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(turnlog_\w+)", page))
    assert {name for name in exported() if not name.endswith(("_count", "_sum"))} <= named <= exported()
