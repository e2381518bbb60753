"""`SecondLock`: a lock on an SQLite file that survives when this process closes another descriptor of the file."""

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
"""The bytes that each user of a database locks for reading, and the process that removes its log for writing:
SHARED_FIRST and SHARED_SIZE in SQLite's `src/os.h`."""

INDEX: Final = (128, 1)
"""The byte that each user of a log's index locks for reading, and the process that empties the index for writing:
UNIX_SHM_DMS in `src/os_unix.c`."""

_IDLE: Final = 64  # the number of unlocked files that stay open, to be locked again
_locks: dict[tuple[int, int], SecondLock] = {}  # by device and inode


class SecondLock:
    """A second read lock on a file, in addition to the lock of SQLite.

    When a process closes any descriptor of a file, as after `open("chat.db", "rb")`, the system releases all locks that
    the process holds on the file (sqlite.org/howtocorrupt.html, section 2.2).  Another process may then conclude that
    it is the only user, and remove the log.  Linux also has locks of open file descriptions, which are not released.

    Closing the descriptor would also release the locks of other connections.  It therefore stays open for the next
    connection.  Two threads must not call these functions at the same time.

    Attributes:
        descriptor: An open descriptor of the file.
        holders: The number of connections that hold the lock.
        works: False if the file system does not support such locks.
    """

    def __init__(self, descriptor: int, span: tuple[int, int]) -> None:
        self.descriptor = descriptor
        self.holders = 0
        self.works = True
        self._span = span

    @classmethod
    def hold(cls, path: str, span: tuple[int, int]) -> SecondLock | None:
        """Acquire the lock of a file; return None if the system does not support such locks.

        Args:
            path: The path of the file.
            span: The first byte and the number of bytes to lock: `DATABASE` or `INDEX`.

        Raises:
            BlockingIOError: Another process has an exclusive lock on the file.
            FileNotFoundError: The file does not exist.
        """
        if not hasattr(fcntl, "F_OFD_SETLK"):
            return None
        found = os.stat(path)
        lock = _locks.pop((found.st_dev, found.st_ino), None)
        if lock is None:
            lock = cls(os.open(path, os.O_RDONLY), span)
            found = os.fstat(lock.descriptor)
        _locks[found.st_dev, found.st_ino] = lock
        if not lock.holders:
            lock._set(fcntl.F_RDLCK)
        lock.holders += 1
        return lock

    def release(self) -> None:
        """Release the lock for one holder; the last release unlocks the file."""
        self.holders -= 1
        if not self.holders:
            self._set(fcntl.F_UNLCK)
        for key, lock in list(_locks.items()):
            if not lock.holders and (len(_locks) > _IDLE or not os.fstat(lock.descriptor).st_nlink):
                os.close(_locks.pop(key).descriptor)

    def _set(self, kind: int) -> None:
        flock = struct.pack("hhqqi0q", kind, os.SEEK_SET, *self._span, 0)  # `struct flock` in fcntl.h
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_OFD_SETLK, flock)
        except BlockingIOError:
            raise
        except OSError:
            self.works = False


def close_in_the_child() -> None:
    """Close all files in a forked child, which shares the locks with its parent; no lock may be held."""
    while _locks:
        os.close(_locks.popitem()[1].descriptor)
