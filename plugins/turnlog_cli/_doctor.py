"""`turnlog doctor`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from statistics import median
from time import perf_counter
from typing import Final

from turnlog import Store, TurnlogError, assistant, user
from turnlog.config import Setting, open_existing, settings_of
from turnlog.layers import stack_of
from turnlog.values import Finding

from ._advice import with_store
from ._hooks import Diagnoses, lowest
from ._table import Table
from ._text import Code, Printer, as_json, with_options, without_secrets

_NAMESPACE: Final = "turnlog-doctor"
_TRIES: Final = 10  # the number of measurements of each operation


def doctor(url: str | None, *, json: bool) -> int:
    """Print the layers and settings of the store, the durations of operations, and all problems.

    A wrong configuration is also reported as a problem.

    Args:
        url: The URL of the store; None: the store in the configuration.
        json: Print one JSON object.
    """
    return asyncio.run(_doctor(url, json=json))


async def _doctor(url: str | None, *, json: bool) -> int:
    settings: list[Setting] = []
    stack: list[str] = []
    times: dict[str, list[float]] = {}
    findings: list[Finding] = []
    code = Code.FINE
    try:
        settings = settings_of(url)
        store = open_existing(url)
        stack = [type(layer).__name__ for layer in stack_of(store.backend)]
        async with _quietly(), store:
            if isinstance(backend := lowest(store.backend), Diagnoses):
                findings += await backend.diagnose()
            times = await _timed(store)
    except TurnlogError as error:
        findings.append(Finding(with_store(str(error), url)))  # the message already contains the next step
        code = Code.of(error)
    if findings and code is Code.FINE:
        code = Code.FAILED
    findings = [Finding(without_secrets(one.text), without_secrets(one.command)) for one in findings]
    if json:
        operations = {name: {"median": median(taken), "slowest": max(taken)} for name, taken in times.items()}
        shown = [
            {"name": one.name, "value": without_secrets(one.value), "from": with_options(one.where)} for one in settings
        ]
        wrong = [{"text": one.text, "command": one.command} for one in findings]
        print(as_json({"stack": stack, "settings": shown, "operations": operations, "findings": wrong}))
    else:
        if stack:
            _print_stack(stack)
        if settings:
            _print_settings([(one.name, without_secrets(one.value), with_options(one.where)) for one in settings])
        if times:
            _print_times(times)
        _print_findings(findings)
    return code


@asynccontextmanager
async def _quietly() -> AsyncIterator[None]:
    """Suppress warnings in the log: the findings include the warnings of a backend's `open`."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


async def _timed(store: Store) -> dict[str, list[float]]:
    """Return the durations of each operation in seconds, on temporary sessions."""
    view = store.within(_NAMESPACE)
    name, copy = view.new_session_id(), view.new_session_id()
    times: dict[str, list[float]] = {}

    async def take(operation: str, work: Callable[[], Awaitable[object]]) -> None:
        begin = perf_counter()
        await work()
        times.setdefault(operation, []).append(perf_counter() - begin)

    async def page() -> None:
        _ = [info async for info in view.sessions()]

    try:
        for _ in range(_TRIES):
            await take("append", lambda: view.append(name, [user("x"), assistant("x")]))
            await take("load", lambda: view.load(name, last=20))
            await take("list", page)
            await take("fork", lambda: view.fork(name, copy))
            await take("rewind", lambda: view.rewind(copy, turns=1))
            await take("erase", lambda: view.erase(copy))
    finally:
        for one in (name, copy):
            await view.erase(one)
    return times


def _print_stack(stack: Sequence[str]) -> None:
    out = Printer()
    out(("stack: ", "bold"), (" over ".join(stack), ""))
    out()


def _print_settings(settings: Sequence[tuple[str, str, str]]) -> None:
    table = Table("setting", "value", "from")
    for setting in settings:
        table.add(*setting)
    table.end()
    Printer()()


def _print_times(times: dict[str, list[float]]) -> None:
    table = Table("operation", "median", "slowest")
    for name, taken in times.items():
        table.add(name, f"{median(taken) * 1e3:.2f} ms", f"{max(taken) * 1e3:.2f} ms")
    table.end()
    Printer()()


def _print_findings(findings: Sequence[Finding]) -> None:
    out = Printer()
    if not findings:
        out(("nothing is wrong", "bold green"))
    for one in findings:
        out.wrapped(("wrong: ", "bold red"), (one.text, ""))
        if one.command:
            out(("    to fix it: ", "dim"), (one.command, "bold"))  # not wrapped, so that it can be copied
