"""What the cache says that it holds is about what it takes in memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnlog import Message, Store
from turnlog_cache import CacheLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_sql.sqlite import SQLiteBackend


def as_they_are(message: dict[str, Any]) -> dict[str, Any]:
    return message


def smiling(message: dict[str, Any]) -> dict[str, Any]:
    """One character beyond the Basic Multilingual Plane, and Python keeps four bytes for each of them all."""
    content = message.get("content")
    return {**message, "content": f"{content} \N{GRINNING FACE}"} if isinstance(content, str) else message


async def taken(layer: Callable[[Store], Store], path: Path, conversations: list[tuple[str, list[Message]]]) -> float:
    """How many times as much it takes as it says, once all of them were read from a file."""
    async with layer(SQLiteBackend(f"sqlite:///{path}/t.db", synchronous="NORMAL", sweep=0)) as store:
        for name, messages in conversations:
            await store.save(name, messages)
        cache = CacheLayer(store)
        await cache.load(conversations[0][0])  # what is made once is made
        await cache.open()
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for name, _ in conversations:
                await cache.load(name)
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / cache.stats.bytes
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("said", [as_they_are, smiling])
@pytest.mark.parametrize("layer", [lambda store: store, ZstdLayer], ids=["bare", "zstd"])
async def test_what_it_counts_is_what_it_takes(
    shared_data: list[dict[str, Any]],
    tmp_path: Path,
    layer: Callable[[Store], Store],
    said: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """Over the real conversations, within a factor of 1.5; four times the bytes a character are no matter."""
    conversations = [
        (one["session_id"], [Message.from_dict(said(message)) for message in one["messages"]]) for one in shared_data
    ]
    assert 1 / 1.5 < await taken(layer, tmp_path, conversations) < 1.5
