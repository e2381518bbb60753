"""What the store asks of a database, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, TypeVar

from turnlog import SchemaError

from . import _migrations
from ._operations import Steps
from ._statements import Statements

T = TypeVar("T")

Migrate: TypeAlias = Literal["auto", "check"]

RESTORE: Final = "restore them from a backup"


class Database(ABC):
    """Drives steps.  They come as what makes them, because after a deadlock they are begun anew.

    Attributes:
        name: What messages call it; without a password.
        statements: Compiled for it.
    """

    name: str
    statements: Statements

    @abstractmethod
    async def open(self, migrate: Migrate) -> int | None:
        """Connect, and bring the tables to this version, or only look at them.

        Returns:
            The version that they had before; None: there were none.

        Raises:
            SchemaError: The tables are of another version, or damaged, or not there and not to be made.
            Unavailable: It cannot be reached.
        """

    @abstractmethod
    async def close(self) -> None:
        """Do what was asked for until now, then disconnect."""

    @abstractmethod
    async def read(self, make: Callable[[], Steps[T]]) -> T:
        """Do steps of which each statement stands for itself, but for a snapshot that they open.

        Raises:
            Unavailable: It could not be reached.
        """

    @abstractmethod
    async def write(self, make: Callable[[], Steps[T]], *, first: Callable[[], Steps[T | None]] | None = None) -> T:
        """Do steps in one transaction.

        Args:
            make: Makes the steps.
            first: Makes others, which may do it at once: they come first, and where they answer None, or find that it
                was done before, those of `make` follow.

        Raises:
            Unavailable: Nothing was stored.
            OutcomeUnknown: It was lost whether it was stored.
        """

    def check_version(self, found: int | None, migrate: Migrate) -> bool:
        """Whether tables are to be brought to this version; refuse those that it cannot use.

        Args:
            found: Their version; None: there are none.
            migrate: Whether older ones may be brought to this one.

        Raises:
            SchemaError: They are newer, or damaged; or older, or not there, and only to be looked at.
        """
        version = _migrations.newest()
        if found is not None and found < 1:
            raise SchemaError(f"the tables in {self.name} are of version {found}, which there never was: {RESTORE}")
        if found == version:
            return False
        if migrate == "auto" and (found is None or found < version):
            return True
        if found is None:
            raise SchemaError(f"{self.name} has no tables of turnlog: make them with 'turnlog migrate'")
        if found > version:
            raise SchemaError(
                f"the tables in {self.name} are of version {found}, this turnlog knows {version}: upgrade it"
            )
        raise SchemaError(
            f"the tables in {self.name} are of version {found}, this turnlog needs {version}: run 'turnlog migrate'"
        )
