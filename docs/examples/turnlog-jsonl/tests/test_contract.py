"""The store is held to the whole contract by turnlog's own kit."""

from typing import Unpack

from turnlog import Store
from turnlog.testing import BackendContract, BackendOptions
from turnlog_jsonl import JsonlBackend


class TestJsonl(BackendContract):
    """Sessions are files, so a second store over the same folder sees them."""

    shared = True

    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return JsonlBackend(str(self.folder / "chats"), **options)
