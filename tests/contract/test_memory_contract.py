"""The memory backend meets the contract."""

from __future__ import annotations

from typing import Unpack

from turnlog import Backend
from turnlog.testing import BackendContract, BackendOptions
from turnlog_memory import MemoryBackend


class TestMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return MemoryBackend(**options)
