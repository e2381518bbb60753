"""`Database`: what executes the steps of an operation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Literal, TypeAlias, TypeVar

from turnlog import Key, SchemaError

from . import _migrations
from ._operations import Steps
from ._statements import Statements

T = TypeVar("T")

Migrate: TypeAlias = Literal["auto", "check"]

RESTORE: Final = "restore them from a backup"


class Database(ABC):
    """Executes the steps of operations.  It receives a function that makes them, so that it can begin again.

    Attributes:
        name: Its name in messages, without a password.
        statements: The statements, compiled for it.
        grace: Seconds from the expiry of a session until a sweep may remove it.
    """

    name: str
    statements: Statements
    grace: float = 0.0

    @abstractmethod
    async def open(self, migrate: Migrate) -> int | None:
        """Connect, and create or upgrade the tables, or only check them.

        Returns:
            The version that the tables had before; None: there were none.

        Raises:
            SchemaError: The tables are of another version, damaged, or missing and not to be created.
            Unavailable: The database cannot be reached.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish the operations that have begun, then disconnect."""

    @abstractmethod
    async def read(self, make: Callable[[], Steps[T]]) -> T:
        """Execute steps without a transaction; they may open a snapshot themselves.

        Raises:
            Unavailable: The database could not be reached.
        """

    @abstractmethod
    async def write(
        self,
        make: Callable[[], Steps[T]],
        *,
        first: Callable[[], Steps[T | None]] | None = None,
        key: Key | None = None,
        again: bool = False,
    ) -> T:
        """Execute steps in one transaction.

        Args:
            make: Makes the steps.
            first: Makes the steps of a shortcut.  They come first; if they return None, or violate a primary key
                because the change was stored before, those of `make` follow.
            key: The session that they change; None: several.
            again: Whether the steps recognize that they were carried out before, if the answer was lost.

        Raises:
            Unavailable: Nothing was stored.
            OutcomeUnknown: The connection was lost before the answer came.
        """

    @abstractmethod
    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:
        """As `Backend.alone`."""

    def log_bytes(self) -> int:
        """Return how many bytes a log takes that no statement counts."""
        return 0

    def check_version(self, found: int | None, migrate: Migrate) -> bool:
        """Return whether the tables must be created or upgraded; refuse those that this version cannot use.

        Args:
            found: Their version; None: there are none.
            migrate: Whether they may be created or upgraded.

        Raises:
            SchemaError: They are newer, or damaged; or they are older, or missing, and only to be checked.
        """
        version = _migrations.newest()
        if found is not None and found < 1:
            raise SchemaError(f"the tables in {self.name} have version {found}, which does not exist: {RESTORE}")
        if found == version:
            return False
        if migrate == "auto" and (found is None or found < version):
            return True
        if found is None:
            raise SchemaError(f"{self.name} has no tables of turnlog: create them with 'turnlog migrate'", missing=True)
        if found > version:
            raise SchemaError(
                f"the tables in {self.name} have version {found}, this turnlog knows up to {version}: upgrade turnlog"
            )
        raise SchemaError(
            f"the tables in {self.name} have version {found}, and this turnlog needs {version}: run 'turnlog migrate'"
        )
