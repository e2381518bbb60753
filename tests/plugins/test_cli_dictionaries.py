"""`turnlog erase` names trained dictionaries, which may hold fragments of the erased text."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from command_line import KeptBackend, use
from turnlog import Change, Key, Record, Store, user
from turnlog_cli import main
from turnlog_compression.zstd import ZstdLayer


async def _trained(store: Store, backend: KeptBackend) -> None:
    """Store sessions with and without an owner, train a dictionary on those with an owner, and damage one session."""
    for number in range(40):
        texts = [user(f"patient record {number} {word}" * 20) for word in ("alpha", "beta", "gamma")]
        await store.append(f"s{number}", texts, owner="alice" if number else None)
    await store.find(ZstdLayer).train("default")
    damaged = Record.of((user("x"),), id="x", time=0.0).with_payload(b"damaged")
    await backend.commit(Key("default", "s1"), Change(keep=0, append=(damaged,), owner=""))


@pytest.mark.parametrize("arguments", [["s0"], ["s1"], ["--owner=alice"]])
def test_erase_names_the_dictionaries_also_if_nobody_knows_the_owner(
    arguments: list[str], monkeypatch: Any, capsys: Any
) -> None:
    backend = KeptBackend()
    store = Store(ZstdLayer(backend, dictionary=True))
    asyncio.run(_trained(store, backend))
    use(monkeypatch, store)
    assert main(["erase", *arguments, "--yes", "--json"]) == 0
    where = [one["where"] for one in json.loads(capsys.readouterr().out)["remains"]]
    assert where[0].startswith("dictionary ")
