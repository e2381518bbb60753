"""The backend meets the whole contract of turnlog."""

from typing import Unpack

from turnlog import Backend
from turnlog.testing import BackendContract, BackendOptions
from turnlog_jsonl import JsonlBackend


class TestJsonl(BackendContract):
    """Sessions are files, so a second backend over the same folder sees them."""

    shared = True

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return JsonlBackend(str(self.folder / "chats"), **options)
