"""The remains of deleted sessions in each database, and settings of the database that put sessions at risk.

The sources are the manuals: sqlite.org/pragma.html, sqlite.org/lang_vacuum.html, postgresql.org/docs/current
(sql-vacuum, catalog-pg-statistic, wal-configuration, runtime-config-wal) and mariadb.com/kb (optimize-table,
innodb-system-variables, replication-and-binary-log-system-variables).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from shlex import quote
from typing import Any, Final

from sqlalchemy import text

from turnlog.values import Finding, Remainder

from ._operations import Steps
from ._sqlite_paths import url_of
from ._statements import Statement, Statements

_TABLES: Final = ("turnlog_records", "turnlog_changes", "turnlog_metadata", "turnlog_sessions")


def asked(statements: Statements, query: str) -> Steps[Sequence[Any]]:
    """Return the first row of a query."""
    rows = yield Statement(text(query), statements.dialect), ()
    first: Sequence[Any] = rows[0]
    return first


# -------------------------------------------------------------------------------------------------------------- SQLite


def rewritten(statements: Statements) -> Steps[bool]:
    """Rewrite an SQLite file and empty its log; return whether the log was emptied.

    A freed page keeps its text until it is used again.  With `secure_delete`, SQLite clears freed pages, but not the
    free space inside other pages.
    """
    yield Statement(text("VACUUM"), statements.dialect), ()
    busy, *_ = yield from asked(statements, "PRAGMA wal_checkpoint(TRUNCATE)")
    return not busy


def expired_in_sqlite(path: str, count: int, until: float) -> list[Remainder]:
    """Return the expired sessions that no sweep removes yet, because the clocks of processes may differ.

    Args:
        path: The file.
        count: The number of these sessions.
        until: The time from which a sweep may remove the last of them, in seconds since 1970.
    """
    if not count:
        return []
    sessions = "1 expired session" if count == 1 else f"{count} expired sessions"
    when = datetime.fromtimestamp(ceil(until), UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return [Remainder(f"{sessions} in {path!r}", f"the first sweep after {when}", _sweep_now(path))]


def _sweep_now(path: str) -> str:
    return f"turnlog sweep --now --store {quote(url_of(path))}"


def remainders_of_sqlite(path: str, *, why: str) -> list[Remainder]:
    """Return the remains of deleted sessions in a file that could not be rewritten.

    Args:
        path: The file.
        why: The reason.
    """
    where = f"free pages of {path!r} and its log, because the file could not be rewritten: {why}"
    return [Remainder(where, "they are overwritten", _sweep_now(path))]


def risks_of_sqlite(path: str, synchronous: str, size: int) -> list[Finding]:
    """Return the problems of a file, its disk and its settings.

    Args:
        path: The file.
        synchronous: The setting of the backend.
        size: The size of the database in bytes.
    """
    found = []
    if synchronous != "FULL":
        text = f"synchronous={synchronous}: a power failure may lose the last acknowledged turns"
        found.append(Finding(text, "remove synchronous from the configuration"))
    if os.name == "posix" and (mode := stat.S_IMODE(os.stat(path).st_mode)) & 0o007:  # access of the group is accepted
        risk = f"every user of this machine can access {path!r} (mode {mode:04o})"
        found.append(Finding(risk, f"chmod o= {quote(path)}"))
    free = shutil.disk_usage(path).free
    if free < size:
        found.append(
            Finding(f"the disk of {path!r} has {free} free bytes, but rewriting the file needs {size}: free some space")
        )
    return found


# ---------------------------------------------------------------------------------------------------------- PostgreSQL

SETTINGS_OF_POSTGRESQL: Final = (
    "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')"
)


def remainders_of_postgresql(name: str) -> list[Remainder]:
    """Return the remains of deleted sessions in a database."""
    return [
        Remainder(
            f"dead rows in the tables of {name}",
            "a vacuum frees them, and other rows overwrite them",
            f"VACUUM FULL {', '.join(_TABLES)}; CHECKPOINT",  # not done by turnlog, because it locks the tables
        ),
        Remainder(
            f"samples of values in the statistics of {name}",  # ANALYZE and autovacuum take them from all columns
            "an ANALYZE of the tables takes new ones, if they still have rows, and a vacuum frees the old ones",
            "DELETE FROM pg_statistic WHERE starelid::regclass::text LIKE '%turnlog_%'; VACUUM FULL pg_statistic; "
            "CHECKPOINT",
        ),
        Remainder(
            f"the write-ahead log of {name}, its archive and its replicas",
            "its segments are overwritten or removed (max_wal_size, wal_keep_size, the archive's own rules)",
        ),
    ]


def risks_of_postgresql(name: str, settings: Sequence[str]) -> list[Finding]:
    """Return the settings of a server that put sessions at risk.

    Args:
        name: The database.
        settings: The row of `SETTINGS_OF_POSTGRESQL`.
    """
    fsync, commit, pages = settings
    found = []
    for setting, value, lost in (
        ("fsync", fsync, "a crash of the machine may damage the database"),
        ("full_page_writes", pages, "a crash of the machine may damage pages that were being written"),
    ):
        if value == "off":
            found.append(Finding(f"{name} has {setting}=off: {lost}", _alter_system(setting)))
    if commit == "off":
        text = f"{name} has synchronous_commit=off: a crash may lose the last acknowledged turns"
        found.append(Finding(text, _alter_system("synchronous_commit")))
    return found


def _alter_system(setting: str) -> str:
    return f"ALTER SYSTEM SET {setting} = on; SELECT pg_reload_conf()"


# ------------------------------------------------------------------------------------------------------------- MariaDB

SETTINGS_OF_MYSQL: Final = (
    "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.innodb_doublewrite, "
    "@@GLOBAL.log_bin, @@GLOBAL.sync_binlog"
)


def remainders_of_mysql(name: str, settings: Sequence[Any]) -> list[Remainder]:
    """Return the remains of deleted sessions in a database.

    Args:
        name: The database.
        settings: The row of `SETTINGS_OF_MYSQL`.
    """
    found = [
        Remainder(
            f"free space in the table files of {name}",
            "InnoDB purges the deletion, and other rows overwrite it",
            f"OPTIMIZE TABLE {', '.join(_TABLES)}",
        ),
        Remainder(f"the undo log, the redo log and the doublewrite buffer of {name}", "they are overwritten"),
    ]
    if _is_on(settings[2]):
        found.append(
            Remainder(
                f"the binary log of {name}, and its replicas",
                "its files expire (expire_logs_days, binlog_expire_logs_seconds), or all replicas have read them",
                # the server keeps a file that it closed in this second, or that lacks a checkpoint of InnoDB
                "FLUSH BINARY LOGS; DO SLEEP(3); PURGE BINARY LOGS BEFORE NOW()",
            )
        )
    return found


def risks_of_mysql(name: str, settings: Sequence[Any]) -> list[Finding]:
    """Return the settings of a server that put sessions at risk.

    Args:
        name: The database.
        settings: The row of `SETTINGS_OF_MYSQL`.
    """
    flush, double, binary, sync = settings
    found = []
    if int(flush) != 1:
        text = f"{name} has innodb_flush_log_at_trx_commit={flush}: a crash may lose the last acknowledged turns"
        found.append(Finding(text, "SET GLOBAL innodb_flush_log_at_trx_commit = 1"))
    if not _is_on(double):
        text = f"{name} has no doublewrite buffer: a crash of the machine may damage pages that were being written"
        found.append(Finding(text, "remove skip-innodb-doublewrite from the server's configuration, and restart it"))
    if _is_on(binary) and int(sync) != 1:
        text = (
            f"{name} has sync_binlog={sync}: after a crash a replica may lack turns; also set it in the configuration"
        )
        found.append(Finding(text, "SET GLOBAL sync_binlog = 1"))
    return found


def _is_on(value: object) -> bool:
    return str(value).upper() not in ("0", "OFF")
