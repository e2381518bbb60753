"""Naive stores: each has an idea of the contract that looks right, and fails the tests that say why it is not.

They stand on the memory store, which keeps all of it, and differ from it in one thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, Unpack

from turnlog import Store
from turnlog.testing import BackendContract, BackendOptions

S = TypeVar("S", bound=type[Store])


@dataclass(frozen=True)
class Naive:
    """A naive store, the chapter of the kit that it fails, and the tests of that chapter that must tell."""

    store: type[Store]
    chapter: type
    fails: frozenset[str]
    shared: bool


NAIVE: list[Naive] = []
"""All of them."""


def fails(chapter: type, *tests: str, shared: bool = False) -> Callable[[S], S]:
    """Say that a store fails exactly these tests of a chapter, without their `test_`."""

    def register(store: S) -> S:
        NAIVE.append(Naive(store, chapter, frozenset(tests), shared))
        return store

    return register


def names_of(chapter: type) -> list[str]:
    """The names of a chapter's tests, without their `test_`."""
    return [name.removeprefix("test_") for name in dir(chapter) if name.startswith("test_")]


def failed_by(store: type[Store], chapter: type, *, shared: bool = False) -> dict[str, BaseException]:
    """The tests of a chapter that a store fails, and with what."""
    is_shared = shared

    class Kit(BackendContract):
        shared = is_shared

        def make(self, **options: Unpack[BackendOptions]) -> Store:
            if shared:
                return store(place=self.folder, **options)  # type: ignore[call-arg]
            return store(**options)

    found: dict[str, BaseException] = {}
    for name in names_of(chapter):
        try:
            getattr(Kit(), f"test_{name}")()
        except BaseException as error:  # noqa: BLE001 - pytest's own failures are no exceptions
            found[name] = error
    return found
