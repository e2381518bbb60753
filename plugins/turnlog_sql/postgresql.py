"""`PostgreSQLBackend`: PostgreSQL, with the driver asyncpg.

A read takes one round trip, and so does an append to a session that was read before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import inf
from typing import Any, ClassVar, Final, Literal, TypeAlias

import asyncpg
from sqlalchemy import Double, cast, extract, func
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from turnlog import CorruptRecord, SchemaError, TurnlogError, Unavailable
from turnlog.errors import InvalidInput
from turnlog.runtime import Reason, SSLMode, keep_alive, tls_context, why_unreachable
from turnlog.values import Capability, Finding, Remainder

from . import _migrations, _upkeep
from ._database import MIGRATE, RESTORE, Migrate
from ._location import check_socket, parse_database_url
from ._refusals import CHECK, DENIED, NO_DATABASE, NO_PASSWORD, NO_PERMISSION, NO_TLS, NO_USER, READ_ONLY
from ._rows import Row
from ._server import Failure, Server, in_a_line
from ._statements import Statements, Value
from ._store import SQLBackend

__all__ = ["PostgreSQLBackend"]

_LOCK: Final = 0x7475_726E_6C6F_6721  # "turnlog!": the advisory lock that is held to change the tables

_EXISTS: Final = (  # to_regclass would return a cached answer from before the wait for the lock
    "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'turnlog_schema' AND pg_table_is_visible(oid))"
)

_NO_SCHEMA: Final = "SELECT current_schema() IS NULL"  # the only one in the search_path does not exist
_HAS_SCHEMA: Final = "SELECT to_regnamespace($1) IS NOT NULL"
_LONGEST: Final = 63  # bytes of an identifier (postgresql.org/docs/current/limits.html)

_ChannelBinding: TypeAlias = Literal["disable", "prefer", "require"]
_Target: TypeAlias = Literal["any", "primary", "standby", "read-write", "read-only", "prefer-standby"]

_PLANS: Final = {
    "plan_cache_mode": "force_generic_plan",  # the values do not matter, and planning takes as long as the execution
    "enable_seqscan": "off",  # the plan may be made while the table is empty, but must also suit a large table
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


class PostgreSQLBackend(SQLBackend):
    """Sessions in PostgreSQL, for any number of processes and machines.

    Args:
        url: `postgresql://user:password@host:5432/database`, or the same with `postgres`.  It may name several hosts,
            separated by commas: they are tried in this order.
        ttl: As in `Backend`.
        password: The password, if the URL has none.
        host: The folder of a Unix socket, such as `/var/run/postgresql`, in place of a host in the URL.
        schema: The schema of the tables, which is created with them; None: the first in the `search_path` of the user.
        pool_size: The largest number of connections in each event loop.
        timeout: Limit of the duration of an operation in seconds, including waits; after it, `Unavailable` is raised.
            A connection attempt takes at most 5 of these seconds, and the wait for a lock at most a third of them.
        sslmode: As in `tls_context`; only `verify-full` is safe against an attacker in the network.
        sslrootcert: As in `tls_context`.
        channel_binding: `require`: the server must be verified.  The driver has no channel binding, so this is
            `verify-full`, which protects against the same attack.  `prefer`, `disable`: no effect.
        target_session_attrs: The kind of server to use among several hosts
            (postgresql.org/docs/current/libpq-connect.html).
        prepare: Whether statements are prepared.  False is needed with pgbouncer in transaction mode, which shares
            connections between clients and accepts no settings from them.
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
        host: str | None = None,
        schema: str | None = None,
        pool_size: int = 10,
        timeout: float = 30.0,
        sslmode: SSLMode = "disable",
        sslrootcert: str | None = None,
        channel_binding: _ChannelBinding = "prefer",
        target_session_attrs: _Target = "any",
        prepare: bool = True,
        migrate: Migrate = "auto",
        sweep: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        found = parse_database_url(
            url,
            ("postgresql", "postgres"),
            "postgresql://user:password@host:5432/database",
            driver="asyncpg",
            password=password,
        )
        if channel_binding == "require":
            if sslmode == "disable":
                raise InvalidInput("channel_binding require needs TLS: set sslmode to verify-full")
            sslmode = "verify-full"
        if schema is not None and (not prepare or not schema or len(schema.encode()) > _LONGEST or "\0" in schema):
            raise InvalidInput(
                f"schema must be a name of up to {_LONGEST} bytes, and needs prepare=yes: for a pgbouncer, run "
                "ALTER ROLE ... SET search_path"
            )
        context = tls_context(sslmode, sslrootcert)
        hosts = [(name or "localhost", port or 5432) for name, port in found.hosts]
        if host is not None:
            check_socket(found, "host", host, sslmode)
            hosts = [(host, hosts[0][1] if hosts else 5432)]
        connect = {
            "host": [name for name, _ in hosts] or None,  # the driver asks the environment, as libpq does
            "port": [port for _, port in hosts] or None,
            "user": found.username,
            "password": found.password,
            "database": found.database,
            "ssl": "prefer" if sslmode == "prefer" else context or False,
            "target_session_attrs": target_session_attrs,
        }
        names = ",".join(f"{name}:{port}" for name, port in hosts or [("localhost", 5432)])
        location = f"{names}/{found.database}" + ("" if schema is None else f", schema {schema!r}")
        super().__init__(
            _Postgres(
                f"postgresql {location}", connect, schema=schema, prepare=prepare, pool_size=pool_size, timeout=timeout
            ),
            ttl=ttl,
            timeout=timeout,
            migrate=migrate,
            sweep=sweep,
            clock=clock,
        )

    instead: ClassVar[Mapping[str, str]] = {
        "application_name": "leave it out",
        "connect_timeout": "write timeout, which limits each operation and its connecting",
        "dbname": "write the database into the URL, after the host",
        "hostaddr": "write the address into the URL, as the host",
        "options": "write schema=... for a search_path, and other settings as ALTER ROLE ... SET",
        "pgbouncer": "write prepare=no",
        "port": "write the port into the URL, after the host",
        "ssl": "write sslmode=require or sslmode=verify-full",
        "sslaccept": "write sslmode=verify-full",
        "statement_cache_size": "write prepare=no",
        "user": "write the user into the URL, before the host",
    }
    """Options of other programs, and what to write in their place."""

    async def scrub(self) -> Sequence[Remainder]:
        """Return the remains of deleted sessions on the server; only its administrator can remove them."""
        return _upkeep.remainders_of_postgresql(self._database.name)

    async def diagnose(self) -> Sequence[Finding]:
        """Return the settings of the server that put sessions at risk."""
        self.check_open()
        query = _upkeep.SETTINGS_OF_POSTGRESQL
        settings = await self._database.read(lambda: _upkeep.asked(self._statements, query))
        return _upkeep.risks_of_postgresql(self._database.name, settings)


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver has no types
    """A connection with TCP keep-alive and a deadline for its requests."""

    until = inf

    def __init__(self, protocol: Any, transport: asyncio.Transport, *more: Any) -> None:  # noqa: ANN401 - the driver's
        super().__init__(protocol, transport, *more)
        keep_alive(transport)


class _Postgres(Server[_Connection]):
    """A PostgreSQL database.

    Args:
        name: As in `Server`.
        options: The arguments of `asyncpg.connect`.
        schema: The schema of the tables; None: the first in the `search_path`.
        prepare: Whether to keep prepared statements.
        pool_size: As in `Server`.
        timeout: As in `Server`.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        *,
        schema: str | None,
        prepare: bool,
        pool_size: int,
        timeout: float,
    ) -> None:
        super().__init__(name, pool_size=pool_size, timeout=timeout)
        self.statements = _statements()
        third = str(int(timeout * 1000 / 3) + 1)  # milliseconds
        settings = _PLANS | {
            "lock_timeout": third,  # a third leaves time for another attempt
            "idle_in_transaction_session_timeout": third,  # releases the locks of a lost client before its next attempt
        }
        self._schema = None if schema is None else '"{}"'.format(schema.replace('"', '""'))  # an identifier
        if self._schema is not None:
            settings["search_path"] = self._schema
        kept = {"statement_cache_size": 200, "max_cached_statement_lifetime": 0, "server_settings": settings}
        self._options = options | (kept if prepare else {"statement_cache_size": 0})
        self._prepare = prepare

    async def open(self, migrate: Migrate) -> int | None:
        found = await self.with_connection(self._version)
        if found is None and migrate == "check":
            await self.with_connection(self._check_schema)
        if self.check_version(found, migrate):
            found = await self.with_connection(self._bring_up)
        await self.with_connection(lambda connection: self.fetch(connection, _probe(), ()))
        return found

    async def connect(self) -> _Connection:
        connection: _Connection = await asyncpg.connect(**self._options, connection_class=_Connection)
        return connection

    def alive(self, connection: _Connection) -> bool:
        return not connection.is_closed()

    def discard(self, connection: _Connection) -> None:
        connection.terminate()

    async def close_connection(self, connection: _Connection) -> None:
        await connection.close(timeout=self._timeout)

    async def fetch(self, connection: _Connection, sql: str, values: tuple[Value, ...]) -> Sequence[Row]:
        rows: Sequence[Row]
        if self._prepare or connection.is_in_transaction():
            rows = await connection.fetch(sql, *values, timeout=self.left(connection))
        else:  # the driver describes a statement before it executes it: both requests must reach the same server
            async with asyncio.timeout(self.left(connection)), connection.transaction():
                rows = await connection.fetch(sql, *values, timeout=self.left(connection))
        return rows

    async def execute_many(self, connection: _Connection, sql: str, values: list[tuple[Value, ...]]) -> None:
        await connection.executemany(sql, values, timeout=self.left(connection))

    async def begin(self, connection: _Connection) -> None:
        await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED", timeout=self.left(connection))

    async def commit(self, connection: _Connection) -> None:
        await connection.execute("COMMIT", timeout=self.left(connection))

    async def roll_back(self, connection: _Connection) -> None:
        await connection.execute("ROLLBACK", timeout=self.left(connection))

    def meaning(self, error: BaseException) -> Failure | None:
        if isinstance(error, (asyncpg.UniqueViolationError,)):
            return Failure.DUPLICATE
        if isinstance(
            error, (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
        ):
            return Failure.BEGIN_ANEW
        if isinstance(error, (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, *_ENDED)):
            return Failure.LOST
        return Failure.REFUSED if isinstance(error, asyncpg.PostgresError) else None

    def translated(self, error: BaseException) -> TurnlogError:
        said = in_a_line(error)
        if "Tenant or user not found" in said:  # of Supabase's pooler, with the code of an internal error
            return DENIED.error(self.name, said)
        if isinstance(error, _DAMAGE):
            return CorruptRecord(f"the database {self.name} is damaged: {said}; restore it from a backup")
        if isinstance(error, (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)):
            return SchemaError(f"the tables in {self.name} are not as turnlog created them ({said}): {RESTORE}")
        if isinstance(error, OSError):
            found = NO_TLS if "rejected SSL upgrade" in said else why_unreachable(error)
            if found is None:
                return Unavailable(f"{self.name} cannot be reached: {said}: nothing was done; {CHECK}")
            return found.error(self.name)
        if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
            kind = f"target_session_attrs={self._options['target_session_attrs']}"
            return Unavailable(
                f"{self.name}: no host in the URL is of the kind that {kind} asks for: nothing was done; add such a "
                "host, or set another kind"
            )
        if "no pg_hba.conf entry" in said or "pg_hba.conf rejects" in said:
            plain = "no encryption" in said or "SSL off" in said  # from version 14 on, and before
            return (_NO_RULE_WITHOUT_TLS if plain else _NO_RULE).error(self.name, said)
        if isinstance(error, asyncpg.InvalidPasswordError) and self._options["password"] is None:
            return (NO_USER if self._options["user"] is None else NO_PASSWORD).error(self.name, said)
        for kind, reason in _REASONS.items():
            if isinstance(error, kind):
                return reason.error(self.name, said)
        if isinstance(error, (asyncpg.ProtocolViolationError, asyncpg.ObjectNotInPrerequisiteStateError)):
            for part, reason in _TEXTS.items():
                if part in said:
                    return reason.error(self.name, said)
        check = f"; {CHECK}" if isinstance(error, asyncpg.PostgresConnectionError) else ""
        return Unavailable(f"{self.name}: {said}: nothing was done{check}")

    # ------------------------------------------------------------------------------------------------------- the tables

    async def _version(self, connection: _Connection) -> int | None:
        if not (await self.fetch(connection, _EXISTS, ()))[0][0]:
            return None
        found: int | None = (await self.fetch(connection, self.statements.version.sql, ()))[0][0]
        if found is None:
            raise SchemaError(f"{self.name} has a table turnlog_schema without a version: {RESTORE}")
        return found

    async def _check_schema(self, connection: _Connection) -> None:
        schema = self._schema
        if schema is not None and not (await self.fetch(connection, _HAS_SCHEMA, (schema,)))[0][0]:
            raise SchemaError(
                f"{self.name}: the schema does not exist: correct ?schema, or create it and the tables with: {MIGRATE}",
                missing=True,
            )

    async def _bring_up(self, connection: _Connection) -> int | None:
        async with connection.transaction(isolation="read_committed"):  # to see the commit that it waited for
            await connection.execute(
                "SET LOCAL lock_timeout = 0", timeout=self.left(connection)
            )  # wait for another migration
            await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})", timeout=self.left(connection))
            if self._schema is not None and (await self.fetch(connection, _NO_SCHEMA, ()))[0][0]:
                try:
                    await connection.execute(f"CREATE SCHEMA {self._schema}", timeout=self.left(connection))
                except asyncpg.InsufficientPrivilegeError as error:
                    raise _NO_SCHEMA_OF_USER.error(self.name, in_a_line(error)) from error
            found = await self._version(connection)
            self.check_version(found, "auto")  # another process may have changed the tables since the first check
            for version, step in _migrations.missing(found, self.statements.dialect):
                for statement in step:
                    await connection.execute(statement, timeout=self.left(connection))
                await connection.execute(self.statements.set_version.sql, version, timeout=self.left(connection))
        return found


_NO_RULE: Final = Reason(
    "the server accepts no such connection",
    "add a rule for this host, user and database to its pg_hba.conf",
    permanent=True,
)
_NO_RULE_WITHOUT_TLS: Final = _NO_RULE._replace(
    remedy=f"add sslmode=verify-full or sslmode=require to the URL if the server requires TLS, or {_NO_RULE.remedy}"
)
_NO_SCHEMA_OF_USER: Final = Reason(
    "the schema does not exist, or the user may not use it",
    "correct ?schema, or create the schema and grant the user USAGE and CREATE on it",
    permanent=True,
)
_REASONS: Final = {
    asyncpg.InvalidAuthorizationSpecificationError: DENIED,  # also the base class of the error for a wrong password
    asyncpg.InvalidCatalogNameError: NO_DATABASE,
    asyncpg.InsufficientPrivilegeError: NO_PERMISSION,
    asyncpg.InvalidSchemaNameError: Reason(
        "the user has no schema for the tables",
        "set its search_path to a schema, and grant CREATE there",
        permanent=True,
    ),
    asyncpg.ReadOnlySQLTransactionError: READ_ONLY,
}
"""The meanings of refusals."""

_TEXTS: Final = {
    "startup parameter": Reason(
        "pgbouncer refuses the settings of turnlog", "add prepare=no to the URL", permanent=True
    ),
    "authentication failed": DENIED,
    "empty password": DENIED,
    "no such user": DENIED,
    "no such database": NO_DATABASE,
    "does not exist": NO_DATABASE,
    "bouncer config error": Reason(
        "pgbouncer has no settings for this database and user", "add them, or correct the URL", permanent=True
    ),
    "not currently accepting connections": Reason(
        "the database accepts no connections", "run ALTER DATABASE ... ALLOW_CONNECTIONS true", permanent=True
    ),
}
"""The meanings of refusals that have no code of their own: pgbouncer sends one code for all of its errors."""

_ENDED: Final = (
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InternalClientError,  # between the server's last message and the end of the connection
)


_DAMAGE: Final = (
    asyncpg.DataCorruptedError,
    asyncpg.IndexCorruptedError,
    asyncpg.InternalServerError,  # such as a block or a value that cannot be read
    asyncpg.CardinalityViolationError,  # two rows with one key
    asyncpg.UndefinedFileError,
)
"""Errors of a server with damaged files (postgresql.org/docs/current/errcodes-appendix.html)."""


@cache
def _probe() -> str:
    return _migrations.probe(_statements().dialect)


@cache
def _statements() -> Statements:
    clock = extract("epoch", func.statement_timestamp())
    return Statements(PGDialect_asyncpg(), cast(clock, Double))  # type: ignore[no-untyped-call]
