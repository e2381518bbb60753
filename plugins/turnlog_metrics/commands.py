"""The command `turnlog stats`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from cyclopts import App

from turnlog import InvalidInput, PluginError, TurnlogError
from turnlog.config import masked_url, open_existing
from turnlog.metrics import Measurement, StateMetrics

from ._screen import as_failure, as_json, as_lines, as_screen, time_of

__all__ = ["stats"]

_PROBES: Final = 100
_SECONDS: Final = 2.0  # between two measurements of --watch
_sleep = asyncio.sleep


def stats(app: App) -> None:
    """Register `turnlog stats`."""
    app.command(_stats, name="stats")


async def _stats(
    *,
    store: str | None = None,
    namespace: str | None = None,
    watch: bool = False,
    json: bool = False,
    serve: str | None = None,
) -> None:
    """Show the number of sessions, their mean size, the latency of loads, and the storage that is used.

    The latency is measured with 100 probe reads of the last 20 messages of stored sessions.  They restart no time to
    live.

    Args:
        store: The URL of the store, such as sqlite:///chat.db.
        namespace: The namespace; a nested one is written outer/inner.
        watch: Measure again every 2 seconds, until Ctrl-C; each measurement shows its time.
        json: Print one JSON object for each measurement.
        serve: Serve the metrics to Prometheus on this HOST:PORT, such as 127.0.0.1:9464, until Ctrl-C.
    """
    if serve is not None and (watch or json):
        raise InvalidInput("--serve cannot be combined with --watch or --json: leave them out")
    address = None if serve is None else _address(serve)
    opened = open_existing(store, namespace=namespace)
    async with opened:
        metrics = StateMetrics(opened)
        if address is not None:
            await _serve(metrics, *address)
        else:
            title = f"namespace {opened.namespace!r} of {masked_url(store)}"
            await _show(metrics, title, opened.backend.clock, watch=watch, json=json)


async def _show(metrics: StateMetrics, title: str, clock: Callable[[], float], *, watch: bool, json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    is_terminal = not json and sys.stdout.isatty()
    console = Console(highlight=False, markup=False)
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    noted = ""
    with live if is_terminal and watch else nullcontext():
        while True:
            time = clock() if watch else None
            try:
                probes = await metrics.probe(_PROBES)
                measured = await metrics.measure()
            except TurnlogError as error:
                if time is None:
                    raise
                if is_terminal:  # the next measurement may succeed
                    live.update(as_failure(title, str(error), time), refresh=True)
                else:
                    print(f"turnlog: {time_of(time)}: {error}", file=sys.stderr)
                await _sleep(_SECONDS)
                continue
            note = _note(metrics, measured, probes)
            if is_terminal and watch:
                live.update(as_screen(measured, title, note, time), refresh=True)
            elif is_terminal:
                console.print(as_screen(measured, title, note))
            else:
                print((as_json if json else as_lines)(measured, time), flush=True)
                if note != noted:
                    print(f"turnlog: {note}", file=sys.stderr)
                    noted = note
            if not watch:
                return
            await _sleep(_SECONDS)


def _note(metrics: StateMetrics, measured: Measurement, probes: int) -> str:
    if not measured.active_sessions:
        return f"there are no sessions in namespace {metrics.namespace!r}"
    return f"load_latency was measured with {probes} probe reads of the last 20 messages"


async def _serve(metrics: StateMetrics, host: str, port: int) -> None:
    try:
        from .prometheus import serving
    except ModuleNotFoundError as error:
        text = f"--serve needs {error.name}, which is not installed: pip install 'turnlog[prometheus]'"
        raise PluginError(text) from error
    async with serving(metrics, host, port, probes=_PROBES) as url:
        text = f"serving {url}, with {_PROBES} probe reads for each scrape; press Ctrl-C to stop"
        print(f"turnlog: {text}", file=sys.stderr)
        await _for_ever()


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidInput(f"--serve must be HOST:PORT, such as 127.0.0.1:9464, not {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)
