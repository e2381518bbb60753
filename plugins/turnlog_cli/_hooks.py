"""Optional methods of backends, of any plugin, for the maintenance commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from turnlog import Backend
from turnlog.layers import stack_of
from turnlog.values import Finding, Remainder


@runtime_checkable
class Scrubs(Protocol):
    """A backend that can remove or name the remains of deleted sessions."""

    async def scrub(self) -> Sequence[Remainder]:
        """Remove the remains of deleted sessions as far as possible, and return the others."""


@runtime_checkable
class Diagnoses(Protocol):
    """A backend that can check its server and its files."""

    async def diagnose(self) -> Sequence[Finding]:
        """Return the problems."""


@runtime_checkable
class Sweeps(Protocol):
    """A backend that removes expired sessions on request."""

    async def sweep(self, *, now: bool = False) -> int:
        """Remove the expired sessions, and return their number.

        Args:
            now: Also remove those that the backend would keep for a while, because clocks may differ.
        """


@runtime_checkable
class Postpones(Protocol):
    """A backend that keeps expired sessions for a while, because clocks may differ."""

    async def unswept(self) -> Sequence[Remainder]:
        """Return the expired sessions that a sweep does not remove yet."""


@runtime_checkable
class Checks(Protocol):
    """A backend whose database can check itself."""

    async def check(self, *, quick: bool = False) -> list[str]:
        """Return one line for each problem."""


async def scrubbed(backend: Backend) -> list[Remainder]:
    """Let a backend remove the remains of deleted sessions as far as it can, and return the others."""
    if isinstance(backend, Scrubs):
        return [*await backend.scrub()]
    where = f"perhaps the files of {backend.location or type(backend).__name__}"
    return [Remainder(where, "the time that the documentation of the backend states")]


def unfinished(remains: Sequence[Remainder]) -> bool:
    """Return whether another command of turnlog can remove a part of the remains now."""
    return any(one.command.startswith("turnlog ") for one in remains)


def lowest(backend: Backend) -> Backend:
    """Return the backend below all layers."""
    *_, found = stack_of(backend)
    return found
