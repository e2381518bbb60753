"""The bytes that the cache counts approximate the memory that it takes."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnlog import Backend, Message, Store
from turnlog_cache import CacheLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_sql.sqlite import SQLiteBackend


def unchanged(message: dict[str, Any]) -> dict[str, Any]:
    return message


def with_emoji(message: dict[str, Any]) -> dict[str, Any]:
    """Add a character beyond the Basic Multilingual Plane, so that Python stores four bytes per character."""
    content = message.get("content")
    return {**message, "content": f"{content} \N{GRINNING FACE}"} if isinstance(content, str) else message


async def taken(
    layer: Callable[[Backend], Backend], path: Path, conversations: list[tuple[str, list[Message]]]
) -> float:
    """Return the memory taken per counted byte, after all conversations were read from a file."""
    async with layer(SQLiteBackend(f"sqlite:///{path}/t.db", synchronous="NORMAL", sweep=0)) as backend:
        for name, messages in conversations:
            await Store(backend).save(name, messages)
        cache = CacheLayer(backend)
        store = Store(cache)
        await store.load(conversations[0][0])  # creates the objects that all loads share
        await cache.open()  # empties the cache
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for name, _ in conversations:
                await store.load(name)
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / cache.counters.bytes
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("change", [unchanged, with_emoji])
@pytest.mark.parametrize("layer", [lambda backend: backend, ZstdLayer], ids=["bare", "zstd"])
async def test_counted_bytes_are_the_memory_taken(
    shared_data: list[dict[str, Any]],
    tmp_path: Path,
    layer: Callable[[Backend], Backend],
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """The ratio for real conversations is within a factor of 1.5, also with four bytes per character."""
    conversations = [
        (one["session_id"], [Message.from_dict(change(message)) for message in one["messages"]]) for one in shared_data
    ]
    assert 1 / 1.5 < await taken(layer, tmp_path, conversations) < 1.5
