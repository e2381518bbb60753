"""The backend meets the whole contract of turnlog."""

from typing import Unpack

from turnlog import Backend, Key, Store
from turnlog.rules import file_key
from turnlog.testing import BackendContract, BackendOptions, DamageContract
from turnlog_jsonl import JsonlBackend


class TestJsonl(BackendContract, DamageContract):
    """Sessions are files, so a second backend over the same folder sees them."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return JsonlBackend(str(self.folder / "chats"), **options)

    async def damage(self, store: Store, session_id: str) -> None:
        path = self.folder / "chats" / f"{file_key(Key(store.namespace, session_id))}.jsonl"
        path.write_bytes(path.read_bytes().replace(b"{", b"[", 1))
