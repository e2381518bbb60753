"""The layer keeps the whole contract; a changed or moved record is damaged, and a wrong key destroys nothing."""

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Unpack

import pytest

from turnlog import Backend, Change, ConfigError, CorruptRecord, Key, Store, user
from turnlog.testing import BackendContract, BackendOptions
from turnlog_aesgcm import AESGCMLayer
from turnlog_memory import MemoryBackend

ONE, TWO = (b64encode(bytes([n]) * 32).decode() for n in (1, 2))
HERE, THERE = Key("default", "alice"), Key("default", "bob")


def file_with(folder: Path, *keys: str) -> str:
    path = folder / "keys"
    path.write_text("\n".join(keys) + "\n")
    return str(path)


class TestContract(BackendContract):
    """The kit."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return AESGCMLayer(MemoryBackend(**options), key_file=file_with(self.folder, ONE))


async def written(backend: Backend, keys: str, text: str = "a secret") -> Store:
    store = Store(AESGCMLayer(backend, key_file=keys))
    await store.append("alice", [user(text)], turn_id="t")
    return store


def test_the_backend_sees_no_text(tmp_path: Path) -> None:
    async def main() -> None:
        backend = MemoryBackend()
        await written(backend, file_with(tmp_path, ONE))
        (record,) = (await backend.read(HERE)).records
        assert b"a secret" not in record.payload
        with pytest.raises(CorruptRecord):
            await Store(backend).load("alice")

    asyncio.run(main())


def test_a_moved_record_is_damaged(tmp_path: Path) -> None:
    async def main() -> None:
        backend = MemoryBackend()
        store = await written(backend, file_with(tmp_path, ONE))
        await backend.commit(THERE, Change(append=(await backend.read(HERE)).records))
        with pytest.raises(CorruptRecord, match="moved from another session"):
            await store.load("bob")

    asyncio.run(main())


def test_an_old_key_decrypts_and_the_new_one_encrypts(tmp_path: Path) -> None:
    async def main() -> None:
        backend = MemoryBackend()
        await written(backend, file_with(tmp_path, ONE))
        store = Store(AESGCMLayer(backend, key_file=file_with(tmp_path, TWO, ONE)))
        await store.append("alice", [user("more")])
        assert [message.text for message in await store.load("alice")] == ["a secret", "more"]
        only_new = Store(AESGCMLayer(backend, key_file=file_with(tmp_path, TWO)))
        with pytest.raises(CorruptRecord, match="add the key that was removed"):
            await only_new.load("alice")
        assert [message.text for message in await store.load("alice")] == ["a secret", "more"], "nothing is destroyed"

    asyncio.run(main())


@pytest.mark.parametrize("keys", [(), ("c2hvcnQ=",), ("not base64!",), ("ä",)])
def test_a_wrong_key_file_is_refused(keys: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write one with: python -c"):
        AESGCMLayer(MemoryBackend(), key_file=file_with(tmp_path, *keys))
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        AESGCMLayer(MemoryBackend(), key_file=str(tmp_path / "none"))
