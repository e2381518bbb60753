"""The compression layer of a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol, runtime_checkable

from turnlog import ConfigError, Layer, Store


class Recompressed(Protocol):
    """What became of one session, or at last of the dictionaries."""

    @property
    def session(self) -> str:
        """Its id; empty in the last one."""

    @property
    def before(self) -> int:
        """About how many bytes it took."""

    @property
    def after(self) -> int:
        """How many it takes."""

    @property
    def damaged(self) -> int:
        """How many of its records could not be opened, and were left."""

    @property
    def forgotten(self) -> tuple[int, ...]:
        """Ids of dictionaries that were removed."""


class Trained(Protocol):
    """A new dictionary, and how many sessions and rounds it was trained on."""

    @property
    def id(self) -> int:
        """As what is compressed with it names it."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def sessions(self) -> int:
        """How many."""

    @property
    def rounds(self) -> int:
        """How many."""


@runtime_checkable
class Compresses(Protocol):
    """What a layer has that compresses; any plugin's may."""

    def recompress(self, *, idle: float | None = None, rate: float | None = None) -> AsyncIterator[Recompressed]:
        """Bring the sessions of the namespace to how it would write them, and seal whole those that were idle."""


@runtime_checkable
class Trains(Protocol):
    """What a layer has that compresses with a dictionary; any plugin's may."""

    async def train(self) -> Trained:
        """Train a dictionary on the sessions of the namespace, and keep it in the store."""


def compressing(store: Store) -> Compresses:
    """The layer of a stack that compresses.

    Raises:
        ConfigError: There is none.
    """
    for layer in _stack(store):
        if isinstance(layer, Compresses):
            return layer
    raise _missing(store, "compression layer")


def training(store: Store) -> Trains:
    """The layer of a stack that compresses with a dictionary.

    Raises:
        ConfigError: There is none.
    """
    for layer in _stack(store):
        if isinstance(layer, Trains):
            return layer
    raise _missing(store, "layer that compresses with a dictionary")


def _stack(store: Store) -> Iterator[Store]:
    yield store
    while isinstance(store, Layer):
        store = store.inner
        yield store


def _missing(store: Store, what: str) -> ConfigError:
    return ConfigError(
        f"{store!r} has no {what}: name one, as in --store 'sqlite:///chat.db?layers=zstd', "
        'or in turnlog.toml, as in layers = ["zstd"]'
    )
