"""`Connection`: a connection to SQLite that notices when its files are removed or replaced."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import suppress
from os import fstat, stat
from time import monotonic, time_ns
from typing import Final, TypeAlias

from turnlog import Unavailable

from ._second_lock import DATABASE, INDEX, SecondLock

_File: TypeAlias = "tuple[str, int, int]"
"""Its path, inode and device."""

_COARSE: Final = 2_500_000_000
"""Nanoseconds: a file system may count time in steps of 2 s, as FAT does, so that a second change of a folder in the
same step leaves its time as it is."""

_kept: list[Connection] = []  # those that cannot be closed without copying their logs


class FilesReplaced(sqlite3.OperationalError):
    """A file of the database is not the one at its path any more.

    Attributes:
        committed: Whether the transaction was committed, to the files that were replaced.
    """

    def __init__(self, path: str, *, committed: bool) -> None:
        super().__init__(f"{path!r} was removed or replaced while this store had it open")
        self.committed = committed


class Connection(sqlite3.Connection):
    """A connection that knows its three files: the database, the write-ahead log, and the index of the log.

    SQLite opens files by name once.  If another program removes or replaces one of them, SQLite reads and writes the
    old file without an error, and no other process sees what is written.

    Attributes:
        files: The database, the log and its index, as they were when SQLite had opened them.
        replaced: Whether `check` has failed: then the connection must be closed.
    """

    files: tuple[_File, ...] = ()
    replaced = False
    _folder: int | None = None  # a descriptor of the folder that they are in
    _unchanged: int | None = None  # when the folder had last changed before its files were found there
    _again = 0.0  # when to look for the files again, by the monotonic clock, even if the folder has not changed
    _frozen: tuple[int, ...] | None = None  # the state of a file that SQLite does not expect to change
    _locks: tuple[SecondLock, ...] = ()  # of the database and of the index; none if the system has no such locks

    def watch(self, path: str) -> None:
        """Remember the files, once SQLite has opened all three.

        Raises:
            FilesReplaced: One of them is not there.
            sqlite3.OperationalError: Another process has locked the database for itself.
            Unavailable: A file cannot be opened.
        """
        if os.name != "posix":  # a file that is open cannot be removed or replaced
            return
        real = os.path.realpath(path)  # SQLite puts the log next to the file itself, not next to a symbolic link
        name = path
        try:
            for name, span in ((path, DATABASE), (f"{real}-shm", INDEX)):
                if (lock := SecondLock.hold(name, span)) is not None:
                    self._locks += (lock,)
            name = os.path.dirname(real)
            self._folder = os.open(name, getattr(os, "O_PATH", os.O_RDONLY))  # it need not be readable
            for name in (path, f"{real}-wal", f"{real}-shm"):
                self.files += (_found(name),)
        except BlockingIOError:  # this process has closed the file meanwhile, and so lost the lock of SQLite
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error from None
        except FileNotFoundError:
            self.replaced = True
            raise FilesReplaced(name, committed=False) from None
        except OSError as error:
            why = error.strerror or error
            raise Unavailable(f"{name}: the files cannot be opened or locked ({why}): nothing was stored") from error

    def freeze(self, path: str) -> None:
        """Remember the state of a file that is open as immutable: SQLite would not notice that it changes."""
        self.files = (_found(path),)
        self._frozen = _state(path)

    def check(self, *, committed: bool = False) -> None:
        """Refuse to go on if a file is not the one at its path any more.

        Whoever removes or renames a file changes the time of its folder.  While that stays the same, the files are
        looked for once a second only, in case a symbolic link or a folder above has changed: looking takes 5 times as
        long.

        Args:
            committed: Whether a transaction was committed just before.

        Raises:
            FilesReplaced: It is not.
            sqlite3.OperationalError: An immutable file has changed: the same can be done on a new connection.
        """
        if self._frozen is not None and _state(self.files[0][0]) != self._frozen:
            self.replaced = True
            error = sqlite3.OperationalError("the file has changed")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        folder = self._folder
        if folder is not None and (fstat(folder).st_mtime_ns != self._unchanged or monotonic() > self._again):
            self._look(folder, committed=committed)

    def _look(self, folder: int, *, committed: bool) -> None:
        now, changed = time_ns(), fstat(folder).st_mtime_ns  # before the files are looked for
        for file in self.files:
            if not _is_there(file):
                self.replaced = True
                raise FilesReplaced(file[0], committed=committed)
        self._unchanged = changed if changed < now - _COARSE else None
        self._again = monotonic() + 1

    def is_intact(self) -> bool:
        """Return whether all files are still those at their paths."""
        return not self.replaced and all(map(_is_there, self.files))

    def close(self) -> None:
        """Close the connection.

        The last connection to a database copies the log into it and removes the log.  If the log is not the one at its
        path any more, others may have changed the database since, and the old log would overwrite their changes: then
        it is not copied.
        """
        locks, self._locks = self._locks, ()
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)
        if self._frozen is not None or self.is_intact():
            _release(locks)  # or SQLite would take another process for a user of the log
            super().close()
            return
        self._set_the_log_aside()
        if locks and locks[0].works:
            super().close()  # it copies nothing, because it cannot lock the database for itself
            _release(locks)
        elif sys.version_info >= (3, 12):
            self.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
            super().close()
            _release(locks)
        else:
            _kept.append(self)

    def _set_the_log_aside(self) -> None:
        """Rename the log if another database was put in the place of its own, which it would damage."""
        if not self.files or _is_there(self.files[0]) or not os.path.exists(self.files[0][0]):
            return
        for file in filter(_is_there, self.files[1:]):
            with suppress(OSError):
                os.rename(file[0], f"{file[0]}.{self.files[0][1]}")


def refuse_kept(path: str) -> None:
    """Refuse to open a database that this process has open with a removed log, and cannot close.

    Raises:
        Unavailable: It is such a database.
    """
    for connection in _kept:
        if os.path.exists(path) and _found(path)[1:] == connection.files[0][1:]:
            raise Unavailable(
                f"sqlite {path!r}: its log was removed while this process had it open: restart the process"
            )


def _release(locks: tuple[SecondLock, ...]) -> None:
    for lock in locks:
        lock.release()


def _found(path: str) -> _File:
    found = stat(path)
    return path, found.st_ino, found.st_dev


def _state(path: str) -> tuple[int, ...]:
    """Return what changes if a process writes to a database, or begins to; empty if it is not there."""
    try:
        found = stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_dev, found.st_mtime_ns, found.st_size, has_log(path)


def has_log(path: str) -> bool:
    """Return whether a database has a write-ahead log; every process that writes to it keeps one."""
    return os.path.exists(f"{os.path.realpath(path)}-wal")


def _is_there(file: _File) -> bool:
    try:
        return _found(file[0]) == file
    except OSError:
        return False
