"""A cache over a watched backend, for the tests of the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from turnlog import Backend, Key, Session, Store, user
from turnlog.testing import Clock
from turnlog_cache import CacheLayer
from turnlog_cache._layer import Mode
from turnlog_memory import MemoryBackend
from watched import Watched


class Setup:
    """A cache over a watched backend, and the stores of two processes: one with the cache and one without.

    Args:
        mode: The mode of the cache.
        ttl: The time to live of the backend.
        retain: The number of turns that both stores keep.
        backend: Makes the backend.
        options: The other options of the cache.

    Attributes:
        backend: The backend.
        watched: Records the calls that reach the backend through the cache.
        cache: The cache, for calls of the backend contract.
        store: The store over the cache.
        other_process: A store over the same backend without the cache.
        clock: The clock of the backend.
        timer: The timer of the cache.
    """

    def __init__(
        self,
        mode: Mode = "validate",
        *,
        ttl: float | None = None,
        retain: int | None = None,
        backend: Callable[..., Backend] = MemoryBackend,
        **options: Any,
    ) -> None:
        self.clock, self.timer = Clock(), Clock(5_000.0)
        self.backend = backend(ttl=ttl, clock=self.clock)
        self.watched = Watched(self.backend)
        self.cache = CacheLayer(self.watched, mode=mode, timer=self.timer, **options)
        self.store = Store(self.cache, retain=retain)
        self.other_process = Store(self.backend, retain=retain)

    def advance(self, seconds: float) -> None:
        """Advance the clock and the timer."""
        self.clock.advance(seconds)
        self.timer.advance(seconds)

    async def fill(self, turns: int, session: str = "s", *, last: int | None = None) -> None:
        """Store turns, load the last messages into the cache, and forget the recorded calls."""
        for number in range(turns):
            await self.other_process.append(session, [user(f"q{number}"), user(f"a{number}")], turn_id=f"t{number}")
        await self.store.load(session, last=last)
        self.watched.clear()

    def has(self, session: str = "s") -> bool:
        """Return whether the cache has an entry for the session."""
        return Key("default", session) in self.cache._entries

    async def agrees(self, session: str = "s", **part: Any) -> Session:
        """Return a session as the cache shows it; fail if the backend shows something else."""
        shown = await self.store.session(session, touch=False, **part)
        stored = await self.other_process.session(session, touch=False, **part)
        assert shown.turns == stored.turns
        assert msgspec.structs.replace(shown.info, expires_in=None) == msgspec.structs.replace(
            stored.info, expires_in=None
        )
        if stored.info.expires_in is None:
            assert shown.info.expires_in is None
        else:
            assert shown.info.expires_in is not None
            assert abs(shown.info.expires_in - stored.info.expires_in) < 1e-3
        return shown


def texts(session: Session) -> list[str]:
    """Return the texts of all messages."""
    return [message.text for message in session.messages]
