"""`CopyState`: a file with the copied version of each session, and the version of its copy."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple, Self

from turnlog import Conflict, InvalidInput, TurnlogError

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS copy (source TEXT NOT NULL, target TEXT NOT NULL, pass INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    namespace TEXT NOT NULL,
    session TEXT NOT NULL,
    source TEXT,
    first INTEGER NOT NULL,
    target TEXT,
    change TEXT,
    digest BLOB,
    pass INTEGER NOT NULL,
    PRIMARY KEY (namespace, session)
) WITHOUT ROWID;
"""


_APPLICATION: Final = int.from_bytes(b"tlcp")
"""The number that marks the file as the state of a copy (sqlite.org/pragma.html#pragma_application_id)."""


class StateFailed(TurnlogError, OSError):
    """The file cannot be created or used."""


class Entry(NamedTuple):
    """The state of the copy of a session.

    Attributes:
        source: The copied version of the source, as text; None: the copy is not finished.
        first: The number of the first copied turn.
        target: The version of the target after the last acknowledged write, as text; None: nothing was written.
        change: The id of the last change, if its answer is not known.
        digest: The digest of this change.
    """

    source: str | None
    first: int
    target: str | None
    change: str | None = None
    digest: bytes | None = None


class CopyState:
    """The file.  Each call is one transaction, which survives a kill of the process.

    A namespace is an argument of `Store.within`; it is empty if only one namespace is copied.

    Args:
        path: The path of the file, which is created with mode 0600 if it is missing.
        source: A text for the location and the namespaces of the source.
        target: A text for the location and the namespaces of the target.

    Raises:
        InvalidInput: The file is not the state of a copy, or belongs to another copy.
        Conflict: Another copy is using the file.
        StateFailed: The file cannot be created.
    """

    def __init__(self, path: str, source: str, target: str) -> None:
        # Closing a descriptor releases the locks of this process on the file, so an existing file is not opened here.
        try:
            with suppress(FileExistsError):
                os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        except sqlite3.OperationalError as error:  # a folder, for example
            raise _unusable(path, error) from error
        try:
            self._begin(path, source, target)
        except sqlite3.OperationalError as error:
            self._connection.close()
            if error.sqlite_errorname not in ("SQLITE_BUSY", "SQLITE_LOCKED"):
                raise _unusable(path, error) from error
            raise Conflict(f"another copy is running with {path}: wait for its end") from None
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise InvalidInput(f"{path} is not the state of a copy ({error}): name another file with --state") from None
        except BaseException:
            self._connection.close()
            raise

    def _begin(self, path: str, source: str, target: str) -> None:
        ((application,),) = self._connection.execute("PRAGMA application_id").fetchall()
        ((tables,),) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        if application != _APPLICATION and (application or tables):
            raise InvalidInput(f"{path} is the database of another program: name another file with --state")
        self._connection.executescript(
            # WAL: commits do not wait for the disk, and a kill of the process loses no commit
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            f"PRAGMA application_id={_APPLICATION};" + _TABLES
        )
        found = self._connection.execute("SELECT source, target FROM copy").fetchone()
        if found is None:
            self._connection.execute("INSERT INTO copy VALUES (?, ?, 0)", (source, target))
        elif found != (source, target):
            raise InvalidInput(
                f"{path} belongs to another copy (source: {found[0]}; target: {found[1]}): name another file with "
                "--state"
            )
        self._pass = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def begin_pass(self) -> None:
        """Begin a pass over all sessions."""
        ((self._pass,),) = self._connection.execute("UPDATE copy SET pass = pass + 1 RETURNING pass").fetchall()

    def get(self, namespace: str, session_id: str) -> Entry | None:
        """Return the entry of a session, and mark it as seen in this pass."""
        found = self._connection.execute(
            "UPDATE sessions SET pass = ? WHERE namespace = ? AND session = ? "
            "RETURNING source, first, target, change, digest",
            (self._pass, namespace, session_id),
        ).fetchall()
        return Entry(*found[0]) if found else None

    def set(self, namespace: str, session_id: str, entry: Entry) -> None:
        """Store the entry of a session, and mark it as seen in this pass."""
        self._connection.execute(
            "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (namespace, session_id, *entry, self._pass),
        )

    def forget(self, namespace: str, session_id: str) -> None:
        """Remove the entry of a session."""
        self._connection.execute("DELETE FROM sessions WHERE namespace = ? AND session = ?", (namespace, session_id))

    def unseen(self) -> Iterator[tuple[str, str]]:
        """Yield the namespace and the id of each session that this pass has not seen."""
        after = ("", "")
        while rows := self._connection.execute(
            "SELECT namespace, session FROM sessions WHERE pass < ? AND (namespace, session) > (?, ?) "
            "ORDER BY namespace, session LIMIT 100",
            (self._pass, *after),
        ).fetchall():
            for after in rows:
                yield after


def _unusable(path: str, error: OSError | sqlite3.Error) -> StateFailed:
    why = getattr(error, "strerror", None) or error
    return StateFailed(f"{path} cannot be used as the state of a copy ({why}): check the path")
