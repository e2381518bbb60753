"""The commands `turnlog recompress`, `turnlog train-dictionary` and `turnlog remove-dictionary`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from shlex import quote
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cyclopts import App

from turnlog import ConfigError, Conflict, InvalidInput, Store, TurnlogError
from turnlog.config import duration, open_existing
from turnlog.layers import stack_of

from ._recompressing import Recompressed
from ._report import Totals, as_json, progress

if TYPE_CHECKING:
    from .zstd import Trained

__all__ = ["recompress", "remove_dictionary", "train_dictionary"]


@runtime_checkable
class _Recompresses(Protocol):
    """A compression layer, of any plugin."""

    def recompress(
        self, namespace: str, *, idle: float | None = None, rate: float | None = None
    ) -> AsyncIterator[Recompressed]:
        """Rewrite the sessions of the namespace, as `CompressionLayer.recompress` does."""


@runtime_checkable
class _Removes(Protocol):
    """A layer whose dictionaries can be removed, of any plugin."""

    async def remove_dictionary(self, namespace: str, id: int) -> None:
        """Remove a dictionary, as `CompressionLayer.remove_dictionary` does."""


@runtime_checkable
class _Trains(Protocol):
    """A layer that compresses with a dictionary, of any plugin."""

    async def train(self, namespace: str) -> Trained:
        """Train a dictionary on the sessions of the namespace, as `ZstdLayer.train` does."""


# ---------------------------------------------------------------------------------------------------------- recompress


def recompress(app: App) -> None:
    """Register `turnlog recompress`."""
    app.command(_recompress, name="recompress")


async def _recompress(
    *,
    store: str | None = None,
    namespace: str | None = None,
    idle: str | None = None,
    rate: float | None = None,
    json: bool = False,
) -> int:
    """Rewrite sessions with the codec of the store's compression layer, and seal old turns.

    Applications may run at the same time.  They load the same messages as before.  To continue after an interruption,
    run the same command again.  A second command in the same namespace fails while one is running.

    Args:
        store: The URL of the store, such as sqlite:///chat.db?layers=zstd.
        namespace: The namespace; a nested one is written outer/inner.
        idle: Also seal sessions whose turns have not changed for at least this long, such as 0s, 24h or 30d.
        rate: The maximum number of sessions per second.
        json: Print one JSON object.
    """
    seconds = None if idle is None else duration(idle, "--idle")
    if rate is not None and not rate > 0:
        raise InvalidInput(f"--rate must be greater than 0 sessions a second, not {rate:g}")
    opened, totals = open_existing(store, namespace=namespace), Totals()
    results = _compression_layer(opened, store).recompress(opened.namespace, idle=seconds, rate=rate)
    async with opened:
        try:
            with progress() as show:
                async for result in results:
                    totals.add(result)
                    show(totals)
        except Conflict:  # another recompress is running
            raise
        except (asyncio.CancelledError, TurnlogError):  # cancelled: Ctrl-C
            print(
                f"turnlog: stopped after {totals.sessions} sessions; to continue, run the same command again",
                file=sys.stderr,
            )
            raise
    print(as_json(totals.fields()) if json else totals)
    return 1 if totals.damaged else 0


# ---------------------------------------------------------------------------------------------------- train-dictionary


def train_dictionary(app: App) -> None:
    """Register `turnlog train-dictionary`."""
    app.command(_train_dictionary, name="train-dictionary")


async def _train_dictionary(*, store: str | None = None, namespace: str | None = None, json: bool = False) -> None:
    """Train a dictionary for the layer zstd on the sessions of the store, and store it there.

    A dictionary may contain fragments of messages.

    Args:
        store: The URL of the store, such as sqlite:///chat.db?layers=zstd.
        namespace: The namespace; a nested one is written outer/inner.
        json: Print one JSON object.
    """
    opened = open_existing(store, namespace=namespace)
    layer = _training_layer(opened, store)
    async with opened:
        try:
            trained = await layer.train(opened.namespace)
        except InvalidInput as error:  # the store has too few sessions: not a usage error, so exit code 1, not 2
            raise TurnlogError(str(error)) from error
    found = {"id": trained.id, "bytes": trained.size, "sessions": trained.sessions, "rounds": trained.rounds}
    if json:
        print(as_json(found))
    else:
        print("dictionary {id}: {bytes} bytes, trained on {rounds} rounds of {sessions} sessions".format(**found))
        print('to use it, set in turnlog.toml: layers = [{ name = "zstd", dictionary = true }]', file=sys.stderr)


# --------------------------------------------------------------------------------------------------- remove-dictionary


def remove_dictionary(app: App) -> None:
    """Register `turnlog remove-dictionary`."""
    app.command(_remove_dictionary, name="remove-dictionary")


async def _remove_dictionary(id: int, /, *, store: str | None = None, namespace: str | None = None) -> None:
    """Remove a dictionary that may contain fragments of messages.

    First stop all processes that write to the namespace.  A process that still runs may compress turns with the removed
    dictionary, and these turns can never be read.  The command removes nothing if a record needs the dictionary, or if
    a session changes during the check.

    Args:
        id: The dictionary's id.
        store: The URL of the store, such as sqlite:///chat.db?layers=zstd.
        namespace: The namespace; a nested one is written outer/inner.
    """
    opened = open_existing(store, namespace=namespace)
    layer = _removing_layer(opened, store)
    async with opened:
        await layer.remove_dictionary(opened.namespace, id)
    print(f"dictionary {id} removed")


# -------------------------------------------------------------------------------------------------------------- layers


def _compression_layer(store: Store, url: str | None) -> _Recompresses:
    for layer in stack_of(store.backend):
        if isinstance(layer, _Recompresses):
            return layer
    raise _missing("compression layer", url)


def _training_layer(store: Store, url: str | None) -> _Trains:
    for layer in stack_of(store.backend):
        if isinstance(layer, _Trains):
            return layer
    raise _missing("layer that compresses with a dictionary", url)


def _removing_layer(store: Store, url: str | None) -> _Removes:
    for layer in stack_of(store.backend):
        if isinstance(layer, _Removes):
            return layer
    raise _missing("compression layer", url)


def _missing(what: str, url: str | None) -> ConfigError:
    """Return the error about a missing layer.

    Args:
        what: The kind of the layer.
        url: The URL on the command line; None: the store is the one in the configuration.
    """
    if url is None:
        return ConfigError(f"the store has no {what}: set TURNLOG_STORE_LAYERS=zstd, or layers in turnlog.toml")
    location, _, query = url.partition("?")
    options = [option for option in query.split("&") if option and not option.startswith("layers=")]
    return ConfigError(
        f"the store has no {what}: write --store {quote(location + '?' + '&'.join([*options, 'layers=zstd']))}"
    )
