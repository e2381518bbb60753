"""What the store asks of a database, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

from turnlog import SchemaError

from ._schema import VERSION
from ._statements import Statements
from ._steps import Steps

T = TypeVar("T")

Migrate: TypeAlias = Literal["auto", "check"]


class Database(ABC):
    """Drives steps.  They come as what makes them, because after a deadlock they are begun anew.

    Attributes:
        name: What messages call it; without a password.
        statements: Compiled for it.
    """

    name: str
    statements: Statements

    @abstractmethod
    async def open(self, migrate: Migrate) -> None:
        """Connect, and bring the tables to this version, or only look at them.

        Raises:
            SchemaError: The tables are of another version, or not there and not to be made.
            Unavailable: It cannot be reached.
        """

    @abstractmethod
    async def close(self) -> None:
        """Do what was asked for until now, then disconnect."""

    @abstractmethod
    async def read(self, make: Callable[[], Steps[T]]) -> T:
        """Do steps of which each statement stands for itself.

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

    def check_version(self, found: int | None, migrate: Migrate) -> None:
        """Refuse tables that this version cannot use.

        Args:
            found: Their version; None: there are none.
            migrate: Whether older ones may be brought to this one.

        Raises:
            SchemaError: They are newer; or older, or not there, and only to be looked at.
        """
        if found == VERSION or (migrate == "auto" and (found is None or found < VERSION)):
            return
        if found is None:
            raise SchemaError(f"{self.name} has no tables of turnlog: make them with 'turnlog migrate'")
        if found > VERSION:
            raise SchemaError(
                f"the tables in {self.name} are of version {found}, this turnlog knows {VERSION}: upgrade it"
            )
        raise SchemaError(
            f"the tables in {self.name} are of version {found}, this turnlog needs {VERSION}: run 'turnlog migrate'"
        )
