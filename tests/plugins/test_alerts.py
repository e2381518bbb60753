"""Alerts: each fires once when it begins and resolves once when it ends, whatever the metric does in between."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog import InvalidInput, TurnlogError, Unavailable
from turnlog.testing import Clock
from turnlog_alerts import Alert, Alerts, Event
from turnlog_alerts._delivery import MAX_WAITING, Delivery
from turnlog_alerts._state import State

START = 1_800_000_000.0


def slow(**options: Any) -> Alert:
    return Alert(**{"metric": "load_latency.p95", "above": 0.2, "cooldown": 0.0, **options})


def states(alert: Alert, values: Sequence[float | None], step: float = 60.0) -> list[tuple[int, str]]:
    """Return the index and state of each event that an alert emits for one value every `step` seconds."""
    state = State(alert)
    events = [state.step(value, START + place * step, START + place * step) for place, value in enumerate(values)]
    return [(place, event.state) for place, event in enumerate(events) if event is not None]


JITTER = [0.3, 0.15] * 50  # crosses the threshold 99 times


# ------------------------------------------------------------------------------------------------------------ one alert


def test_an_alert_fires_once_and_is_resolved_once() -> None:
    assert states(slow(), [0.1, 0.3, 0.4, 0.3, 0.2, 0.1, 0.1]) == [(1, "firing"), (4, "resolved")]
    assert states(slow(above=None, below=5), [6, 5, 4, 3, 5, 6]) == [(2, "firing"), (4, "resolved")]


def test_without_a_bound_jitter_makes_an_event_at_each_crossing() -> None:
    assert len(states(slow(), JITTER)) == 100


def test_clear_at_makes_one_event_of_jitter() -> None:
    assert states(slow(clear_at=0.1), [*JITTER, 0.1, 0.15]) == [(0, "firing"), (100, "resolved")]
    low = slow(above=None, below=0.2, clear_at=0.5)
    assert states(low, [*(0.1, 0.3) * 50, 0.5, 0.3]) == [(0, "firing"), (100, "resolved")]


def test_for_makes_no_event_of_jitter() -> None:
    alert = slow(for_=120)
    assert states(alert, [*JITTER, 0.3, 0.3, 0.3, 0.1, *JITTER]) == [(102, "firing"), (103, "resolved")]


def test_the_default_cooldown_makes_one_pair_of_jitter_within_five_minutes() -> None:
    alert = Alert(metric="load_latency.p95", above=0.2)
    assert states(alert, JITTER, step=2.9) == [(0, "firing"), (1, "resolved")]


def test_an_alert_that_holds_when_the_cooldown_ends_fires_then() -> None:
    alert = slow(cooldown=300)
    assert states(alert, [0.3, 0.1, 0.3, 0.3, 0.3, 0.3, 0.3]) == [(0, "firing"), (1, "resolved"), (5, "firing")]


def test_a_missing_value_changes_nothing() -> None:
    assert states(slow(for_=120), [None, 0.3, None, None, 0.3, None, 0.1, None]) == [(4, "firing"), (6, "resolved")]


ALERTS = st.builds(
    lambda low, high, upwards, hold, cooldown: Alert(
        metric="m",
        above=high if upwards else None,
        below=None if upwards else low,
        clear_at=low if upwards else high,
        for_=hold,
        cooldown=cooldown,
    ),
    low=st.integers(1, 3),
    high=st.integers(3, 5),
    upwards=st.booleans(),
    hold=st.sampled_from([0.0, 2.0, 5.0]),
    cooldown=st.sampled_from([0.0, 3.0, 10.0]),
)
STEPS = st.lists(st.tuples(st.integers(1, 4), st.none() | st.integers(0, 6)), max_size=40)


def model(alert: Alert, steps: Sequence[tuple[float, int | None]]) -> list[tuple[float, str]]:
    """Return the events by the definition in the documentation, recomputed from all measurements each time."""
    events: list[tuple[float, str]] = []
    seen: list[tuple[float, bool]] = []
    for time, value in steps:
        if value is None:
            continue
        beyond = value > alert.above if alert.above is not None else value < (alert.below or 0)
        assert alert.clear_at is not None
        good = value <= alert.clear_at if alert.above is not None else value >= alert.clear_at
        seen.append((time, beyond))
        if events and events[-1][1] == "firing":
            if good:
                events.append((time, "resolved"))
            continue
        fired = [at for at, state in events if state == "firing"]
        for begin, _ in reversed(seen):
            if not all(held for at, held in seen if at >= begin):
                break
            if time - begin >= alert.for_ and (not fired or time - fired[-1] >= alert.cooldown):
                events.append((time, "firing"))
                break
    return events


@given(alert=ALERTS, steps=STEPS)
def test_an_alert_does_what_its_model_does(alert: Alert, steps: list[tuple[int, int | None]]) -> None:
    state, now, timed = State(alert), START, []
    found = []
    for wait, value in steps:
        now += wait
        timed.append((now, value))
        event = state.step(value, now, now)
        if event is not None:
            assert event.since <= event.time == now
            found.append((now, event.state))
    assert found == model(alert, timed)
    assert all(one != other for (_, one), (_, other) in pairwise(found))
    firings = [time for time, state in found if state == "firing"]
    assert all(later - earlier >= alert.cooldown for earlier, later in pairwise(firings))


def test_the_model_makes_events() -> None:
    alert = Alert(metric="m", above=4, clear_at=2, for_=2.0, cooldown=10.0)
    steps = [(1.0, 5), (2.0, None), (3.0, 5), (4.0, 3), (5.0, 2), (6.0, 5), (9.0, 5), (13.0, 5)]
    assert model(alert, steps) == [(3.0, "firing"), (5.0, "resolved"), (13.0, "firing")]


# ------------------------------------------------------------------------------------------------------- the definition


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metric": ""}, 'metric must be a dotted path such as "load_latency.p95"'),
        ({"metric": "a..b"}, "metric must be a dotted path"),
        ({"metric": "a.b\n"}, "metric must be a dotted path"),
        ({"metric": 5}, "metric must be text, not int"),
        ({"above": None}, "an alert needs either above or below, and has"),
        ({"below": 0.1}, "an alert needs either above or below, and has"),
        ({"above": "0.2"}, "above must be a number, not str"),
        ({"above": True}, "above must be a number, not bool"),
        ({"above": math.nan}, "above must be a number from -2**53 to 2**53"),
        ({"above": math.inf}, "above must be a number from -2**53 to 2**53"),
        ({"above": 10**400}, "above must be a number from -2**53 to 2**53"),
        ({"above": None, "below": []}, "below must be a number, not list"),
        ({"for_": -1}, "for_ must be a number of seconds, at least 0, not -1"),
        ({"for_": "5m"}, "for_ must be a number, not str"),
        ({"cooldown": math.nan}, "cooldown must be a number"),
        ({"cooldown": -0.5}, "cooldown must be a number of seconds, at least 0, not -0.5"),
        ({"clear_at": 0.3}, "clear_at must be at most the threshold of the alert (above 200 ms), not 300 ms"),
        (
            {"above": None, "below": 5, "clear_at": 4},
            "clear_at must be at least the threshold of the alert (below 5 s), not 4",
        ),
        ({"clear_at": "0.1"}, "clear_at must be a number, not str"),
        ({"to": "log"}, 'to must be a tuple of destinations such as ("log",), not str'),
        ({"to": ()}, 'to must have at least one destination, such as "log"'),
        ({"to": (5,)}, "to must be text, not int"),
        ({"to": ("logs",)}, 'to must be "log", the URL of a webhook such as'),
        ({"to": ("env:",)}, 'to must be "log", the URL'),
        ({"to": ("env:A B",)}, 'to must be "log", the URL'),
        ({"to": ("ftp://example.com/hunter2",)}, 'to must be "log", the URL'),
        ({"to": ("https:///hunter2",)}, 'to must be "log", the URL'),
        ({"to": ("https://example.com/hunter2 x",)}, 'to must be "log", the URL'),
        ({"to": ("https://example.com/hunter2\n",)}, 'to must be "log", the URL'),
        ({"to": ("https://[::1/hunter2",)}, "to is a malformed URL"),
        ({"to": ("https://example.com:port/hunter2",)}, "to is a malformed URL"),
        ({"to": ("https://user:hunter2@example.com/",)}, "to is a URL with a user, which is not supported"),
        ({"name": 5}, "name must be text, not int"),
        ({"name": "a\x1b[31m"}, "name must be printable text of up to 200 characters"),
        ({"name": "a" * 201}, "name must be printable text of up to 200 characters"),
    ],
)
def test_a_bad_alert_says_what_is_wrong(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput) as error:
        slow(**options)
    assert says in str(error.value)
    assert "hunter2" not in str(error.value)


def test_an_alert_without_a_name_is_named_by_its_condition() -> None:
    assert slow().name == "load_latency.p95 above 200 ms"
    assert Alert(metric="active_sessions", below=10).name == "active_sessions below 10 sessions"
    assert slow(name="slow loads").name == "slow loads"


def test_an_alert_and_its_events_show_no_webhook() -> None:
    alert = slow(to=("https://example.com/hunter2",))
    event = State(alert).step(0.3, START, START)
    assert "hunter2" not in f"{alert!r} {alert} {event!r} {event}"
    assert repr(alert) == "Alert('load_latency.p95 above 200 ms')"


def test_an_event_says_what_has_happened() -> None:
    state = State(slow(name="slow loads", for_=60))
    state.step(0.3, START, START)
    firing = state.step(0.31234567, START + 60, START + 60)
    resolved = state.step(0, START + 120, START + 120)
    assert str(firing) == "alert 'slow loads' is firing: load_latency.p95 is 312.346 ms, above 200 ms"
    assert str(resolved) == "alert 'slow loads' is resolved: load_latency.p95 is 0 ms, no longer above 200 ms"
    assert firing is not None
    assert firing.to_dict() == {
        "alert": "slow loads",
        "state": "firing",
        "metric": "load_latency.p95",
        "value": 0.31234567,
        "above": 0.2,
        "since": START,
        "time": START + 60,
        "text": str(firing),
    }
    large = State(Alert(metric="storage_used", below=2.5e9)).step(123_456_789.25, START, START)
    assert large is not None
    assert large.to_dict()["below"] == 2.5e9
    assert str(large).endswith("storage_used is 123.457 MB, below 2.5 GB")


@pytest.mark.parametrize(
    ("measured", "value"),
    [
        ({"load_latency": {"p95": 0.3}}, 0.3),
        ({"load_latency": {"p95": 1}}, 1),
        ({"load_latency": {"p95": None}}, None),
        ({"load_latency": None}, None),
        ({"load_latency": {"p95": math.nan}}, None),
        ({"load_latency": {"p95": math.inf}}, None),
        ({"load_latency": {"p95": 10**400}}, 10**400),
    ],
)
def test_a_metric_is_found_by_its_path(measured: Mapping[str, object], value: float | None) -> None:
    assert slow().value_in(measured) == value


@pytest.mark.parametrize(
    ("measured", "says"),
    [
        ({}, "the measurement has no metric 'load_latency.p95'; its metrics are none"),
        ({"load_latency": {"p50": 1}, "storage_used": 2}, "its metrics are load_latency.p50, storage_used"),
        ({"load_latency": 5}, "its metrics are load_latency"),
        ({"load_latency": {"p95": "0.3"}}, "'load_latency.p95' must be a number or None, not str"),
        ({"load_latency": {"p95": True}}, "must be a number or None, not bool"),
    ],
)
def test_a_measurement_without_the_metric_is_an_error(measured: Mapping[str, object], says: str) -> None:
    with pytest.raises(InvalidInput) as error:
        slow().value_in(measured)
    assert says in str(error.value)


# ---------------------------------------------------------------------------------------------------------------- check


class Metrics:
    """Returns one value after the other, or raises it. After the last one, it blocks."""

    def __init__(self, *values: object) -> None:
        self.values = list(values)
        self.exhausted = asyncio.Event()

    async def __call__(self) -> Mapping[str, object]:
        if not self.values:
            self.exhausted.set()
            await asyncio.Event().wait()
        value = self.values.pop(0)
        if isinstance(value, Exception):
            raise value
        return {"load_latency": {"p95": value}}


class Time(Clock):
    """A clock that advances when something sleeps."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)


async def test_check_evaluates_once_and_returns_the_events(caplog: Any) -> None:
    clock = Clock(START)
    got: list[Event] = []
    alerts = Alerts(Metrics(0.3, 0.3, 0.1), [slow(for_=60, name="slow")], deliver=got.append, clock=clock, timer=clock)
    assert await alerts.check() == ()
    clock.advance(60)
    (firing,) = await alerts.check()
    (resolved,) = await alerts.check()
    assert [firing.state, resolved.state] == ["firing", "resolved"]
    assert got == [firing, resolved]
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("turnlog.alerts", "WARNING", str(firing)),
        ("turnlog.alerts", "WARNING", str(resolved)),
    ]


async def test_a_measurement_may_be_an_object_with_to_dict() -> None:
    class Measured:
        def to_dict(self) -> Mapping[str, object]:
            return {"storage_used": 5}

    class StateMetrics:
        async def measure(self) -> Measured:
            return Measured()

    assert len(await Alerts(StateMetrics().measure, [Alert(metric="storage_used", above=4)]).check()) == 1


async def test_a_failed_measurement_is_logged_and_changes_nothing(caplog: Any) -> None:
    alerts = Alerts(
        Metrics(0.3, Unavailable("the server is gone"), 0.3, 0.1), [slow()], clock=(clock := Clock(START)), timer=clock
    )
    events = [await alerts.check() for _ in range(4)]
    assert [[event.state for event in found] for found in events] == [["firing"], [], [], ["resolved"]]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["the metrics could not be measured: Unavailable: the server is gone"]


async def test_a_measurement_that_hangs_is_a_failed_one(caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs() -> Mapping[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("turnlog_alerts._alerts._PATIENCE", 0.01)
    assert await Alerts(hangs, [slow()]).check() == ()
    (error,) = [record.getMessage() for record in caplog.records]
    assert error == "the metrics could not be measured: no answer within 0.01 s"


def test_a_clock_that_is_set_changes_no_duration() -> None:
    """A clock set back would suppress the alert, and a clock set forward would fire it early."""
    state = State(slow(for_=60, cooldown=60))
    assert state.step(0.3, START, 0) is None
    assert state.step(0.3, START + 86_400, 30) is None
    firing = state.step(0.3, START - 86_400, 60)
    assert firing is not None
    assert (firing.since, firing.time) == (START, START - 86_400)
    assert state.step(0.1, START, 61) is not None
    assert state.step(0.3, START, 62) is None
    assert state.step(0.3, START - 86_400, 122) is not None


async def test_an_alert_that_cannot_be_evaluated_is_logged_and_stops_no_other(caplog: Any) -> None:
    alerts = Alerts(Metrics(0.3), [slow(metric="load_latency.p96", name="typo"), slow()])
    assert [event.alert.name for event in await alerts.check()] == ["load_latency.p95 above 200 ms"]
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert error.startswith("alert 'typo' cannot be evaluated: the measurement has no metric 'load_latency.p96'")


async def test_a_delivery_that_fails_is_logged_and_stops_no_other(caplog: Any) -> None:
    def fail(event: Event) -> None:
        raise TurnlogError("no line is free") if event.state == "firing" else RuntimeError("a bug")

    alerts = Alerts(Metrics(0.3, 0.1), [slow()], deliver=fail)
    events = [*await alerts.check(), *await alerts.check()]
    assert [event.state for event in events] == ["firing", "resolved"]
    said = [(record.levelname, record.getMessage(), bool(record.exc_info)) for record in caplog.records]
    assert said == [
        ("WARNING", str(events[0]), False),
        ("ERROR", f"not delivered to the function deliver: no line is free: {events[0]}", False),
        ("WARNING", str(events[1]), False),
        ("ERROR", f"not delivered to the function deliver: {events[1]}", True),
    ]


def nothing() -> Awaitable[Mapping[str, object]]:
    raise AssertionError("no I/O is expected")


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((5, []), {}, "measure must be a function, not int"),
        ((None, []), {}, "measure must be a function, not NoneType"),
        ((nothing, []), {"deliver": "log"}, "deliver must be a function, not str"),
        ((nothing, [{"metric": "m"}]), {}, "alerts must be Alert objects, not dict"),
        ((nothing, [slow(), slow(to=("log", "log"))]), {}, "two alerts are named 'load_latency.p95 above 200 ms'"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, options: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Alerts(*arguments, **options)
    assert says in str(error.value)


# ------------------------------------------------------------------------------------------------------------------ run


async def test_run_evaluates_at_its_interval_until_it_is_cancelled(caplog: Any) -> None:
    caplog.set_level(logging.CRITICAL)
    clock, got = Time(START), []
    metrics = Metrics(0.1, OSError("down"), 0.3, 0.3, 0.1)

    async def deliver(event: Event) -> None:
        await asyncio.sleep(0)
        got.append((event.state, event.time - START))

    running = asyncio.ensure_future(
        Alerts(metrics, [slow()], deliver=deliver, clock=clock, timer=clock, sleep=clock.sleep).run(every=30)
    )
    await metrics.exhausted.wait()
    assert got == [("firing", 60.0), ("resolved", 120.0)]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_cancelling_ends_the_deliveries(caplog: Any) -> None:
    clock, metrics = Time(START), Metrics(0.3)
    ended = []

    async def hang(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(event.state)

    alerts = Alerts(metrics, [slow()], deliver=hang, clock=clock, timer=clock, sleep=clock.sleep)
    running = asyncio.ensure_future(alerts.run())
    await metrics.exhausted.wait()
    assert not ended
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["firing"]
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    ("every", "says"),
    [
        (0, "every must be a number of seconds greater than 0, not 0"),
        (-1.5, "every must be a number of seconds greater than 0, not -1.5"),
        (math.nan, "every must be a number from"),
        ("5m", "every must be a number, not str"),
    ],
)
async def test_an_interval_that_is_none_is_refused(every: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        await Alerts(nothing, []).run(every=every)


# ----------------------------------------------------------------------------------------------------------- deliveries


async def test_the_events_of_an_alert_arrive_in_order_and_one_at_a_time() -> None:
    state, free, got = State(slow()), asyncio.Event(), []
    firing, resolved = state.step(0.3, START, START), state.step(0.1, START, START)

    async def send(event: Event) -> None:
        if event.state == "firing":
            await free.wait()
        got.append(event.state)

    delivery = Delivery("the test", send)
    tasks = [asyncio.ensure_future(delivery(event)) for event in (firing, resolved) if event is not None]
    await asyncio.sleep(0)
    assert got == []
    free.set()
    await asyncio.gather(*tasks)
    assert got == ["firing", "resolved"]


async def test_events_that_wait_are_bounded(caplog: Any) -> None:
    event, free, got = State(slow()).step(0.3, START, START), asyncio.Event(), []
    assert event is not None

    async def send(event: Event) -> None:
        await free.wait()
        got.append(event)

    delivery = Delivery("the test", send)
    tasks = [asyncio.ensure_future(delivery(event)) for _ in range(MAX_WAITING + 2)]
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(*tasks)
    assert len(got) == MAX_WAITING
    errors = [record.getMessage() for record in caplog.records]
    assert errors == [f"not delivered to the test, {MAX_WAITING} earlier events wait: {event}"] * 2
    await delivery(event)
    assert len(got) == MAX_WAITING + 1
