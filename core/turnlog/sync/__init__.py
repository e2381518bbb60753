"""`turnlog.sync`: the synchronous API, for scripts, notebooks, and web applications and task queues without asyncio.

    import turnlog.sync
    from turnlog import user

    with turnlog.sync.open_store("sqlite:///chat.db") as store:
        store.append("alice", [user("My name is Alice.")])

The classes have the methods of their asynchronous counterparts in `turnlog`.  All coroutines run in one event loop per
process, in a daemon thread that the first call starts.  Calls are possible from any thread, also from one that runs an
event loop of its own, and in a forked child.  An interrupt (Ctrl-C) cancels the coroutine and waits for its end.

A backend, a layer and a plugin stay asynchronous.  `call` runs an async function of another library over a store in the
same event loop.
"""

from __future__ import annotations

from .configuration import open_store
from .loop_thread import call
from .models import Model
from .pipeline import Pipeline
from .result import Result
from .store import Store, TurnWriter
from .stream import Stream

__all__ = ["Model", "Pipeline", "Result", "Store", "Stream", "TurnWriter", "call", "open_store"]
