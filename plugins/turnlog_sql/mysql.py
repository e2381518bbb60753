"""MySQL and MariaDB, by asyncmy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import asyncmy
from asyncmy import errors
from asyncmy.connection import Connection
from sqlalchemy import Double, literal_column
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy

from turnlog import SchemaError, TooLarge, TurnlogError, Unavailable

from . import _migrations
from ._database import Migrate
from ._schema import VERSION
from ._server import Failure, Server, in_a_line
from ._statements import Statements, Value
from ._steps import Row
from ._store import SQLStore, parsed
from ._tls import SSLMode, context

__all__ = ["MySQLStore"]

_LOCK: Final = "turnlog"  # the named lock of whoever changes the tables
_SESSION: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",  # a statement sees what was committed before it
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES'",  # nothing is cut to fit
)


class MySQLStore(SQLStore):
    """Sessions in MySQL or MariaDB, for any number of processes and machines.

    Args:
        url: `mysql://user:password@host:3306/database`.
        namespace: As in `Store`.
        ttl: As in `Store`.
        retain: As in `Store`.
        max_session_bytes: As in `Store`.
        pool_size: How many connections at most, in each event loop.
        timeout: Seconds to wait for a connection, and for an operation; then it is `Unavailable`.
        sslmode: `disable`, `require`, or `verify-full`, which is the one that cannot be listened to.
        sslrootcert: The file with the certificates that `verify-full` trusts; None: the system's.
        migrate: As in `SQLStore`.
        sweep: As in `SQLStore`.
        clock: Not used for sessions: their times, and what has expired, are told by the server's.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "default",
        ttl: float | None = None,
        retain: int | None = None,
        max_session_bytes: int | None = None,
        pool_size: int = 10,
        timeout: float = 30.0,
        sslmode: SSLMode = "disable",
        sslrootcert: str | None = None,
        migrate: Migrate = "auto",
        sweep: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        found = parsed(url, "mysql", "mysql://user:password@host:3306/database")
        connect = {
            "host": found.host or "localhost",
            "port": found.port or 3306,
            "user": found.username or "",
            "password": found.password or "",
            "db": found.database,
            "ssl": context(sslmode, sslrootcert),
        }
        place = f"{connect['host']}:{connect['port']}/{found.database or ''}"
        super().__init__(
            _MySQL(f"mysql {place}", connect, pool_size=pool_size, timeout=timeout),
            namespace=namespace,
            ttl=ttl,
            retain=retain,
            max_session_bytes=max_session_bytes,
            timeout=timeout,
            migrate=migrate,
            sweep=sweep,
            clock=clock,
        )


class _MySQL(Server[Connection]):
    """A MySQL or MariaDB database.

    Args:
        name: As in `Server`.
        options: What asyncmy connects with.
        pool_size: As in `Server`.
        timeout: As in `Server`.
    """

    def __init__(self, name: str, options: dict[str, Any], *, pool_size: int, timeout: float) -> None:
        super().__init__(name, pool_size=pool_size, timeout=timeout)
        self.statements = _statements()
        self._options = options

    async def open(self, migrate: Migrate) -> None:
        found = await self.with_connection(self._version)
        self.check_version(found, migrate)
        if found != VERSION:
            await self.with_connection(self._bring_up)

    async def connect(self) -> Connection:
        connection = await asyncmy.connect(**self._options, charset="utf8mb4", autocommit=True)
        for statement in _SESSION:
            await self.fetch(connection, statement, ())
        return connection

    def alive(self, connection: Connection) -> bool:
        return bool(connection.connected)

    def discard(self, connection: Connection) -> None:
        connection.close()

    async def bid_farewell(self, connection: Connection) -> None:
        await connection.ensure_closed()

    async def fetch(self, connection: Connection, sql: str, values: tuple[Value, ...]) -> Sequence[Row]:
        async with connection.cursor() as cursor:
            await cursor.execute(sql, values)
            rows: Sequence[Row] = await cursor.fetchall() if cursor.description else ()
        return rows

    async def execute_many(self, connection: Connection, sql: str, values: list[tuple[Value, ...]]) -> None:
        async with connection.cursor() as cursor:
            for one in values:
                await cursor.execute(sql, one)

    async def begin(self, connection: Connection) -> None:
        await self.fetch(connection, "START TRANSACTION", ())

    async def commit(self, connection: Connection) -> None:
        await self.fetch(connection, "COMMIT", ())

    async def roll_back(self, connection: Connection) -> None:
        await self.fetch(connection, "ROLLBACK", ())

    def meaning(self, error: BaseException) -> Failure | None:
        code = error.args[0] if error.args else 0
        if isinstance(error, errors.IntegrityError) and code == 1062:  # ER_DUP_ENTRY
            return Failure.DUPLICATE
        if code in (1205, 1213):  # ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK
            return Failure.BEGIN_ANEW
        if isinstance(error, (OSError, EOFError, errors.InterfaceError)) or code in (1053, 1927, 2006, 2013, 2055):
            return Failure.LOST  # ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED, CR_SERVER_GONE_ERROR, CR_SERVER_LOST, ...
        return Failure.REFUSED if isinstance(error, errors.MySQLError) else None

    def translated(self, error: BaseException) -> TurnlogError:
        said, code = in_a_line(error), error.args[0] if error.args else 0
        if code in (1146, 1054):  # ER_NO_SUCH_TABLE, ER_BAD_FIELD_ERROR
            return SchemaError(f"the tables in {self.name} are not as turnlog made them: {said}")
        if code in (1153, 2020):  # ER_NET_PACKET_TOO_LARGE, CR_NET_PACKET_TOO_LARGE
            return TooLarge(f"{self.name} takes no statement of this size: raise its max_allowed_packet")
        return Unavailable(f"{self.name}: {said}: nothing was done")

    # ------------------------------------------------------------------------------------------------------- the tables

    async def _version(self, connection: Connection) -> int | None:
        there = "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = %s"
        if not (await self.fetch(connection, there, ("turnlog_schema",)))[0][0]:
            return None
        found: int | None = (await self.fetch(connection, self.statements.version.sql, ()))[0][0]
        return found

    async def _bring_up(self, connection: Connection) -> None:
        """Step by step, under a lock; each can be done again, as this server rolls back no change of its tables."""
        if not (await self.fetch(connection, "SELECT GET_LOCK(%s, %s)", (_LOCK, self._timeout)))[0][0]:
            raise Unavailable(f"{self.name}: another process changes the tables for {self._timeout:g} s already")
        try:
            found = await self._version(connection)
            self.check_version(found, "auto")  # another process may have been quicker, or newer
            for version, step in _migrations.missing(found, self.statements.dialect):
                for statement in step:
                    await self._change(connection, statement)
                await self.fetch(connection, self.statements.set_version.sql, (version,))
        finally:
            await self.fetch(connection, "SELECT RELEASE_LOCK(%s)", (_LOCK,))

    async def _change(self, connection: Connection, statement: str) -> None:
        try:
            await self.fetch(connection, statement, ())
        except errors.MySQLError as error:
            if error.args[0] != 1061:  # ER_DUP_KEYNAME: the index is there already
                raise


@cache
def _statements() -> Statements:
    return Statements(MySQLDialect_asyncmy(), literal_column("(unix_timestamp(now(6)) + 0e0)", Double))
