"""`check_event_loop`: refuses a call under trio, before any I/O."""

from __future__ import annotations

from sys import modules

from .errors import Unsupported

__all__ = ["check_event_loop"]


def check_event_loop() -> None:
    """Refuse a call in a task of trio, in which nothing of asyncio can wait.

    Raises:
        Unsupported: trio runs in this thread, and asyncio does not.
    """
    trio = modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_run():
        return
    from asyncio import get_running_loop  # imported late, to keep `import turnlog` fast

    try:
        get_running_loop()
    except RuntimeError:
        raise Unsupported(
            "turnlog needs asyncio, but trio runs here: nothing was stored; "
            "call turnlog.sync in a thread, for example with trio.to_thread.run_sync"
        ) from None
