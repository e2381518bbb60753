"""A plugin of pytest: puts our classes in the place of those of Strands, before the tests import them."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import strands.session
import strands.storage
import tests.fixtures.mock_session_repository as mock  # type: ignore[import-not-found]  # of the published tests
from strands.session.repository_session_manager import RepositorySessionManager

import turnlog.sync
from adapters.published import built
from turnlog_strands import TurnlogSessionRepository, TurnlogStorage

_store = turnlog.sync.open_store(os.environ["TURNLOG_TEST_URL"])
_store.open()
_number = count()


class SwappedRepository(TurnlogSessionRepository):
    """In the place of MockedSessionRepository."""

    def __init__(self) -> None:
        built()
        super().__init__(_store.within(f"repository-{next(_number)}"))


class SwappedManager(RepositorySessionManager, TurnlogSessionRepository):
    """In the place of FileSessionManager: a namespace instead of a folder."""

    def __init__(self, session_id: str, storage_dir: str | None = None, **options: Any) -> None:
        built()
        TurnlogSessionRepository.__init__(self, _store.within(storage_dir or "default folder"))
        RepositorySessionManager.__init__(self, session_id, session_repository=self)


class SwappedStorage(TurnlogStorage):
    """In the place of InMemoryStorage."""

    def __init__(self) -> None:
        built()
        super().__init__(_store.within(f"storage-{next(_number)}"))


mock.MockedSessionRepository = SwappedRepository
for _module in (strands.session, strands.session.file_session_manager):
    _module.FileSessionManager = SwappedManager  # type: ignore[attr-defined]
for _module in (strands.storage, strands.storage.in_memory_storage):
    _module.InMemoryStorage = SwappedStorage  # type: ignore[attr-defined]
