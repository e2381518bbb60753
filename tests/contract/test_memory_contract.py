"""The memory store keeps the contract."""

from __future__ import annotations

from typing import Unpack

from turnlog import Store
from turnlog.testing import StoreContract, StoreOptions
from turnlog_memory import MemoryStore


class TestMemoryStore(StoreContract):
    """The memory store."""

    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return MemoryStore(**options)
