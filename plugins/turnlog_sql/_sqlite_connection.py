"""`Connection`: a connection to SQLite that detects the removal or replacement of its files."""

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
"""The path, inode and device of a file."""

_COARSE: Final = 2_500_000_000
"""Resolution of file times in nanoseconds.  A file system such as FAT has steps of 2 s; two changes of a folder in the
same step have the same time."""

_kept: list[Connection] = []  # connections that cannot be closed without copying their logs


class FilesReplaced(sqlite3.OperationalError):
    """A file of the database was removed, or replaced by another one.

    Attributes:
        committed: Whether the transaction was committed to the replaced files.
    """

    def __init__(self, path: str, *, committed: bool) -> None:
        super().__init__(f"{path!r} was removed or replaced while this store had it open")
        self.committed = committed


class Connection(sqlite3.Connection):
    """A connection that watches its three files: the database, the write-ahead log, and the index of the log.

    SQLite opens each file by name once.  If another program removes or replaces a file, SQLite continues with the old
    file without an error, and no other process sees the writes.

    Attributes:
        files: The database, the log and the index, as SQLite has opened them.
        replaced: Whether `check` has failed; if so, the connection must be closed.
    """

    files: tuple[_File, ...] = ()
    replaced = False
    _folder: int | None = None  # a descriptor of the folder of the files
    _unchanged: int | None = None  # the time of the folder's last change before the files were found there
    _again = 0.0  # the time of the next look at the files by the monotonic clock, even if the folder has not changed
    _frozen: tuple[int, ...] | None = None  # the state of a file that SQLite opened as immutable
    _locks: tuple[SecondLock, ...] = ()  # of the database and of the index; empty if the system has no such locks

    def watch(self, path: str) -> None:
        """Remember the files after SQLite has opened all three.

        Raises:
            FilesReplaced: A file does not exist.
            sqlite3.OperationalError: Another process has an exclusive lock on the database.
            Unavailable: A file cannot be opened.
        """
        if os.name != "posix":  # an open file cannot be removed or replaced
            return
        real = os.path.realpath(path)  # SQLite creates the log next to the file itself, not next to a symbolic link
        name = path
        try:
            for name, span in ((path, DATABASE), (f"{real}-shm", INDEX)):
                if (lock := SecondLock.hold(name, span)) is not None:
                    self._locks += (lock,)
            name = os.path.dirname(real)
            self._folder = os.open(name, getattr(os, "O_PATH", os.O_RDONLY))  # works without the right to read it
            for name in (path, f"{real}-wal", f"{real}-shm"):
                self.files += (_found(name),)
        except BlockingIOError:  # this process has closed the file since, which released the lock of SQLite
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
        """Check that the files were not removed or replaced.

        Removing or renaming a file changes the time of its folder.  While this time stays the same, the files are only
        looked for once a second, in case a symbolic link or a parent folder has changed.  Looking for the files takes 5
        times as long as reading the time.

        Args:
            committed: Whether a transaction was committed just before.

        Raises:
            FilesReplaced: A file was removed or replaced.
            sqlite3.OperationalError: An immutable file has changed.  A new connection can repeat the operation.
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
        now, changed = time_ns(), fstat(folder).st_mtime_ns  # read before the files are looked for
        for file in self.files:
            if not _is_there(file):
                self.replaced = True
                raise FilesReplaced(file[0], committed=committed)
        self._unchanged = changed if changed < now - _COARSE else None
        self._again = monotonic() + 1

    def is_intact(self) -> bool:
        """Return whether no file was removed or replaced."""
        return not self.replaced and all(map(_is_there, self.files))

    def close(self) -> None:
        """Close the connection.

        The last connection to a database copies the log into the database and removes the log.  If a file was replaced,
        other processes may have changed the database since, and the old log would overwrite their changes.  In this
        case the log is not copied.
        """
        locks, self._locks = self._locks, ()
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)
        if self._frozen is not None or self.is_intact():
            _release(locks)  # otherwise SQLite would take this lock for another user of the log
            super().close()
            return
        self._set_the_log_aside()
        if locks and locks[0].works:
            super().close()  # SQLite copies nothing, because the second lock prevents an exclusive lock
            _release(locks)
        elif sys.version_info >= (3, 12):
            self.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
            super().close()
            _release(locks)
        else:
            _kept.append(self)

    def _set_the_log_aside(self) -> None:
        """Rename the log if its database was replaced by another one, which the log would damage."""
        if not self.files or _is_there(self.files[0]) or not os.path.exists(self.files[0][0]):
            return
        for file in filter(_is_there, self.files[1:]):
            with suppress(OSError):
                os.rename(file[0], f"{file[0]}.{self.files[0][1]}")


def refuse_kept(path: str) -> None:
    """Refuse a database if this process has a connection to it that has lost its log and cannot be closed.

    Raises:
        Unavailable: The path names such a database.
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
    """Return the numbers that change when a process writes to a database; empty if it does not exist."""
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
