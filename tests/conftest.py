"""Shared setup of the tests: settings of hypothesis, the real conversations, and the summary of servers."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

import example_store
import servers
from quick_plugins import remember_plugins

# Use the same examples on every machine and in every run, so that each failure can be reproduced.
settings.register_profile(
    "default",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Newer versions of hypothesis draw examples from the constants of all imported sources.  Then a change anywhere, or
# another selection of tests, would change the examples of every test.
if hasattr(providers, "_get_local_constants"):
    _none = providers._local_constants
    providers._get_local_constants = lambda: _none

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Refuse `-n` with a server from the environment, and make sure that Ctrl-C works.

    A worker of pytest-xdist starts servers for itself, but a server from the environment is shared by all workers.  A
    suite that runs in the background ignores SIGINT, and so would its child processes.
    """
    given = [name for name in ("POSTGRESQL", "MYSQL", "REDIS") if os.environ.get(f"TURNLOG_TEST_{name}")]
    if given and config.getoption("numprocesses", None):
        names = ", ".join(f"TURNLOG_TEST_{name}" for name in given)
        raise pytest.UsageError(
            f"{names} names one server, and each process would delete the data of the others: leave out -n"
        )
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Remember the plugins, and exclude modules and collected tests from garbage collection, which took half of the
    suite's time.
    """
    remember_plugins()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # hypothesis allocates many objects: the default costs 1/8 of the time


@pytest.fixture(scope="session")
def shared_data() -> list[dict[str, Any]]:
    """Return 200 customer-service conversations with tool calls, as `{"session_id": ..., "messages": [...]}`."""
    path = _DATA / "airline_conversations.jsonl"
    if not path.exists():
        servers.leave_out("real conversations", "shared/data/airline_conversations.jsonl is not next to the checkout")
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip has installed the distribution of the example backend."""
    site = tmp_path_factory.mktemp("site")
    example_store.install(site)
    return site


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test if the system lacks the part that its mark names; fail if that part is required."""
    for mark in item.iter_markers("only_where"):
        has, part, why = mark.args
        if not has:
            servers.leave_out(part, why)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test in a new event loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the servers that were used, and each part that was left out, with the reason."""
    if servers.named:
        terminalreporter.write_line("servers: " + ", ".join(f"{name} {what}" for name, what in servers.named.items()))
    for part, why in servers.left_out.items():
        terminalreporter.write_line(f"left out: {part} ({why})")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the servers of a pytest-xdist worker to the process that writes the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["servers"] = servers.named, servers.left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receive the servers of a pytest-xdist worker."""
    named, left_out = getattr(node, "workeroutput", {}).get("servers", ({}, {}))
    servers.named.update(named)
    servers.left_out.update(left_out)
