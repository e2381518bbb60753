"""`Database`: executes the steps of operations."""

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

RESTORE: Final = "restore them from a backup, or name another database"


class Database(ABC):
    """Executes the steps of operations.  It receives a function that creates the steps, so that it can repeat them.

    Attributes:
        name: The name in messages, without a password.
        statements: The statements, compiled for this database.
        grace: Seconds from the expiry of a session until a sweep may remove it.
    """

    name: str
    statements: Statements
    grace: float = 0.0

    @abstractmethod
    async def open(self, migrate: Migrate) -> int | None:
        """Connect, and create or upgrade the tables, or only check them.

        Returns:
            The previous version of the tables; None: they did not exist.

        Raises:
            SchemaError: The tables have another version, are damaged, or are missing and must not be created.
            Unavailable: The database cannot be reached.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish the running operations, then disconnect."""

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
            make: Creates the steps.
            first: Creates the steps of a shortcut, which are executed first.  The steps of `make` follow if the
                shortcut returns None, or violates a primary key because the change was stored before.
            key: The session that the steps change; None: several sessions.
            again: Whether the steps recognize a repeat, so that they may be executed again if the answer was lost.

        Raises:
            Unavailable: Nothing was stored.
            OutcomeUnknown: The connection was lost before the answer arrived.
        """

    @abstractmethod
    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:
        """As `Backend.alone`."""

    def log_bytes(self) -> int:
        """Return the size in bytes of a log that the statement for stored bytes does not count."""
        return 0

    def check_version(self, found: int | None, migrate: Migrate) -> bool:
        """Return whether the tables must be created or upgraded; refuse tables that this version cannot use.

        Args:
            found: The version of the tables; None: they do not exist.
            migrate: Whether the tables may be created or upgraded.

        Raises:
            SchemaError: The tables are newer than this turnlog, or damaged; or they are older or missing, and must not
                be changed.
        """
        version = _migrations.newest()
        if found is not None and found < 1:
            raise SchemaError(f"the tables in {self.name} have version {found}, which does not exist: {RESTORE}")
        if found == version:
            return False
        if migrate == "auto" and (found is None or found < version):
            return True
        if found is None:
            raise SchemaError(f"{self.name} has no turnlog tables: to create them, run 'turnlog migrate'", missing=True)
        if found > version:
            raise SchemaError(
                f"the tables in {self.name} have version {found}, but this turnlog supports only version {version}: "
                "upgrade turnlog"
            )
        raise SchemaError(
            f"the tables in {self.name} have version {found}, but this turnlog needs version {version}: "
            "run 'turnlog migrate'"
        )
