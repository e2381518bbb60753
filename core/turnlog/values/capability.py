"""`Capability`: properties of a backend that the kit tests only if the backend declares them."""

from __future__ import annotations

from typing import Literal, TypeAlias

Capability: TypeAlias = Literal["shared", "threads", "processes", "durable", "server_clock"]
"""A property of a backend.

- `shared`: another backend over the same location has the same sessions.
- `threads`: threads with event loops of their own may use one backend object at once.
- `processes`: several processes may use the same location at once.
- `durable`: an acknowledged commit survives the end of its process, also by `kill -9`.
- `server_clock`: a server measures the time to live, by its own clock.
"""
