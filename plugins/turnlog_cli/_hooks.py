"""What a backend of any plugin may offer to the commands that look after data."""

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

    async def sweep(self) -> int:
        """Remove the sessions that have expired, and return how many there were."""


@runtime_checkable
class Checks(Protocol):
    """Its database can check itself."""

    async def check(self, *, quick: bool = False) -> list[str]:
        """Return what is damaged, a line each."""


def lowest(backend: Backend) -> Backend:
    """Return the backend below all layers."""
    *_, found = stack_of(backend)
    return found
