"""`SecondLock`: a lock on a file of SQLite that this process keeps when it closes the file elsewhere."""

from __future__ import annotations

import os
import struct
from typing import Any, Final

try:
    import fcntl as _fcntl
except ImportError:  # as on Windows
    _fcntl = None  # type: ignore[assignment]

fcntl: Any = _fcntl

DATABASE: Final = (0x40000002, 510)
"""The bytes that each user of a database locks for reading, and whoever removes its log for writing: SHARED_FIRST and
SHARED_SIZE in SQLite's `src/os.h`."""

INDEX: Final = (128, 1)
"""The byte that each user of a log's index locks for reading, and whoever empties it for writing: UNIX_SHM_DMS in
`src/os_unix.c`."""

_IDLE: Final = 16  # files that are kept open, so that they can be locked again
_locks: dict[tuple[int, int], SecondLock] = {}  # by device and inode


class SecondLock:
    """The lock of a reader of one file, next to SQLite's own.

    The system releases all locks that a process holds on a file when the process closes any descriptor of it, as after
    `open("chat.db", "rb")` (sqlite.org/howtocorrupt.html, section 2.2).  Another process may then take itself for the
    only one, and remove the log.  A lock of an open file description, which Linux has, stays.

    Closing the descriptor would release the locks of other connections, too.  So it stays open for the next connection.
    The functions must not be called by two threads at once.

    Attributes:
        descriptor: An open descriptor of the file.
        holders: How many connections hold the lock.
    """

    def __init__(self, descriptor: int, span: tuple[int, int]) -> None:
        self.descriptor = descriptor
        self.holders = 0
        self._span = span

    @classmethod
    def hold(cls, path: str, span: tuple[int, int]) -> SecondLock | None:
        """Return the lock of a file, and hold it; None if the system has no such locks.

        Args:
            path: The path of the file.
            span: The first byte to lock, and how many: `DATABASE` or `INDEX`.

        Raises:
            BlockingIOError: Another process has locked the file for itself.
            FileNotFoundError: The file is not there.
        """
        if not hasattr(fcntl, "F_OFD_SETLK"):
            return None
        found = os.stat(path)
        lock = _locks.pop((found.st_dev, found.st_ino), None)
        if lock is None:
            lock = cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC), span)
            found = os.fstat(lock.descriptor)
        _locks[found.st_dev, found.st_ino] = lock
        if not lock.holders:
            try:
                lock._set(fcntl.F_RDLCK)
            except BlockingIOError:
                raise
            except OSError:  # the file system has no such locks
                return None
        lock.holders += 1
        return lock

    def release(self) -> None:
        """Release the lock once all have released it who hold it."""
        self.holders -= 1
        if not self.holders:
            self._set(fcntl.F_UNLCK)
        for key, lock in list(_locks.items()):
            if not lock.holders and (len(_locks) > _IDLE or not os.fstat(lock.descriptor).st_nlink):
                os.close(_locks.pop(key).descriptor)

    def _set(self, kind: int) -> None:
        flock = struct.pack("hhqqi0q", kind, os.SEEK_SET, *self._span, 0)  # `struct flock` in fcntl.h
        fcntl.fcntl(self.descriptor, fcntl.F_OFD_SETLK, flock)


def close_in_the_child() -> None:
    """Close all files in a forked child, which shares the locks with its parent; none of them may be held."""
    while _locks:
        os.close(_locks.popitem()[1].descriptor)
