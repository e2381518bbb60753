"""Compression ratios of real conversations, in bytes of payloads in SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from compressed import settled
from turnlog import Message, Store
from turnlog.rules import split_turns
from turnlog_compression.zstd import ZstdLayer
from turnlog_sql.sqlite import SQLiteBackend


def joined(conversations: list[dict[str, Any]]) -> dict[str, list[Message]]:
    """Return 20 long sessions of ten conversations each, with the first system message only."""
    sessions: dict[str, list[Message]] = {}
    for number, conversation in enumerate(conversations):
        long = sessions.setdefault(f"long {number // 10}", [])
        messages = map(Message.from_dict, conversation["messages"])
        long += [message for message in messages if not long or message.role != "system"]
    return sessions


async def append_turns(store: Store, sessions: dict[str, list[Message]]) -> None:
    """Append each session turn by turn, as an application does."""
    for name, messages in sessions.items():
        for turn in split_turns(messages):
            await store.append(name, turn)


def payloads(path: Path) -> int:
    """Return the bytes of all payloads in a database."""
    connection = sqlite3.connect(path)
    (total,) = connection.execute("SELECT sum(length(payload)) FROM turnlog_records").fetchone()
    connection.close()
    assert isinstance(total, int)
    return total


async def test_long_conversations_shrink_as_documented(shared_data: list[dict[str, Any]], tmp_path: Path) -> None:
    """The ratio is 2.8 with the last 32 turns unsealed, 1.2 times that of single turns, and 3.5 if sealed whole."""
    sessions = joined(shared_data)
    assert len(sessions) == 20
    sizes = {}
    for way in ("plain", "turn by turn", "sealed"):
        path = tmp_path / f"{way}.db"
        async with SQLiteBackend(f"sqlite:///{quote(str(path))}", synchronous="NORMAL") as backend:
            layer = ZstdLayer(backend, seal=way == "sealed")
            await append_turns(Store(backend if way == "plain" else layer), sessions)
            sizes[way] = payloads(path)
            if way != "sealed":
                continue
            await settled(layer)
            sizes["as it was written"] = payloads(path)
            for sealed, idle in (("but for the last 32", None), ("whole", 0)):
                async for _ in layer.recompress("default", idle=idle):
                    pass
                sizes[sealed] = payloads(path)
            for name, messages in sessions.items():
                assert await Store(layer).load(name) == messages
    assert sizes["plain"] >= 2.8 * sizes["but for the last 32"]
    assert sizes["turn by turn"] >= 1.2 * sizes["but for the last 32"]
    assert sizes["turn by turn"] >= 1.2 * sizes["as it was written"]
    assert sizes["plain"] >= 3.5 * sizes["whole"]
