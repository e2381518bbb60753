"""The memory store keeps the contract."""

from __future__ import annotations

from typing import Unpack

from turnlog import Store
from turnlog.testing import BackendContract, BackendOptions
from turnlog_memory import MemoryBackend


class TestMemoryStore(BackendContract):
    """The memory store."""

    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return MemoryBackend(**options)
