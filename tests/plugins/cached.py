"""What the tests of the cache share: a store below it that is watched, held up and made to fail."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import msgspec

from turnlog import Change, Key, Layer, Receipt, Session, Store, Version, user
from turnlog.testing import Clock
from turnlog_cache import CacheLayer
from turnlog_cache._layer import Mode
from turnlog_memory import MemoryBackend

KEY = Key("default", "s")
T = TypeVar("T")
Kind = Literal["read", "commit", "delete"]


class Stop:
    """Holds one call on its way to the store, and on its way back."""

    def __init__(self) -> None:
        self.sent = asyncio.Event()
        self.done = asyncio.Event()
        self._there = asyncio.Event()
        self._back = asyncio.Event()

    async def land(self) -> None:
        """Let the store do it."""
        await self.sent.wait()
        self._there.set()
        await self.done.wait()

    def answer(self) -> None:
        """Let the caller hear of it."""
        self._there.set()
        self._back.set()

    async def around(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call, held."""
        self.sent.set()
        await self._there.wait()
        try:
            return await call()
        finally:
            self.done.set()
            await self._back.wait()


class Asked(Layer):
    """Notes what is asked of the store below; a call of it may be held, or fail."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.reads: list[dict[str, Any]] = []
        self.commits: list[Change] = []
        self.stops: defaultdict[Kind, deque[Stop]] = defaultdict(deque)
        self._failures: defaultdict[Kind, deque[tuple[BaseException, bool]]] = defaultdict(deque)

    def stop(self, kind: Kind) -> Stop:
        """What the next call of this kind will be held by."""
        self.stops[kind].append(Stop())
        return self.stops[kind][-1]

    def fail(self, kind: Kind, error: BaseException, *, done: bool = False) -> None:
        """Let the next call of this kind fail, before or after it was done."""
        self._failures[kind].append((error, done))

    def forget(self) -> None:
        """Count from here on."""
        self.reads.clear()
        self.commits.clear()

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        self.reads.append({"last": last, "before": before, "since": since, "touch": touch})
        inner = self.inner
        return await self._through("read", lambda: inner.read(key, last=last, before=before, since=since, touch=touch))

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.commits.append(change)
        await asyncio.sleep(0)  # it is on its way, as it is to any store but one in memory
        inner = self.inner
        return await self._through("commit", lambda: inner.commit(key, change))

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        inner = self.inner
        return await self._through("delete", lambda: inner.delete(key, expect=expect))

    async def _through(self, kind: Kind, call: Callable[[], Awaitable[T]]) -> T:
        async def done() -> T:
            if not self._failures[kind]:
                return await call()
            error, after = self._failures[kind].popleft()
            if after:
                await call()
            raise error

        stops = self.stops[kind]
        return await (stops.popleft().around(done) if stops else done())


class Setup:
    """A cache over a store that is watched; `store` is how another process writes.

    Args:
        mode: The cache's.
        below: Makes what is watched of the store.
        ttl: The store's.
        retain: The store's.
        options: The cache's others.
    """

    def __init__(
        self,
        mode: Mode = "validate",
        *,
        ttl: float | None = None,
        retain: int | None = None,
        store: Callable[..., Store] = MemoryBackend,
        **options: Any,
    ) -> None:
        self.clock, self.timer = Clock(), Clock(5_000.0)
        self.store = store(ttl=ttl, retain=retain, clock=self.clock)
        self.asked = Asked(self.store)
        self.cache = CacheLayer(self.asked, mode=mode, timer=self.timer, **options)

    def pass_by(self, seconds: float) -> None:
        """Let time pass, for everybody."""
        self.clock.advance(seconds)
        self.timer.advance(seconds)

    async def filled(self, turns: int, session: str = "s", *, last: int | None = None) -> None:
        """Have so many turns in the store, and those of the last messages in the cache; count from there on."""
        for number in range(turns):
            await self.store.append(session, [user(f"q{number}"), user(f"a{number}")], turn_id=f"t{number}")
        await self.cache.load(session, last=last)
        self.asked.forget()

    def kept(self, session: str = "s") -> bool:
        """Whether the cache has the session."""
        return Key("default", session) in self.cache._entries

    async def agrees(self, session: str = "s", **part: int | None) -> Session:
        """What the cache answers, where that is what the store shows."""
        shown = await self.cache.session(session, touch=False, **part)
        fresh = await self.store.session(session, touch=False, **part)
        assert shown.turns == fresh.turns
        assert msgspec.structs.replace(shown.info, expires_in=None) == msgspec.structs.replace(
            fresh.info, expires_in=None
        )
        if fresh.info.expires_in is None:
            assert shown.info.expires_in is None
        else:
            assert shown.info.expires_in is not None
            assert abs(shown.info.expires_in - fresh.info.expires_in) < 1e-3
        return shown


def texts(session: Session) -> list[str]:
    """What was said."""
    return [message.text for message in session.messages]
