"""Spans and metrics of scripted loads, as the SDK of OpenTelemetry receives them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncmy.errors
import asyncpg.exceptions
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

import servers
from telemetry import SDK, TICK
from turnlog import (
    Backend,
    Change,
    ConfigError,
    Conflict,
    InvalidInput,
    Key,
    Layer,
    OutcomeUnknown,
    Query,
    Record,
    Session,
    SessionNotFound,
    Store,
    Unavailable,
    assistant,
    open_store,
    user,
)
from turnlog_cache import CacheLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_redis import RedisBackend
from turnlog_sql.sqlite import SQLiteBackend
from turnlog_telemetry import TelemetryLayer, _conventions, _instruments
from turnlog_telemetry._figures import status_code_of
from turnlog_telemetry._instruments import MAX_NAMESPACES, Series
from watched import KEY, Watched

SAID = [user("Where is my order? " * 400), assistant("It is on its way and arrives on Thursday. " * 400)]
DURATION = "db.client.operation.duration"


@asynccontextmanager
async def backend_of(name: str) -> AsyncIterator[Backend]:
    """Yield an empty backend of one kind."""
    if name == "redis":
        servers.ask_redis(servers.redis(), "FLUSHDB")
    async with RedisBackend(servers.redis()) if name == "redis" else MemoryBackend() as backend:
        yield backend


# ------------------------------------------------------------------------------------------------------ a whole stack


@pytest.mark.parametrize("name", ["memory", "redis"])
async def test_the_figures_of_a_scripted_load_through_a_cache_and_compression(name: str) -> None:
    sdk = SDK()
    async with backend_of(name) as backend:
        zstd = ZstdLayer(backend)
        store = Store(sdk.over(CacheLayer(zstd)))
        with pytest.raises(SessionNotFound):
            await store.load("alice")
        first = await store.append("alice", SAID)
        await store.append("alice", SAID, turn_id="second")
        await store.append("alice", SAID, turn_id="second")  # sent again
        with pytest.raises(Conflict):
            await store.append("alice", SAID, expect=first.version)
        assert len(await store.load("alice")) == 4
        assert len(await store.load("alice")) == 4
        assert len(await store.load("alice", last=2)) == 2
        await store.merge_metadata("alice", {"title": "T"})
        await store.fork("alice", "copy")
        assert len([info async for info in store.sessions()]) == 2
        assert await store.erase("copy")
        stored = (await backend.read(Key("default", "alice"))).records

    assert sdk.values(DURATION, "db.operation.name", "error.type") == {
        ("read", "SessionNotFound"): 1,
        ("commit", None): 4,
        ("commit", "Conflict"): 1,
        ("read", None): 3,
        ("copy", None): 1,
        ("page", None): 1,
        ("delete", None): 1,
    }
    for point in sdk.points(DURATION):
        assert isinstance(point, HistogramDataPoint)
        assert point.sum == TICK * point.count
        assert tuple(point.explicit_bounds) == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
        assert point.attributes is not None
        assert (point.attributes["db.system.name"], point.attributes["db.namespace"]) == (name, "default")
    assert sdk.values("turnlog.messages", "db.operation.name") == {"commit": 4, "read": 10, "copy": 4}
    size = sum(record.size for record in stored)
    assert sdk.values("turnlog.bytes", "db.operation.name") == {
        "commit": size,
        "read": size * 2.5,
    }
    assert sdk.values("turnlog.repeats", "db.operation.name") == {"commit": 1}

    for stat, value in {"hits": 2, "misses": 2, "conflicts": 1, "sessions": 1}.items():
        assert sdk.values(f"turnlog.cache.{stat}", "db.system.name") == {name: value}
    before = sdk.values("turnlog.zstd.bytes_before", "db.system.name")[name]
    after = sdk.values("turnlog.zstd.bytes_after", "db.system.name")[name]
    assert (before, after) == (zstd.stats()["bytes_before"], zstd.stats()["bytes_after"])
    assert before / after > 5


async def test_the_layer_is_one_word_of_a_url() -> None:
    async with open_store("memory://?layers=telemetry,cache,zstd") as store:
        await store.append("alice", SAID)
        assert await store.load("alice") == SAID
        assert store.find(TelemetryLayer).inner is store.find(CacheLayer)


@pytest.mark.parametrize("ids", ["yes", 1, None])
def test_ids_is_true_or_false(ids: Any) -> None:
    with pytest.raises(InvalidInput, match="ids must be True or False"):
        TelemetryLayer(MemoryBackend(), ids=ids)
    with pytest.raises(ConfigError, match="ids"):
        open_store("memory://", layers=[{"name": "telemetry", "ids": "of course"}])
    layered = open_store("memory://", layers=[{"name": "telemetry", "ids": True}])
    assert layered.find(TelemetryLayer)._tools.ids


# -------------------------------------------------------------------------------------------------------------- spans

BASE = {
    "db.system.name": "memory",
    "db.namespace": "default",
    "gen_ai.memory.store.id": "default",
}


async def test_each_operation_has_a_span_with_its_attributes() -> None:
    sdk = SDK()
    layer = sdk.over(MemoryBackend())
    records = tuple(Record.of((user("hello"), assistant("hi")), id=f"t{number}", time=0.0) for number in range(3))

    async def attributes(call: Any, name: str, memory: str) -> dict[str, Any]:
        await call
        (span,) = sdk.spans()
        assert span.name == f"{name} default"
        assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.name == "turnlog_telemetry"
        found = dict(span.attributes or {})
        common = {**BASE, "db.operation.name": name, "gen_ai.operation.name": memory}
        assert found.items() >= common.items()
        return {name: value for name, value in found.items() if name not in common}

    one, two = Change(id="c1", append=records[:1]), Change(id="c2", append=records[1:])
    size = records[0].size
    assert await attributes(layer.commit(KEY, one), "commit", "upsert_memory") == {
        "gen_ai.memory.record.count": 2,
        "turnlog.bytes": size,
    }
    assert await attributes(layer.commit(KEY, two), "commit", "upsert_memory") == {
        "db.operation.batch.size": 2,
        "gen_ai.memory.record.count": 4,
        "turnlog.bytes": 2 * size,
    }
    assert await attributes(layer.commit(KEY, two), "commit", "upsert_memory") == {
        "db.operation.batch.size": 2,
        "gen_ai.memory.record.count": 0,
        "turnlog.bytes": 0,
        "turnlog.repeat": True,
    }
    assert await attributes(layer.commit(KEY, Change(metadata={"a": 1})), "commit", "upsert_memory") == {
        "gen_ai.memory.record.count": 0,
        "turnlog.bytes": 0,
    }
    for last, messages in ((None, 6), (3, 4), (0, 0)):
        assert await attributes(layer.read(KEY, last=last), "read", "search_memory") == {
            "gen_ai.memory.record.count": messages,
            "turnlog.bytes": size * messages // 2,
        }
    target = Key("default", "copy")
    assert await attributes(layer.copy(KEY, target, at=None, change_id="f"), "copy", "create_memory") == {
        "gen_ai.memory.record.count": 6
    }
    assert await attributes(layer.copy(KEY, target, at=None, change_id="f"), "copy", "create_memory") == {
        "gen_ai.memory.record.count": 0,
        "turnlog.repeat": True,
    }
    await layer.inner.commit(Key("default", "another"), two)
    sealed = Record.seal((await layer.inner.read(KEY)).records)
    assert await attributes(layer.seal(KEY, sealed), "seal", "update_memory") == {
        "gen_ai.memory.record.count": 6,
        "turnlog.bytes": sealed.size,
    }
    assert await attributes(layer.seal(Key("default", "another"), sealed), "seal", "update_memory") == {
        "gen_ai.memory.record.count": 0,
        "turnlog.bytes": 0,
    }
    assert await attributes(layer.page(Query(namespace="default")), "page", "search_memory") == {
        "db.response.returned_rows": 3
    }
    assert await attributes(layer.delete(KEY), "delete", "delete_memory") == {}

    await layer.totals("default")
    (span,) = sdk.spans()
    assert span.name == "totals default"
    assert dict(span.attributes or {}) == {**BASE, "db.operation.name": "totals"}
    assert await layer.namespaces() == ["default"]
    assert sdk.attributes() == {
        "db.system.name": "memory",
        "db.operation.name": "namespaces",
        "db.response.returned_rows": 1,
    }
    wrong: Any
    for wrong in ("", []):
        with pytest.raises(InvalidInput):
            await layer.totals(wrong)
        assert sdk.attributes()["error.type"] == "InvalidInput"
    found = sdk.values(DURATION, "db.operation.name", "error.type")
    assert (found["totals", None], found["namespaces", None]) == (1, 1)

    await layer.open()
    (span,) = sdk.spans()
    assert (span.name, dict(span.attributes or {})) == (
        "open",
        {"db.system.name": "memory", "db.operation.name": "open"},
    )


class Nested(Layer):
    """Creates a span in each read, like a driver with its own instrumentation.

    Args:
        inner: The backend below.
        sdk: The SDK that receives the spans.
    """

    def __init__(self, inner: Backend, sdk: SDK) -> None:
        super().__init__(inner)
        self.tracer = sdk.tracers.get_tracer("driver")

    async def read(self, key: Key, **options: Any) -> Session:
        await asyncio.sleep(0)  # another task runs here
        with self.tracer.start_as_current_span(f"GET {key.session}"):
            await asyncio.sleep(0)
            return await self.inner.read(key, **options)


async def test_the_span_is_current_in_the_driver_and_only_there() -> None:
    sdk = SDK()
    backend = MemoryBackend()
    store, application = Store(sdk.over(Nested(backend, sdk), ids=True)), sdk.tracers.get_tracer("application")
    names = [f"s{number}" for number in range(5)]
    for name in names:
        await Store(backend).append(name, [user("hello")])
    with application.start_as_current_span("request") as request:
        await asyncio.gather(*(store.load(name) for name in names))
        with pytest.raises(SessionNotFound):
            await store.load("none")
        assert trace.get_current_span() is request
    spans = {span.context.span_id: span for span in sdk.spans() if span.context is not None}
    driver = [span for span in spans.values() if span.name.startswith("GET")]
    assert len(driver) == 6
    for span in driver:
        assert span.parent is not None
        around = spans[span.parent.span_id]
        assert (around.attributes or {})["gen_ai.conversation.id"] == span.name.removeprefix("GET ")
        assert around.parent is not None
        assert spans[around.parent.span_id].name == "request"


async def test_a_span_that_is_sampled_out_has_no_children() -> None:
    sdk = SDK(ALWAYS_OFF)
    seen = []

    class Seen(Layer):
        async def read(self, key: Key, **options: Any) -> Session:
            seen.append(trace.get_current_span().get_span_context())
            return await self.inner.read(key, **options)

    store = Store(sdk.over(Seen(MemoryBackend())))
    await store.append("s", SAID)
    await store.load("s")
    assert (seen[0].is_valid, seen[0].trace_flags.sampled) == (True, False), "a driver would begin a trace of its own"
    assert sdk.spans() == ()
    assert sdk.values("turnlog.messages", "db.operation.name") == {"commit": 2, "read": 2}


async def test_without_an_sdk_nothing_is_made_current() -> None:
    before = trace.get_current_span()

    class Seen(Layer):
        async def read(self, key: Key, **options: Any) -> Session:
            assert trace.get_current_span() is before
            return await self.inner.read(key, **options)

    store = Store(TelemetryLayer(Seen(MemoryBackend())))
    await store.append("s", SAID)
    assert await store.load("s") == SAID


# ----------------------------------------------------------------------------------------------------------------- ids

SESSION = "the-secret-session"
OWNER = "the-owner"


async def everything(store: Store) -> None:
    """Call each operation, successfully and with an error, on a session and an owner that telemetry must not show."""
    await store.append(SESSION, SAID, owner=OWNER)
    view = store.for_owner(OWNER)
    seen = (await view.session(SESSION)).version
    await view.append(SESSION, SAID)
    await view.fork(SESSION, f"{SESSION} copy")
    assert [info async for info in view.sessions()]
    for call in (
        store.append(SESSION, SAID, expect=seen),
        store.append(SESSION, SAID, owner="somebody"),
        store.fork(f"{SESSION} none", "x"),
        store.erase(SESSION, expect=seen),
        store.load(f"{SESSION} none"),
        store.backend.commit(
            Key("default", SESSION), Change(id="x", append=(Record.of((user("y"),), id="z", time=0),), max_bytes=1)
        ),
    ):
        with pytest.raises((Conflict, SessionNotFound, InvalidInput)):
            await call
    await view.erase(SESSION)


async def test_no_id_is_in_spans_and_metrics_unless_ids_are_on() -> None:
    sdk = SDK()
    await everything(Store(sdk.over(MemoryBackend())))
    shown = "".join(span.to_json() for span in sdk.spans())
    assert "Conflict" in shown
    assert SESSION not in shown
    assert OWNER not in shown


async def test_with_ids_spans_show_the_session_and_the_owner_and_metrics_do_not() -> None:
    sdk = SDK()
    await everything(Store(sdk.over(MemoryBackend(), ids=True)))
    spans = sdk.spans()
    for name in ("read", "commit", "copy", "delete"):
        shown = [span for span in spans if span.name == f"{name} default"]
        ids = {str((span.attributes or {})["gen_ai.conversation.id"]) for span in shown}
        assert all("db.operation.batch.size" not in (span.attributes or {}) for span in shown)
        assert ids <= {SESSION, f"{SESSION} copy", f"{SESSION} none", "x"}
        assert OWNER in [(span.attributes or {}).get("enduser.id") for span in shown]
    (page,) = [span.attributes for span in spans if span.name == "page default"]
    assert page is not None
    assert page["enduser.id"] == OWNER
    data = sdk.reader.get_metrics_data()
    assert data is not None
    assert SESSION not in data.to_json()
    assert OWNER not in data.to_json()


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Conflict(f"{SESSION} is elsewhere"), StatusCode.UNSET),
        (SessionNotFound(f"there is no {SESSION}"), StatusCode.UNSET),
        (Unavailable(f"password {SESSION}"), StatusCode.ERROR),
        (OutcomeUnknown(f"of {SESSION}"), StatusCode.ERROR),
        (ZeroDivisionError(SESSION), StatusCode.ERROR),
    ],
)
async def test_an_error_passes_and_its_class_alone_is_recorded(error: Exception, status: StatusCode) -> None:
    sdk = SDK()
    watched = Watched(MemoryBackend())
    watched.fail("commit", error)
    store = Store(sdk.over(watched, ids=True))
    with pytest.raises(type(error)) as caught:
        await store.append("s", SAID)
    assert caught.value is error
    assert error.__context__ is None
    (span,) = sdk.spans()
    assert (span.attributes or {})["error.type"] == type(error).__name__
    assert (span.status.status_code, span.status.description, span.events) == (status, None, ())
    assert SESSION not in span.to_json()
    assert sdk.values(DURATION, "error.type") == {type(error).__name__: 1}
    assert sdk.total("turnlog.messages") == 0


async def test_a_lost_answer_and_the_repeat_that_follows_are_counted() -> None:
    sdk = SDK()
    watched = Watched(MemoryBackend())
    watched.fail("commit", OutcomeUnknown("the answer was lost"), applied=True)
    store = Store(sdk.over(watched))
    with pytest.raises(OutcomeUnknown):
        await store.append("s", SAID, turn_id="t")
    await store.append("s", SAID, turn_id="t")
    await store.append("s", SAID, turn_id="t", expect=None)
    assert sdk.values(DURATION, "error.type") == {"OutcomeUnknown": 1, None: 2}
    assert sdk.total("turnlog.repeats") == 2
    assert sdk.total("turnlog.messages") == 0, "a turn whose answer was lost was not acknowledged"


async def test_a_cancelled_operation_ends_as_cancelled_and_is_measured() -> None:
    sdk = SDK()
    watched = Watched(MemoryBackend())
    hold = watched.hold("commit")
    store = Store(sdk.over(watched))
    task = asyncio.create_task(store.append("s", SAID))
    await hold.sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (span,) = sdk.spans()
    assert (span.attributes or {})["error.type"] == "CancelledError"
    assert sdk.values(DURATION, "error.type") == {"CancelledError": 1}


def caused(by: BaseException) -> Unavailable:
    """Return an error of turnlog with a cause."""
    error = Unavailable("it is busy")
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (caused(asyncpg.exceptions.LockNotAvailableError("x")), "55P03"),
        (caused(asyncmy.errors.OperationalError(1205, "Lock wait timeout exceeded")), "1205"),
        (caused(caused(asyncpg.exceptions.LockNotAvailableError("x"))), "55P03"),
        (caused(ConnectionRefusedError(111, "Connection refused")), None),
        (Unavailable("it is busy"), None),
    ],
)
def test_the_code_of_the_database_is_that_of_its_driver(error: Exception, code: str | None) -> None:
    assert status_code_of(error) == code


async def test_the_code_of_a_locked_sqlite_file(tmp_path: Path) -> None:
    sdk = SDK()
    path = tmp_path / "chat.db"
    async with Store(sdk.over(SQLiteBackend(f"sqlite:///{path}", timeout=0.01))) as store:
        await store.append("s", SAID)
        sdk.exporter.clear()
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            await store.append("s", SAID)
        other.close()
    (span,) = sdk.spans()
    assert (span.attributes or {})["db.response.status_code"] == "SQLITE_BUSY"
    assert sdk.values(DURATION, "db.operation.name", "db.response.status_code", "db.system.name") == {
        ("open", None, "sqlite"): 1,
        ("commit", None, "sqlite"): 1,
        ("commit", "SQLITE_BUSY", "sqlite"): 1,
    }


# ---------------------------------------------------------------------------------------------- telemetry that fails


class Broken(SimpleSpanProcessor):
    """Raises when a span starts or when it ends.

    Args:
        when: `on_start` or `on_end`.
    """

    def __init__(self, when: str) -> None:
        super().__init__(InMemorySpanExporter())
        self.when = when

    def on_start(self, *_: object, **__: object) -> None:
        if self.when == "on_start":
            raise RuntimeError(SESSION)

    def on_end(self, span: ReadableSpan) -> None:
        if self.when == "on_end":
            raise RuntimeError(SESSION)


@pytest.mark.parametrize("when", ["on_start", "on_end"])
async def test_an_error_of_telemetry_is_logged_once_and_not_raised(when: str, caplog: pytest.LogCaptureFixture) -> None:
    sdk = SDK()
    sdk.tracers.add_span_processor(Broken(when))
    store = Store(sdk.over(MemoryBackend()))
    before = trace.get_current_span()
    with caplog.at_level(logging.WARNING):
        await store.append("s", SAID)
        assert await store.load("s") == SAID
        with pytest.raises(SessionNotFound):
            await store.load("none")
    assert trace.get_current_span() is before
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry failed with RuntimeError; the store works without it"
    ]
    assert sdk.values(DURATION, "db.operation.name", "error.type") == {
        ("commit", None): 1,
        ("read", None): 1,
        ("read", "SessionNotFound"): 1,
    }


class Wrong(Layer):
    """A layer whose figures cannot be reported."""

    def stats(self) -> dict[str, float]:
        raise RuntimeError


async def test_a_layer_whose_figures_cannot_be_read_is_left_out() -> None:
    sdk = SDK()
    store = Store(sdk.over(Wrong(CacheLayer(MemoryBackend()))))
    await store.append("s", SAID)
    await store.load("s")
    assert sdk.total("turnlog.cache.hits") == 1


async def test_a_key_of_another_type_is_refused_by_the_backend_and_measured() -> None:
    sdk = SDK()
    layer: Any = sdk.over(MemoryBackend())
    with pytest.raises(InvalidInput, match="key must be a Key"):
        await layer.read("s")
    assert sdk.attributes() == {
        "db.system.name": "memory",
        "db.operation.name": "read",
        "gen_ai.operation.name": "search_memory",
        "error.type": "InvalidInput",
    }


# ------------------------------------------------------------------------------------------------------------- metrics


async def test_namespaces_beyond_the_limit_share_their_figures() -> None:
    sdk = SDK()
    store = Store(sdk.over(MemoryBackend()))
    for number in range(MAX_NAMESPACES + 3):
        await store.within(f"n{number}").append("s", [user("hello")])
    values = sdk.values("turnlog.messages", "db.namespace")
    assert values.pop(None) == 3
    assert values == {f"n{number}": 1 for number in range(MAX_NAMESPACES)}
    assert len(store.find(TelemetryLayer)._operations) == MAX_NAMESPACES
    last = sdk.spans()[-1]
    assert (last.name, (last.attributes or {})["db.namespace"]) == ("commit", f"n{MAX_NAMESPACES + 2}")


async def test_the_figures_of_several_stores_are_added_up_and_outlive_them() -> None:
    sdk = SDK()
    for _ in range(3):
        store = Store(sdk.over(CacheLayer(MemoryBackend())))
        await store.append("s", [user("hello")])
        await store.load("s")
        del store
    other = Store(sdk.over(CacheLayer(MemoryBackend())))
    assert sdk.values("turnlog.messages", "db.operation.name") == {"commit": 3, "read": 3}
    assert sdk.total("turnlog.cache.hits") == 0, "the caches are gone"
    await other.append("s", [user("hello")])
    await other.load("s")
    assert sdk.total("turnlog.cache.hits") == 1
    assert sdk.values(DURATION, "db.operation.name") == {"commit": 4, "read": 4}


class Interrupting(int):
    """A number of messages. While it is added, another thread adds one."""

    def __radd__(self, other: int) -> int:
        thread = threading.Thread(target=self.series.add, args=(1, 0), kwargs={"repeat": False})
        thread.start()
        thread.join(0.01)
        self.threads.append(thread)
        return other + int(self)

    series: Series
    threads: list[threading.Thread]


def test_event_loops_of_several_threads_count_right() -> None:
    series, number = Series({}), Interrupting(1)
    number.series, number.threads = series, []
    series.add(number, 0, repeat=False)
    for thread in number.threads:
        thread.join()
    assert series.messages == 2


@pytest.mark.only_where(hasattr(os, "fork"), "forks", "this system cannot fork")
def test_a_forked_child_counts_even_if_a_thread_of_its_parent_held_the_lock() -> None:
    with _instruments._lock:
        pid = os.fork()
        if not pid:
            code = 1
            signal.alarm(5)
            try:
                Series({}).add(1, 1, repeat=False)
                code = 0
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


LATER = """
import asyncio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from turnlog import Store, user
from turnlog_cache import CacheLayer
from turnlog_memory import MemoryBackend
from turnlog_telemetry import TelemetryLayer

async def main():
    early = Store(TelemetryLayer(CacheLayer(MemoryBackend())))
    exporter, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([reader]))
    late = Store(TelemetryLayer(CacheLayer(MemoryBackend())))
    given = Store(TelemetryLayer(CacheLayer(MemoryBackend()), meter_provider=metrics.get_meter_provider()))
    for store in (early, late, given):
        await store.append("s", [user("hello")])
        await store.load("s")
    print(len(exporter.get_finished_spans()))
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    for metric in sorted(scope.metrics, key=lambda metric: metric.name):
        if metric.name in ("turnlog.messages", "turnlog.cache.hits"):
            print(metric.name, [point.value for point in metric.data.data_points])

asyncio.run(main())
"""


def test_the_global_providers_may_be_set_after_a_store_is_made(tmp_path: Path) -> None:
    """All stores then report through the same instruments, and each of them once."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LATER], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        ["6", "turnlog.cache.hits [3]", "turnlog.messages [3, 3]"],
    )


# --------------------------------------------------------------------------------------------------------- conventions


@pytest.mark.parametrize(
    "name",
    [
        "DB_SYSTEM_NAME",
        "DB_NAMESPACE",
        "DB_OPERATION_NAME",
        "DB_OPERATION_BATCH_SIZE",
        "DB_RESPONSE_STATUS_CODE",
        "ERROR_TYPE",
        "DB_CLIENT_OPERATION_DURATION",
    ],
)
def test_the_stable_names_are_those_of_the_published_conventions(name: str) -> None:
    modules = ("attributes.db_attributes", "attributes.error_attributes", "metrics.db_metrics")
    published = [getattr(import_module(f"opentelemetry.semconv.{module}"), name, None) for module in modules]
    assert getattr(_conventions, name) in published


def test_the_page_names_every_attribute_and_metric() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "telemetry.md").read_text(encoding="utf-8")
    every = {
        value
        for name, value in vars(_conventions).items()
        if name.isupper() and name.startswith(("DB_", "ERROR", "ENDUSER", "GEN_AI", "TURNLOG"))
    }
    assert len(every) > 12
    assert [value for value in every if f"`{value}`" not in page] == []
