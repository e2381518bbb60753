"""The base class of all tests of the kit: makes the backend and the clock, and runs the tests."""

from __future__ import annotations

import asyncio
import functools
import inspect
import linecache
import os
import shutil
import tempfile
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias, TypedDict, Unpack

import pytest

from ..backend import Backend
from ..store import Store
from ..values.capability import Capability

SECONDS: Final = 120  # a test that takes longer fails

Test: TypeAlias = "Callable[..., Any]"


class Clock:
    """A clock that shows the same time until `advance` moves it.

    Args:
        now: Seconds since 1970.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now: float = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forwards, or backwards."""
        self.now += seconds


class BackendOptions(TypedDict, total=False):
    """The options of every backend; a test sets some of them."""

    ttl: float | None
    clock: Callable[[], float]


class StoreOptions(BackendOptions, total=False):
    """The options of a backend, and of a `Store` over it."""

    namespace: str
    retain: int | None
    max_session_bytes: int | None


class ContractBroken(AssertionError):
    """A backend breaks a sentence of the contract; the cause is the failure of the test.

    Attributes:
        sentence: The sentence.
    """

    def __init__(self, sentence: str, error: BaseException) -> None:
        super().__init__(f"the contract says: {sentence}\n{type(error).__name__}: {str(error) or _line_of(error)}")
        self.sentence = sentence


def _line_of(error: BaseException) -> str:
    """Return the source line that has raised an error without a text, such as an `assert`."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    lines = [linecache.getline(frame.filename, n) for n in range(frame.lineno or 0, (frame.end_lineno or 0) + 1)]
    return " ".join("".join(lines).split())


ContractBroken.__module__ = "turnlog.testing"  # the summary of pytest shows it


class ContractBase(ABC):
    """A part of the contract: the docstring of each test is the sentence that it tests.

    Each `async def test_...` runs in a new event loop, and needs no plugin of pytest.  A test with a parameter `store`
    receives an open `Store`; the backend is `store.backend`.  Stores that a test opens with `opened` are closed after
    the test.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset()
    """The capabilities without which the tests of a chapter are skipped."""

    reads_messages: ClassVar[bool] = False
    """Whether the backend is a layer that reads messages, and refuses a payload that it cannot decode.

    Any other backend stores such a payload as it is.
    """

    @abstractmethod
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        """Return a backend to test, not yet opened.

        Args:
            options: The options of the backend.  No other test may use the same sessions; `self.folder` is a new folder
                for each test.
        """

    @property
    def moves_time(self) -> bool:
        """Whether `advance` can let time pass; if not, it skips the test."""
        return True

    async def advance(self, seconds: float) -> None:
        """Let time pass for the backend: sessions that expire within `seconds` have expired on return.

        Override this method if a server measures expiry by its own clock.
        """
        self.clock.advance(seconds)

    @cached_property
    def capabilities(self) -> frozenset[Capability]:
        """The capabilities that the backend declares."""
        return self.make(clock=self.clock).capabilities

    @property
    def shared(self) -> bool:
        """True if a second backend from `make` has the sessions of the first; False if each begins empty."""
        return "shared" in self.capabilities

    @cached_property
    def clock(self) -> Clock:
        """The clock of every backend of this test."""
        return Clock()

    @cached_property
    def folder(self) -> Path:
        """An empty folder for this test alone, removed after the test."""
        folder = Path(tempfile.mkdtemp(prefix="turnlog-"))
        self.folders.append(folder)
        return folder

    # ------------------------------------------------------------------------------------------------- for the tests

    def made(
        self,
        *,
        namespace: str = "default",
        retain: int | None = None,
        max_session_bytes: int | None = None,
        **options: Unpack[BackendOptions],
    ) -> Store:
        """Return a store over a new backend, not yet opened."""
        options.setdefault("clock", self.clock)
        backend = self.make(**options)
        return Store(backend, namespace=namespace, retain=retain, max_session_bytes=max_session_bytes)

    async def opened(self, **options: Unpack[StoreOptions]) -> Store:
        """Return a store over a new backend, open until the test ends."""
        return await self._stack.enter_async_context(self.made(**options))

    async def another(self, store: Store) -> Store:
        """Return another store over the same sessions, with another backend if sessions are shared."""
        if not self.shared:
            return Store(store.backend, namespace=store.namespace, retain=store.retain)
        return await self.opened(namespace=store.namespace, ttl=store.backend.ttl, retain=store.retain)

    @cached_property
    def _stack(self) -> AsyncExitStack:
        return AsyncExitStack()

    @cached_property
    def folders(self) -> list[Path]:
        """The folders to remove after the test."""
        return []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.isfunction(test):
                setattr(cls, name, _runs(test, cls.needs))

    async def _run(self, test: Test, *, needs_store: bool) -> None:
        limit = asyncio.timeout(SECONDS)
        try:
            async with limit, self._stack:
                await (test(self, store=await self.opened()) if needs_store else test(self))
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"the test did not end within {SECONDS} s: {_waiting_at(error)}") from error
            raise


def _waiting_at(error: TimeoutError) -> str:
    """Return the place at which a test waited when its time was over, as far as its traceback shows it."""
    frames = traceback.extract_tb(None if error.__cause__ is None else error.__cause__.__traceback__)
    own = [frame for frame in frames if os.path.dirname(frame.filename) != os.path.dirname(asyncio.__file__)]
    return f"it waited in {own[-1].name}, at {own[-1].filename}:{own[-1].lineno}" if own else "it waited"


def _runs(test: Test, needs: frozenset[Capability]) -> Callable[[ContractBase], None]:
    """Return the test for pytest, without parameters; a failure names the sentence of the contract."""
    needs_store = "store" in inspect.signature(test).parameters
    is_async = inspect.iscoroutinefunction(test)
    sentence = inspect.cleandoc(test.__doc__ or test.__name__)

    @functools.wraps(test)
    def run(self: ContractBase) -> None:
        if missing := needs - self.capabilities:
            pytest.skip(f"the backend does not declare {', '.join(sorted(missing))}")
        try:
            if is_async:
                asyncio.run(self._run(test, needs_store=needs_store))
            else:
                test(self)
        except (KeyboardInterrupt, pytest.skip.Exception):
            raise
        except BaseException as error:  # failures of pytest are not `Exception`s
            raise ContractBroken(sentence, error) from error
        finally:
            for folder in self.folders:
                shutil.rmtree(folder, ignore_errors=True)

    # without this pytest would take the parameters of the test for fixtures
    only_self = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    run.__signature__ = inspect.Signature(only_self)  # type: ignore[attr-defined]
    return run
