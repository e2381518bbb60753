"""How much smaller real conversations become, in bytes of payloads as SQLite has them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from turnlog import Message, Store
from turnlog.rules import split_turns
from turnlog_compression.zstd import ZstdLayer
from turnlog_sql.sqlite import SQLiteBackend
from watched import settled


def joined(conversations: list[dict[str, Any]]) -> dict[str, list[Message]]:
    """20 long sessions of ten conversations each, with the first system message only."""
    sessions: dict[str, list[Message]] = {}
    for number, conversation in enumerate(conversations):
        long = sessions.setdefault(f"long {number // 10}", [])
        messages = map(Message.from_dict, conversation["messages"])
        long += [message for message in messages if not long or message.role != "system"]
    return sessions


async def fill(store: Store, sessions: dict[str, list[Message]]) -> None:
    """Turn by turn, as an application does."""
    for name, messages in sessions.items():
        for turn in split_turns(messages):
            await store.append(name, turn)


def payloads(path: Path) -> int:
    """The bytes that a database holds of them."""
    connection = sqlite3.connect(path)
    (total,) = connection.execute("SELECT sum(length(payload)) FROM turnlog_records").fetchone()
    connection.close()
    assert isinstance(total, int)
    return total


async def test_long_conversations_shrink_as_promised(shared_data: list[dict[str, Any]], tmp_path: Path) -> None:
    """With the last 32 turns unsealed 2.8 times, 1.2 times more than turn by turn; sealed whole 3.5 times."""
    sessions = joined(shared_data)
    assert len(sessions) == 20
    sizes = {}
    for way in ("plain", "turn by turn", "sealed"):
        path = tmp_path / f"{way}.db"
        async with SQLiteBackend(f"sqlite:///{path}", synchronous="NORMAL") as store:
            layer = ZstdLayer(store, seal=way == "sealed")
            await fill(store if way == "plain" else layer, sessions)
            sizes[way] = payloads(path)
            if way != "sealed":
                continue
            await settled(layer)
            sizes["as it was written"] = payloads(path)
            for sealed, idle in (("but for the last 32", None), ("whole", 0)):
                async for _ in layer.recompress(idle=idle):
                    pass
                sizes[sealed] = payloads(path)
            for name, messages in sessions.items():
                assert await layer.load(name) == messages
    assert sizes["plain"] >= 2.8 * sizes["but for the last 32"]
    assert sizes["turn by turn"] >= 1.2 * sizes["but for the last 32"]
    assert sizes["turn by turn"] >= 1.2 * sizes["as it was written"]
    assert sizes["plain"] >= 3.5 * sizes["whole"]
