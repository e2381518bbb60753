"""Real conversations are read back unchanged."""

from __future__ import annotations

import asyncio
from typing import Any

from turnlog import Store
from turnlog_memory import MemoryBackend


def test_all_conversations_load_back_equal(shared_data: list[dict[str, Any]]) -> None:
    async def run() -> None:
        async with Store(MemoryBackend()) as store:
            for conversation in shared_data:
                await store.save(conversation["session_id"], conversation["messages"])
            assert len([info async for info in store.sessions()]) == len(shared_data) == 200
            count = 0
            for conversation in shared_data:
                loaded = [message.to_dict() for message in await store.load(conversation["session_id"])]
                assert loaded == conversation["messages"]
                count += len(loaded)
            assert count == 5_308

    asyncio.run(run())
