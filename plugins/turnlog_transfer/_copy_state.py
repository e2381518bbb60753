"""`CopyState`: a file that says which version of each session was copied, and as what."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple, Self

from turnlog import Conflict, InvalidInput

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


class Entry(NamedTuple):
    """The state of the copy of a session.

    Attributes:
        source: The version of the source that was copied, as text; None: a copy was begun and not finished.
        first: The number of the first turn that was copied.
        target: The version of the target after the last acknowledged write, as text; None: nothing was written.
        change: The id of the change that was sent last, if no answer is known.
        digest: Its digest.
    """

    source: str | None
    first: int
    target: str | None
    change: str | None = None
    digest: bytes | None = None


class CopyState:
    """The file.  Each call is one transaction, which a kill of the process does not undo.

    A namespace is a name that `Store.within` takes, or empty where one namespace is copied.

    Args:
        path: Where it is; it is made if it is missing, for its owner alone.
        source: Which sessions are copied, and
        target: where to, as texts.

    Raises:
        InvalidInput: The file is no such file, or belongs to another copy.
        Conflict: Another copy uses it.
        OSError: It cannot be made.
    """

    def __init__(self, path: str, source: str, target: str) -> None:
        # A descriptor that is closed releases the locks of this process on its file: open none that was there before.
        with suppress(FileExistsError):
            os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        except sqlite3.OperationalError as error:  # a folder, for example
            raise OSError(f"{path} cannot be used as the state of a copy: {error}") from error
        try:
            self._begin(path, source, target)
        except sqlite3.OperationalError as error:
            self._connection.close()
            if error.sqlite_errorname not in ("SQLITE_BUSY", "SQLITE_LOCKED"):
                raise OSError(f"{path} cannot be used as the state of a copy: {error}") from error
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
            raise InvalidInput(f"{path} is the database of something else: name another file with --state")
        self._connection.executescript(
            # WAL: a commit does not wait for the disk, and a killed process loses none
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            f"PRAGMA application_id={_APPLICATION};" + _TABLES
        )
        found = self._connection.execute("SELECT source, target FROM copy").fetchone()
        if found is None:
            self._connection.execute("INSERT INTO copy VALUES (?, ?, 0)", (source, target))
        elif found != (source, target):
            raise InvalidInput(
                f"{path} belongs to another copy, from {found[0]} to {found[1]}: name another file with --state"
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
        """Return the entry of a session, and note that this pass has seen it."""
        found = self._connection.execute(
            "UPDATE sessions SET pass = ? WHERE namespace = ? AND session = ? "
            "RETURNING source, first, target, change, digest",
            (self._pass, namespace, session_id),
        ).fetchall()
        return Entry(*found[0]) if found else None

    def set(self, namespace: str, session_id: str, entry: Entry) -> None:
        """Store the entry of a session, and note that this pass has seen it."""
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
