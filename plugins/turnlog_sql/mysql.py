"""`MySQLBackend`: MySQL and MariaDB, with the driver asyncmy.

A read takes one round trip, and so does an append to a session that was read before.  Several statements are sent in
one packet, so that any other commit takes two round trips: one to find and lock rows, and one to store.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import inf
from typing import Any, ClassVar, Final, Literal

import asyncmy
from asyncmy import errors
from asyncmy.connection import Connection
from sqlalchemy import Double, literal_column
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy

from turnlog import CorruptRecord, SchemaError, TooLarge, TurnlogError, Unavailable
from turnlog.errors import InvalidInput
from turnlog.runtime import Reason, SSLMode, keep_alive, tls_context, why_unreachable
from turnlog.values import Capability, Finding, Remainder

from . import _migrations, _upkeep
from ._database import RESTORE, Migrate
from ._location import check_socket, host_and_port, parse_database_url
from ._refusals import CHECK, DENIED, NO_DATABASE, NO_PASSWORD, NO_PERMISSION, NO_TLS, READ_ONLY
from ._rows import Row
from ._server import Failure, Server, in_a_line
from ._statements import SNAPSHOT, Statements, Value
from ._store import SQLBackend

__all__ = ["MySQLBackend"]

_LOCK: Final = "turnlog"  # the named lock that is held to change the tables
_JOINED: Final = 1 << 20  # the limit in bytes for statements that are sent together; a single one may be larger
_SESSION: Final = (
    "SET NAMES utf8mb4;"  # overrides the server's default, because the client quotes the parameters
    "SET SESSION autocommit = 1;"
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;"  # a statement sees all earlier commits
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES', time_zone = '+00:00';"  # no truncation; no repeated hour
    "SET SESSION innodb_lock_wait_timeout = {third};"  # seconds: a third leaves time for another attempt
    "/*M!100300 SET SESSION idle_transaction_timeout = {third} */;"  # MariaDB: ends the transaction of a lost client
    "SELECT @@max_allowed_packet"
)


class MySQLBackend(SQLBackend):
    """Sessions in MySQL or MariaDB, for any number of processes and machines.

    Args:
        url: `mysql://user:password@host:3306/database`, or the same with `mariadb`.
        ttl: As in `Backend`.
        password: The password, if the URL has none.
        unix_socket: The path of a Unix socket, such as `/run/mysqld/mysqld.sock`, in place of a host in the URL.
        charset: `utf8mb4`, which the store always uses.
        pool_size: The largest number of connections in each event loop.
        timeout: Limit of the duration of an operation in seconds, including waits; after it, `Unavailable` is raised.
            A connection attempt takes at most 5 of these seconds, and the wait for a lock at most a third of them.
        sslmode: As in `tls_context`; only `verify-full` is safe against an attacker in the network.
        sslrootcert: As in `tls_context`.
        migrate: As in `SQLBackend`.
        sweep: As in `SQLBackend`.
        clock: The time of turns; the server's clock sets the times and the expiry of sessions.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    capabilities: frozenset[Capability] = frozenset({"shared", "threads", "processes", "durable", "server_clock"})

    def __init__(
        self,
        url: str,
        *,
        ttl: float | None = None,
        password: str | None = None,
        unix_socket: str | None = None,
        charset: Literal["utf8mb4"] = "utf8mb4",
        pool_size: int = 10,
        timeout: float = 30.0,
        sslmode: SSLMode = "disable",
        sslrootcert: str | None = None,
        migrate: Migrate = "auto",
        sweep: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        found = parse_database_url(
            url,
            ("mysql", "mariadb"),
            "mysql://user:password@host:3306/database",
            driver="asyncmy",
            password=password,
        )
        if charset != "utf8mb4":
            raise InvalidInput(f"charset must be utf8mb4, not {charset!r}: other ones cannot hold every character")
        if unix_socket is not None:
            check_socket(found, "unix_socket", unix_socket, sslmode)
        host, port = host_and_port(found)
        connect = {
            "host": host or "localhost",
            "port": port or 3306,
            "unix_socket": unix_socket,
            "user": found.username or "",
            "password": (found.password or "").encode(),  # the driver would encode text as latin-1
            "db": found.database,
            "ssl": tls_context("disable" if unix_socket else sslmode, sslrootcert),
        }
        location = f"{unix_socket or '{host}:{port}'.format_map(connect)}/{found.database}"
        super().__init__(
            _MySQL(
                f"mysql {location}", connect, may_be_plain=sslmode == "prefer", pool_size=pool_size, timeout=timeout
            ),
            ttl=ttl,
            timeout=timeout,
            migrate=migrate,
            sweep=sweep,
            clock=clock,
        )

    instead: ClassVar[Mapping[str, str]] = {
        "connect_timeout": "write timeout, which limits each operation and its connecting",
        "database": "write the database into the URL, after the host",
        "host": "write the host into the URL, or unix_socket for a path",
        "port": "write the port into the URL, after the host",
        "socket": "write unix_socket",
        "ssl": "write sslmode=require or sslmode=verify-full",
        "ssl-ca": "write sslrootcert",
        "ssl_ca": "write sslrootcert",
        "ssl-mode": "write sslmode=require, sslmode=verify-ca or sslmode=verify-full",
        "ssl_mode": "write sslmode=require, sslmode=verify-ca or sslmode=verify-full",
        "sslaccept": "write sslmode=verify-full",
        "user": "write the user into the URL, before the host",
        "useSSL": "write sslmode=require or sslmode=verify-full",
    }
    """Options of other programs, and what to write in their place."""

    async def scrub(self) -> Sequence[Remainder]:
        """Return the remains of deleted sessions on the server; only its administrator can remove them."""
        return _upkeep.remainders_of_mysql(self._database.name, await self._settings())

    async def diagnose(self) -> Sequence[Finding]:
        """Return the settings of the server that put sessions at risk."""
        return _upkeep.risks_of_mysql(self._database.name, await self._settings())

    async def _settings(self) -> Sequence[Any]:
        self.check_open()
        query = _upkeep.SETTINGS_OF_MYSQL
        return await self._database.read(lambda: _upkeep.asked(self._statements, query))


@dataclass
class _BufferedConnection:
    """A connection, and the unsent statements of a transaction."""

    driver: Connection
    limit: int
    """The server's `max_allowed_packet`, in bytes."""
    until: float = inf
    """The deadline of its requests, by the monotonic clock."""
    transacts: bool = False
    waiting: list[bytes] = field(default_factory=list)


class _MySQL(Server[_BufferedConnection]):
    """A MySQL or MariaDB database.

    Args:
        name: As in `Server`.
        options: The arguments of `asyncmy.connect`.
        may_be_plain: Whether to connect without TLS to a server that offers none.
        pool_size: As in `Server`.
        timeout: As in `Server`.
    """

    def __init__(
        self, name: str, options: dict[str, Any], *, may_be_plain: bool, pool_size: int, timeout: float
    ) -> None:
        super().__init__(name, pool_size=pool_size, timeout=timeout)
        self.statements = _statements()
        self._options = options | {"charset": "utf8mb4", "autocommit": True}
        self._may_be_plain = may_be_plain
        self._session = _SESSION.format(third=max(1, int(timeout / 3)))

    async def open(self, migrate: Migrate) -> int | None:
        found = await self.with_connection(self._version)
        if self.check_version(found, migrate):
            found = await self.with_connection(self._bring_up)
        await self.with_connection(lambda connection: self.fetch(connection, _probe(), ()))
        return found

    async def connect(self) -> _BufferedConnection:
        connection = _BufferedConnection(await self._driver(), _JOINED)
        keep_alive(_transport(connection.driver))
        try:
            ((connection.limit,),) = await self.fetch(connection, self._session, ())
        except BaseException:
            self.discard(connection)
            raise
        return connection

    async def _driver(self) -> Connection:
        try:
            return await asyncmy.connect(**self._options)
        except (errors.MySQLError, OSError, EOFError) as error:
            # a server without TLS ends the connection, or answers to the TLS handshake with an error of its own
            if not self._may_be_plain or error.args[:1] in [(code,) for code in _REASONS]:
                raise
        return await asyncmy.connect(**self._options | {"ssl": None})

    def alive(self, connection: _BufferedConnection) -> bool:
        driver = connection.driver
        broken: bool = getattr(driver, "_stream_broken")  # noqa: B009 -- private, but the driver's pool also uses it
        return driver.connected and not broken

    def discard(self, connection: _BufferedConnection) -> None:
        transport = _transport(connection.driver)
        if transport is not None:
            transport.abort()  # the driver's `close` would wait until all data is sent
        connection.driver.close()

    async def close_connection(self, connection: _BufferedConnection) -> None:
        await connection.driver.ensure_closed()

    async def fetch(self, connection: _BufferedConnection, sql: str, values: tuple[Value, ...]) -> Sequence[Row]:
        cursor = connection.driver.cursor()
        if connection.transacts:
            sql = sql.removeprefix(SNAPSHOT).removesuffix(";COMMIT")  # beginning a snapshot would end the transaction
        statement = cursor.mogrify(sql, values or None).encode("utf-8", "surrogateescape")
        if not connection.transacts:
            return await self._send(connection, [statement])
        rows: Sequence[Row] = ()
        if sum(map(len, connection.waiting)) + len(statement) > min(_JOINED, connection.limit // 2):
            await self._flush(connection)
        connection.waiting.append(statement)
        if sql.startswith("SELECT"):
            rows = await self._flush(connection)
        return rows

    async def execute_many(self, connection: _BufferedConnection, sql: str, values: list[tuple[Value, ...]]) -> None:
        for one in values:
            await self.fetch(connection, sql, one)

    async def begin(self, connection: _BufferedConnection) -> None:
        connection.transacts = True
        connection.waiting = [b"START TRANSACTION"]

    async def commit(self, connection: _BufferedConnection) -> None:
        connection.transacts = False
        connection.waiting.append(b"COMMIT")
        await self._flush(connection)

    async def roll_back(self, connection: _BufferedConnection) -> None:
        connection.transacts = False
        connection.waiting = []
        await self._send(connection, [b"ROLLBACK"])

    async def _flush(self, connection: _BufferedConnection) -> Sequence[Row]:
        waiting, connection.waiting = connection.waiting, []
        return await self._send(connection, waiting) if waiting else ()

    async def _send(self, connection: _BufferedConnection, statements: list[bytes]) -> Sequence[Row]:
        """Execute statements in one round trip; return the rows of the last statement that returns rows.

        After a failed statement the server executes none of the others, and thus no COMMIT.
        """
        packet = b";".join(statements)
        rows: Sequence[Row] = ()
        try:
            self._check_size(connection, packet)
            async with asyncio.timeout(self.left(connection)), connection.driver.cursor() as cursor:
                await cursor.execute(packet)
                more: bool | None = True
                while more:
                    if cursor.description:
                        rows = await cursor.fetchall()
                    more = await cursor.nextset()
        except (errors.MySQLError, TooLarge):
            if not connection.transacts and self.alive(connection) and statements != [b"ROLLBACK"]:
                await self.roll_back(connection)  # the packet may have begun a transaction
            raise
        return rows

    def _check_size(self, connection: _BufferedConnection, packet: bytes) -> None:
        """Refuse a packet that would make the server close the connection."""
        if len(packet) >= connection.limit:
            raise TooLarge(
                f"{self.name} refuses statements of {len(packet)} bytes: increase max_allowed_packet on the server"
            )

    def meaning(self, error: BaseException) -> Failure | None:
        code = error.args[0] if error.args else 0
        if isinstance(error, errors.IntegrityError) and code == 1062:  # ER_DUP_ENTRY
            return Failure.DUPLICATE
        if code in (1205, 1213):  # ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK
            return Failure.BEGIN_ANEW
        if isinstance(error, (OSError, EOFError, errors.InterfaceError)) or code in _LOST:
            return Failure.LOST
        return Failure.REFUSED if isinstance(error, errors.MySQLError) else None

    def translated(self, error: BaseException) -> TurnlogError:
        said, code = in_a_line(error), error.args[0] if error.args else 0
        if len(error.args) == 2 and type(code) is int:  # a number and a text
            said = f"{error.args[1]} ({code})"
        if code in _DAMAGE:
            return CorruptRecord(f"the database {self.name} is damaged: {said}; restore it from a backup")
        if code in (1146, 1054):  # ER_NO_SUCH_TABLE, ER_BAD_FIELD_ERROR
            return SchemaError(f"the tables in {self.name} are not as turnlog created them ({said}): {RESTORE}")
        reason = _REASONS.get(code) or _missing_package(error)
        if reason is DENIED and not self._options["password"]:
            reason = NO_PASSWORD
        if reason in (DENIED, NO_PASSWORD) and self._options["ssl"] is None and not self._options["unix_socket"]:
            reason = reason._replace(remedy=f"{reason.remedy}; if the account requires TLS, {_TLS}")
        if reason is not None:
            return reason.error(self.name, said)
        if "WRONG_VERSION_NUMBER" in said:  # the server answers to the TLS handshake with an error of its own
            return NO_TLS.error(self.name)
        if (code == 2003 or isinstance(error, OSError)) and (reason := why_unreachable(error)):  # CR_CONN_HOST_ERROR
            return reason.error(self.name)
        foreign = said.startswith("Packet sequence number wrong")  # the greeting is not one of MySQL
        check = f"; {CHECK}" if foreign or self.meaning(error) is Failure.LOST else ""
        return Unavailable(f"{self.name}: {said}: nothing was done{check}")

    # ------------------------------------------------------------------------------------------------------- the tables

    async def _version(self, connection: _BufferedConnection) -> int | None:
        there = "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = %s"
        if not (await self.fetch(connection, there, ("turnlog_schema",)))[0][0]:
            return None
        found: int | None = (await self.fetch(connection, self.statements.version.sql, ()))[0][0]
        return found

    async def _bring_up(self, connection: _BufferedConnection) -> int | None:
        """Create or upgrade the tables under a lock; return their previous version.

        The server cannot roll back a change of its tables, so each step can be repeated.
        """
        if not (await self.fetch(connection, "SELECT GET_LOCK(%s, %s)", (_LOCK, self._timeout)))[0][0]:
            raise Unavailable(
                f"{self.name}: another process has been changing the tables for {self._timeout:g} s: try again later"
            )
        try:
            found = await self._version(connection)
            self.check_version(found, "auto")  # another process may have changed the tables since the first check
            for version, step in _migrations.missing(found, self.statements.dialect):
                for statement in step:
                    await self._change(connection, statement)
                await self.fetch(connection, self.statements.set_version.sql, (version,))
            return found
        finally:
            await self.fetch(connection, "SELECT RELEASE_LOCK(%s)", (_LOCK,))

    async def _change(self, connection: _BufferedConnection, statement: str) -> None:
        try:
            await self.fetch(connection, statement, ())
        except errors.MySQLError as error:
            if error.args[0] != 1061:  # ER_DUP_KEYNAME: the index exists
                raise


_LOST: Final = (
    1053,  # ER_SERVER_SHUTDOWN
    1080,  # ER_FORCING_CLOSE
    1180,  # ER_ERROR_DURING_COMMIT: the outcome is unknown
    1927,  # ER_CONNECTION_KILLED
    2006,  # CR_SERVER_GONE_ERROR
    2013,  # CR_SERVER_LOST
    2055,  # CR_SERVER_LOST_EXTENDED
)


@cache
def _transport(driver: Connection) -> asyncio.Transport | None:
    found: asyncio.Transport | None = getattr(driver, "_transport")  # noqa: B009 -- private; nothing public exists
    return found


def _missing_package(error: BaseException) -> Reason | None:
    """Return the reason if the driver lacks a package for the authentication of the account; else None."""
    found = re.search(r"'(\w+)' package is required", str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    why = "the server's authentication needs a package that is not installed"
    return Reason(why, f"run: pip install {found[1]}", permanent=True)


def _probe() -> str:
    return _migrations.probe(_statements().dialect)


_TLS: Final = "add sslmode=verify-full or sslmode=require"
_EXPIRED: Final = Reason("the password has expired", "set a new one on the server, and in the URL", permanent=True)
_LOCKED: Final = Reason(
    "the account is locked", "unlock it on the server (ALTER USER ... ACCOUNT UNLOCK)", permanent=True
)
_REASONS: Final[dict[object, Reason]] = {
    1044: NO_PERMISSION,  # ER_DBACCESS_DENIED_ERROR
    1045: DENIED,  # ER_ACCESS_DENIED_ERROR
    1049: NO_DATABASE,  # ER_BAD_DB_ERROR
    1142: NO_PERMISSION,  # ER_TABLEACCESS_DENIED_ERROR
    1143: NO_PERMISSION,  # ER_COLUMNACCESS_DENIED_ERROR
    1130: Reason(  # ER_HOST_NOT_PRIVILEGED
        "the server denies access from this host", "create a user for this host on the server", permanent=True
    ),
    1227: NO_PERMISSION,  # ER_SPECIFIC_ACCESS_DENIED_ERROR
    1290: READ_ONLY,  # ER_OPTION_PREVENTS_STATEMENT, such as read_only
    1698: DENIED,  # ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    1820: _EXPIRED,  # ER_MUST_CHANGE_PASSWORD
    1862: _EXPIRED,  # ER_MUST_CHANGE_PASSWORD_LOGIN
    2059: Reason(  # CR_AUTH_PLUGIN_CANNOT_LOAD
        "the driver does not know the authentication of this account",
        "give it a password with caching_sha2_password, mysql_native_password or ed25519 on the server",
        permanent=True,
    ),
    3118: _LOCKED,  # ER_ACCOUNT_HAS_BEEN_LOCKED, of MySQL
    3159: Reason(  # ER_SECURE_TRANSPORT_REQUIRED
        "the server requires TLS", f"{_TLS} to the URL", permanent=True
    ),
    4151: _LOCKED,  # ER_ACCOUNT_HAS_BEEN_LOCKED, of MariaDB
    1792: READ_ONLY,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
    1836: READ_ONLY,  # ER_READ_ONLY_MODE
}
"""The meanings of refusals."""

_DAMAGE: Final = (
    1034,  # ER_NOT_KEYFILE
    1035,  # ER_OLD_KEYFILE
    1194,  # ER_CRASHED_ON_USAGE
    1242,  # ER_SUBQUERY_NO_1_ROW: two rows for one key
    1712,  # ER_INDEX_CORRUPT
    1877,  # ER_TABLE_CORRUPT
)


@cache
def _statements() -> Statements:
    """Return the statements, with two clocks.

    `now` is the time at which a statement began, and allows the use of an index.  `sysdate` is the present time, after
    a wait for a lock.  A locking read sees the latest commit
    (dev.mysql.com/doc/refman/8.4/en/innodb-consistent-read.html).  This includes the remembered changes, because they
    are found by the row that was locked before.
    """
    now, later = (literal_column(f"(unix_timestamp({clock}(6)) + 0e0)", Double) for clock in ("now", "sysdate"))
    return Statements(MySQLDialect_asyncmy(), now, later)
