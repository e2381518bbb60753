"""Optional methods of backends, of any plugin, for the commands that look after data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from turnlog import Backend
from turnlog.layers import stack_of
from turnlog.values import Finding, Remainder


@runtime_checkable
class Scrubs(Protocol):
    """It knows what deletions leave behind."""

    async def scrub(self) -> Sequence[Remainder]:
        """Remove what deleted sessions have left, as far as the backend can, and return what remains."""


@runtime_checkable
class Diagnoses(Protocol):
    """It knows its server and its files."""

    async def diagnose(self) -> Sequence[Finding]:
        """Return what is wrong with them."""


@runtime_checkable
class Sweeps(Protocol):
    """It removes expired sessions when it is told to."""

    async def sweep(self, *, now: bool = False) -> int:
        """Remove the sessions that have expired, and return how many there were.

        Args:
            now: Also those that the backend would keep for a while, because clocks differ.
        """


@runtime_checkable
class Postpones(Protocol):
    """It keeps expired sessions for a while, because clocks differ."""

    async def unswept(self) -> Sequence[Remainder]:
        """Return where expired sessions are that a sweep leaves, and until when."""


@runtime_checkable
class Checks(Protocol):
    """Its database can check itself."""

    async def check(self, *, quick: bool = False) -> list[str]:
        """Return what is damaged, a line each."""


async def scrubbed(backend: Backend) -> list[Remainder]:
    """Have the backend below all layers remove what deletions left, as far as it can, and return what remains."""
    if isinstance(backend, Scrubs):
        return [*await backend.scrub()]
    return [Remainder(f"perhaps the files of {backend.location or type(backend).__name__}", "its documentation says")]


def unfinished(remains: Sequence[Remainder]) -> bool:
    """Return whether a further command of turnlog could remove now something that an erasure has left."""
    return any(one.command.startswith("turnlog ") for one in remains)


def lowest(backend: Backend) -> Backend:
    """Return the backend below all layers."""
    *_, found = stack_of(backend)
    return found
