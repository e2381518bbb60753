"""What every chapter of the kit stands on: the store to test, a clock, and how a test is run."""

from __future__ import annotations

import asyncio
import functools
import inspect
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypedDict, Unpack

from ..store import Store

_SECONDS = 120  # a test that takes longer is taken for one that waits for ever

Test: TypeAlias = "Callable[..., Any]"


class Clock:
    """A clock that stands still until it is moved.

    Args:
        now: Seconds since 1970.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move it, also back."""
        self.now += seconds


class BackendOptions(TypedDict, total=False):
    """The options that every store takes."""

    namespace: str
    ttl: float | None
    retain: int | None
    max_session_bytes: int | None
    clock: Callable[[], float]


class Chapter(ABC):
    """A part of the contract: each test holds a store to one sentence, its docstring.

    An `async def test_...` runs in an event loop of its own, so no plugin of pytest is needed, and none is in the way.
    One that names a parameter `store` is given an open one; what it opens itself by `opened` is closed after it.
    """

    shared: ClassVar[bool] = False
    """Whether sessions are kept outside the store: a second one, made the same way, sees them, also after the first was
    closed.  Otherwise each store that is made must begin empty."""

    reads_messages: ClassVar[bool] = False
    """Whether it is a layer that looks into messages: it refuses a payload that it cannot decode.  Any other keeps it
    as it is."""

    @abstractmethod
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        """A store to be tested, not yet opened.

        Args:
            options: What to make it with.  A place for its sessions must be this test's own: `self.folder` is.
        """

    async def advance(self, seconds: float) -> None:
        """Let time pass for the store: sessions that would expire within so many seconds now have.

        Override it where the expiry is watched by a clock that is not the store's own, such as a server's.
        """
        self.clock.advance(seconds)

    @cached_property
    def clock(self) -> Clock:
        """The clock that every store of this test is made with."""
        return Clock()

    @cached_property
    def folder(self) -> Path:
        """An empty folder of this test's own, removed after it."""
        folder = Path(tempfile.mkdtemp(prefix="turnlog-"))
        self._folders.append(folder)
        return folder

    # ------------------------------------------------------------------------------------------------- for the tests

    async def opened(self, **options: Unpack[BackendOptions]) -> Store:
        """A store, open until the test ends."""
        options.setdefault("clock", self.clock)
        return await self._stack.enter_async_context(self.make(**options))

    async def door(self, store: Store) -> Store:
        """Another store over the same sessions; where there can be none, another view of this one."""
        if not self.shared:
            return store.within(store.namespace)
        return await self.opened(namespace=store.namespace, ttl=store.ttl, retain=store.retain)

    @cached_property
    def _stack(self) -> AsyncExitStack:
        return AsyncExitStack()

    @cached_property
    def _folders(self) -> list[Path]:
        return []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.isfunction(test):
                setattr(cls, name, _runs(test))

    async def _run(self, test: Test, *, needs_store: bool) -> None:
        async with asyncio.timeout(_SECONDS), self._stack:
            await (test(self, store=await self.opened()) if needs_store else test(self))


def _runs(test: Test) -> Callable[[Chapter], None]:
    """A test as pytest calls it; what fails it is given the sentence that is broken."""
    needs_store = "store" in inspect.signature(test).parameters
    is_async = inspect.iscoroutinefunction(test)

    @functools.wraps(test)
    def run(self: Chapter) -> None:
        try:
            if is_async:
                asyncio.run(self._run(test, needs_store=needs_store))
            else:
                test(self)
        except BaseException as error:  # pytest's own are no exceptions
            error.add_note(f"The contract says: {inspect.cleandoc(test.__doc__ or test.__name__)}")
            raise
        finally:
            for folder in self._folders:
                shutil.rmtree(folder, ignore_errors=True)

    # `wraps` shows the test's parameters, which pytest would take for fixtures
    run.__signature__ = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)])  # type: ignore[attr-defined]
    return run
