"""Alerts to webhooks: a real server that fails, hangs, redirects and recovers; and secrets that are never shown."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from hook_server import Answer, HookServer, hooks
from turnlog import ConfigError, PluginError, TurnlogError
from turnlog_alerts import Alert, Alerts, Event
from turnlog_alerts._state import State
from turnlog_alerts._webhook import WAITS, Webhook

HOOK = "/hooks/hunter2"


@pytest.fixture
def server() -> Iterator[HookServer]:
    with hooks() as server:
        yield server


def alert(*to: str, **options: Any) -> Alert:
    return Alert(metric="storage_used", above=10, cooldown=0.0, to=to or ("log",), **options)


def event() -> Event:
    event = State(alert()).step(11, 1_800_000_000.0, 1_800_000_000.0)
    assert event is not None
    return event


class Slept(list[float]):
    """Remembers how long it was to sleep."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


async def test_a_webhook_receives_the_event_as_json(server: HookServer) -> None:
    await Webhook(server.url(f"{HOOK}?channel=ops"))(event())
    assert server.received == [(f"{HOOK}?channel=ops", json.loads(json.dumps(event().to_dict())))]
    assert server.headers["content-type"] == "application/json"
    assert server.headers["user-agent"] == "turnlog"


@pytest.mark.parametrize("failures", [[503], [429, "drop"], ["drop", 500, 503]], ids=str)
async def test_a_webhook_that_recovers_receives_the_event_once(server: HookServer, failures: list[Answer]) -> None:
    server.answers["/hook"] = [*failures, 200]
    slept = Slept()
    await Webhook(server.url("/hook"), sleep=slept)(event())
    assert len(server.received) == len(failures) + 1
    assert slept == [*WAITS][: len(failures)]


@pytest.mark.parametrize(
    ("answers", "attempts", "says"),
    [
        ([503] * 9, 4, "4 attempts failed, the last one with status 503"),
        (["drop"] * 9, 4, "4 attempts failed, the last one with RemoteProtocolError"),
        (["hang"] * 9, 4, "4 attempts failed, the last one with TimeoutError"),
        ([302], 1, "it redirects (302), which is not followed: use the URL that it leads to"),
        ([404], 1, "it refused the event with status 404: check the URL"),
    ],
    ids=str,
)
async def test_a_webhook_that_fails_is_tried_a_bounded_number_of_times(
    server: HookServer, answers: list[Answer], attempts: int, says: str
) -> None:
    server.answers[HOOK] = answers
    slept = Slept()
    webhook = Webhook(server.url(HOOK), timeout=0.05 if "hang" in answers else 10.0, sleep=slept)
    with pytest.raises(TurnlogError) as error:
        await webhook(event())
    assert str(error.value) == says
    assert [path for path, _ in server.received] == [HOOK] * attempts
    assert slept == [*WAITS][: attempts - 1]


async def test_a_server_that_is_gone_is_an_error_without_its_url(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    with hooks() as server:
        url = server.url(HOOK)
    await Alerts(measured(11), [alert(url)], sleep=Slept()).check()
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert error.startswith(
        "not delivered to the webhook at 127.0.0.1: 4 attempts failed, the last one with ConnectError: alert "
    )


async def test_a_body_without_end_is_not_read(server: HookServer) -> None:
    server.answers["/hook"] = ["endless"]
    await Webhook(server.url("/hook"))(event())
    assert len(server.received) == 1


def measured(*values: float) -> Any:
    """Measures one value after the other; after the last one, it hangs."""
    left = list(values)

    async def measure() -> Mapping[str, object]:
        if not left:
            await asyncio.Event().wait()
        return {"storage_used": left.pop(0)}

    return measure


async def test_a_webhook_that_hangs_delays_no_other_alert_and_no_evaluation(server: HookServer) -> None:
    server.answers["/hang"] = ["hang"]
    slow = alert(server.url("/hang"), server.url("/beside"), name="slow")
    fast = alert(server.url("/fast"), name="fast")
    same = alert(server.url("/hang"), name="the same webhook")
    running = asyncio.ensure_future(
        Alerts(measured(11, 9, 11), [slow, fast, same], sleep=asyncio.sleep).run(every=1e-9)
    )
    for path, count in (("/fast", 3), ("/beside", 3), ("/hang", 4)):
        assert set(await asyncio.to_thread(server.wait_for, path, count)) == {"firing", "resolved"}
    assert server.states("/fast") == server.states("/beside") == ["firing", "resolved", "firing"]
    counts = Counter(body["alert"] for path, body in server.received if path == "/hang")
    assert sorted(counts.values()) == [1, 3]  # one of the two alerts waits for its first request
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_nothing_that_is_logged_shows_the_url(server: HookServer, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers[HOOK] = [204, 404, 302, "drop", "drop", "drop", "drop", 500, 500, 500, 500]
    alerts = Alerts(measured(11, 9, 11, 9, 11), [alert(server.url(HOOK))], sleep=Slept())
    for _ in range(5):
        await alerts.check()
    assert len(server.received) == 11
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 4
    assert "hunter2" not in caplog.text
    assert "httpcore2" in {record.name.partition(".")[0] for record in caplog.records}  # which logs what it does


# ------------------------------------------------------------------------------------------------ before any connection


async def test_the_url_may_come_from_a_variable(server: HookServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_URL", server.url(HOOK))
    assert len(await Alerts(measured(11), [alert("env:ALERT_URL")]).check()) == 1
    assert server.states(HOOK) == ["firing"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            None,
            'the variable ALERT_URL is not set, and an alert has to = "env:ALERT_URL": set it to the URL',
        ),
        ("", "the variable ALERT_URL is not a destination: write"),
        ("log", "the variable ALERT_URL is not a destination: write"),
        ("hunter2", "the variable ALERT_URL is not a destination: write"),
        ("https://u:hunter2@example.com", "the variable ALERT_URL is a URL with a user, which is not supported"),
        ("https://\u2603/hunter2", "to is a malformed URL of a webhook: check its host"),
    ],
)
def test_a_variable_that_holds_no_url_is_an_error_at_once(
    value: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALERT_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("ALERT_URL", value)
    with pytest.raises(ConfigError) as error:
        Alerts(measured(), [alert("env:ALERT_URL")])
    assert str(error.value).startswith(says)
    assert "hunter2" not in str(error.value)


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "turnlog_alerts._webhook")
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(PluginError) as error:
        Alerts(measured(), [alert("https://example.com/hook")])
    assert str(error.value) == "a webhook needs httpx2, which is not installed: pip install 'turnlog[alerts]'"
    Alerts(measured(), [alert("log")])
