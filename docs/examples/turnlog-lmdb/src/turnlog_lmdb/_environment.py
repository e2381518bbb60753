"""`Environment`: the files of LMDB in a folder, opened once in a process."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

import lmdb

from turnlog import AccessError, CorruptRecord, SchemaError

from ._pages import index

if TYPE_CHECKING:
    from lmdb import _Database

FORMAT: Final = 2
"""The version of the format: 1 had no table `pages`."""

_VERSION: Final = b"version"
_SPACE: Final = 2**38  # bytes of address space, the largest size of the file; the file grows only with its contents


class Tables(NamedTuple):
    """The tables, each sorted by the bytes of its keys."""

    format: _Database
    sessions: _Database
    pages: _Database


class Environment:
    """An open environment, for all backends of a process that use its folder.

    Args:
        folder: The folder; it is created if it is missing, and only its owner can read it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.users = 0
        os.makedirs(folder, 0o700, exist_ok=True)
        self.files = lmdb.open(folder, map_size=_SPACE, max_dbs=len(Tables._fields), max_readers=1_024, mode=0o600)
        try:
            with self.files.begin(write=True) as transaction:
                self.tables = Tables(*[self.files.open_db(name.encode(), transaction) for name in Tables._fields])
                self._migrate(transaction)
        except BaseException:
            self.files.close()
            raise

    def _migrate(self, transaction: lmdb.Transaction[bytes]) -> None:
        """Bring the tables to the version of this distribution, in the transaction that has read their version."""
        stored = transaction.get(_VERSION, db=self.tables.format)
        version = FORMAT if stored is None else int.from_bytes(stored)
        if version > FORMAT:
            raise SchemaError(
                f"{self.folder} has version {version}, and this turnlog-lmdb reads versions up to {FORMAT}: upgrade it"
            )
        if version < 2:
            index(transaction, self.tables)
        transaction.put(_VERSION, FORMAT.to_bytes(), db=self.tables.format)


_lock = Lock()
_environments: dict[str, Environment] = {}


def acquire(folder: str) -> Environment:
    """Return the environment of a folder; open it for its first user.

    LMDB allows one environment for each file in a process, because its locks belong to the process.

    Raises:
        AccessError: The folder cannot be used.
        CorruptRecord: The file is not a file of LMDB, or is damaged.
        SchemaError: A newer version has written the file.
    """
    with _lock:
        environment = _environments.get(folder)
        if environment is None:
            try:
                environment = _environments[folder] = Environment(folder)
            except (lmdb.InvalidError, lmdb.CorruptedError) as error:
                raise CorruptRecord(f"the file of LMDB in {folder} is damaged: {error}: restore it") from error
            except (lmdb.Error, OSError) as error:
                raise AccessError(
                    f"{folder} cannot be opened: {error}: correct the path, or its permissions"
                ) from error
        environment.users += 1
        return environment


def release(environment: Environment) -> None:
    """End one use of an environment; the last one closes it."""
    with _lock:
        environment.users -= 1
        if not environment.users:
            environment.files.close()
            if _environments.get(environment.folder) is environment:
                del _environments[environment.folder]


def _close_in_child() -> None:
    """Close the environments that a forked process has inherited: it must open them anew."""
    for environment in _environments.values():
        with suppress(lmdb.Error):
            environment.files.close()
    _environments.clear()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_close_in_child)
