"""The store is held to the whole contract by turnlog's own kit."""

from typing import Unpack

from turnlog import Store
from turnlog.testing import StoreContract, StoreOptions
from turnlog_jsonl import JsonlStore


class TestJsonl(StoreContract):
    """Sessions are files, so a second store over the same folder sees them."""

    shared = True

    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return JsonlStore(str(self.folder / "chats"), **options)
