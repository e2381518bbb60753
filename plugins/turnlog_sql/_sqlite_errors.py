"""Errors of SQLite, translated with the reason and the next step."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from shlex import quote
from typing import Final

from turnlog import AccessError, CorruptRecord, OutcomeUnknown, SchemaError, TooLarge, TurnlogError, Unavailable

from ._database import RESTORE, Migrate
from ._sqlite_connection import FilesReplaced
from ._sqlite_paths import url_of
from ._thread import Locked

_LONGEST: Final = 247  # bytes of a file's name: common file systems allow 255, and SQLite appends `-journal`
_SHOWN: Final = 100  # characters of a path in the message about a wrong one


class CommitFailed(sqlite3.OperationalError):
    """An error of the commit itself has ended the transaction."""


def translated(
    error: sqlite3.DatabaseError, name: str, path: str, *, migrate: Migrate, creates: bool
) -> TurnlogError | Locked:
    """Return the error for an error of SQLite.

    Args:
        error: The error of SQLite.
        name: The name of the file in messages.
        path: The path of the file.
        migrate: The option that the file was opened with.
        creates: Whether a missing file may be created.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    locked = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    found = Locked() if locked else _translation(error, code, name, path, migrate=migrate, creates=creates)
    found.__cause__ = error
    return found


def _translation(
    error: sqlite3.DatabaseError, code: int, name: str, path: str, *, migrate: Migrate, creates: bool
) -> TurnlogError:
    if isinstance(error, FilesReplaced):
        if error.committed:
            return OutcomeUnknown(f"{name}: {error}")
        return Unavailable(
            f"{error}; nothing was stored: put the file back, or repeat the call, which opens the path again"
        )
    if isinstance(error, CommitFailed):
        return OutcomeUnknown(f"{name}: the commit failed: {error}")
    if code == sqlite3.SQLITE_TOOBIG:
        return TooLarge(f"{name}: SQLite refuses a value of this size: {error}")
    if code == sqlite3.SQLITE_NOTADB:
        return SchemaError(f"{name} is not an SQLite database: name another file")
    if code == sqlite3.SQLITE_CORRUPT:
        return CorruptRecord(f"the database {name} is damaged ({error}): restore it from a backup")
    if code == sqlite3.SQLITE_ERROR:
        return SchemaError(f"the tables in {name} are not as turnlog created them ({error}): {RESTORE}")
    if code == sqlite3.SQLITE_CANTOPEN and _lacks_descriptors():
        return Unavailable(f"{name}: this process has too many open files ({error}): nothing was stored")
    if code == sqlite3.SQLITE_CANTOPEN and (fault := _fault_of(path)):
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...'"
        return AccessError(f"{shown}{fault}")
    if code == sqlite3.SQLITE_CANTOPEN and migrate == "check" and _is_missing(path):
        make = f"turnlog migrate --store '{url_of(path)}'"
        return SchemaError(f"{name} does not exist: correct the path, or create it with: {make}", missing=True)
    if code == sqlite3.SQLITE_CANTOPEN and not creates and _is_missing(path):
        return Unavailable(
            f"{name} does not exist any more: restore it; to create an empty one, close and reopen the store"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and (locked := unwritable(path)):
        text = f"{name}: this process has no permission to write to it ({error}): nothing was stored"
        return AccessError(f"{text}; {_unlocking(locked)}")
    if code == sqlite3.SQLITE_CANTOPEN:
        text = f"{name}: this process has no permission to open or create it ({error}): nothing was stored"
        return AccessError(f"{text}; check the path, and the permissions of the file and its folder")
    return Unavailable(f"{name}: {error}: nothing was stored")


def _fault_of(path: str) -> str:
    """Return the fault of a path that cannot name a file; an empty text if there is none."""
    folder, name = os.path.split(path)
    if len(os.fsencode(name)) > _LONGEST:
        return f": the name of the file has {len(os.fsencode(name))} bytes: shorten it to {_LONGEST}"
    if "~" in folder.split(os.sep) and not os.path.isdir(folder):
        return ": ~ is not replaced in a URL: write the whole path, as in sqlite:////home/you/chat.db"
    if os.path.isfile(folder):
        return f": {folder!r} is a file, not a folder: correct the path"
    if not os.path.isdir(folder):
        return f": the folder {folder!r} does not exist: create it, or correct the path"
    return " is a folder: name a file in it" if os.path.isdir(path) else ""


def _is_missing(path: str) -> bool:
    """Return whether a file does not exist; False if this process may not look for it."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _lacks_descriptors() -> bool:
    """Return whether the system refuses to open four more files: SQLite opens the three files and their folder."""
    opened: list[int] = []
    try:
        opened += (os.open(os.devnull, os.O_RDONLY) for _ in range(4))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return False


def unwritable(path: str) -> list[str]:
    """Return those of the three files and their folder to which this process may not write."""
    path = os.path.realpath(path)
    files = (path, os.path.dirname(path), f"{path}-wal", f"{path}-shm")
    return [place for place in files if os.path.exists(place) and not may_write(place)]


def may_write(path: str) -> bool:
    """Return whether this process may write to a file or a folder, by the user that the system checks."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _unlocking(places: Sequence[str]) -> str:
    """Return how to allow this process to write to files and folders."""
    names = " ".join(map(quote, places))
    if os.name == "posix" and any(os.stat(place).st_uid != os.geteuid() for place in places):
        return f"run it as the owner, or allow its user to write to: {names}"
    return f"to allow its owner to write to it, run: chmod u+rw {names}"
