"""A process that writes transcripts: python writer.py URL NAME, with the id of a session on each line of its input."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from turnlog import open_store
from turnlog_claude_agent_sdk import TurnlogSessionStore

BATCHES = 5


def batch(name: str, number: int) -> list[Any]:
    """Return a batch of a process: a question, a call of a tool, its result, the answer, and an entry without uuid."""
    call = f"{name}-{number}"
    use = {"type": "tool_use", "id": call, "name": "track", "input": {"order": number}}
    result = {"type": "tool_result", "tool_use_id": call, "content": "shipped"}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Is it on its way?"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": "Yes."},
    ]
    entries = [{"type": one["role"], "uuid": f"{call}-{place}", "message": one} for place, one in enumerate(messages)]
    return [*entries, {"type": "last-prompt", "lastPrompt": call}]


async def write(url: str, name: str) -> None:
    """Write each batch twice, as after a lost answer."""
    async with open_store(url) as store:
        claude = TurnlogSessionStore(store)
        print("ready", flush=True)
        while session_id := (await asyncio.to_thread(sys.stdin.readline)).strip():
            for number in range(BATCHES):
                for _ in range(2):
                    await claude.append({"project_key": "shop", "session_id": session_id}, batch(name, number))
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2]))
