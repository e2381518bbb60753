"""Naive backends: each has a plausible mistake, and fails the tests that detect it.

They derive from the memory backend, which meets the contract, and each changes one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar, Unpack

import pytest

from turnlog import Backend, Key, Session, SessionNotFound
from turnlog.testing import BackendContract, BackendOptions
from turnlog_memory import MemoryBackend

B = TypeVar("B", bound=type[Backend])


@dataclass(frozen=True)
class Naive:
    """A naive backend, a chapter of the kit, and the tests of the chapter that it must fail."""

    backend: type[Backend]
    chapter: type
    fails: frozenset[str]
    shared: bool


NAIVE: list[Naive] = []
"""All naive backends."""


def fails(chapter: type, *tests: str, shared: bool = False) -> Callable[[B], B]:
    """Register a backend that fails at least these tests of a chapter, named without their `test_` prefix."""

    def register(backend: B) -> B:
        NAIVE.append(Naive(backend, chapter, frozenset(tests), shared))
        return backend

    return register


def names_of(chapter: type) -> list[str]:
    """Return the names of a chapter's tests, without their `test_` prefix."""
    return [name.removeprefix("test_") for name in dir(chapter) if name.startswith("test_")]


def failed_by(backend: type[Backend], tests: Iterable[str], *, shared: bool = False) -> dict[str, BaseException]:
    """Run tests on a backend and return the errors of those that fail, by name."""

    class Kit(BackendContract):
        patience = 0.5

        def make(self, **options: Unpack[BackendOptions]) -> Backend:
            return backend(place=self.folder, **options) if shared else backend(**options)  # type: ignore[call-arg]

        def unopenable(self) -> Backend | None:
            return backend() if hasattr(backend, "fails_to_open") else None

    found: dict[str, BaseException] = {}
    for name in tests:
        try:
            getattr(Kit(), f"test_{name}")()
        except pytest.skip.Exception:  # the backend does not declare the capability
            pass
        except BaseException as error:  # noqa: BLE001 - failures of pytest are not `Exception`s
            found[name] = error
    return found


async def stored(backend: MemoryBackend, key: Key) -> Session | None:
    """Read from the memory backend itself, past overrides of the naive one, without an extension of the expiry."""
    try:
        return await MemoryBackend.read(backend, key, touch=False)
    except SessionNotFound:
        return None
