"""A message arrives while a history is compacted: SQLiteSession loses it, TurnlogSession does not.

Run this program with `python openai_agents.py` in an empty folder.  It needs no network: `client` stands for OpenAI's
client, whose request takes seconds.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from agents import SQLiteSession
from agents.memory import OpenAIResponsesCompactionSession, Session

from turnlog import Conflict, open_store
from turnlog_openai_agents import TurnlogSession


async def compact(session: Session, other: Session) -> None:
    """Compact a session while another object for it writes a message, and print the items of the session."""

    async def request(**_: object) -> object:
        await other.add_items([{"role": "user", "content": "Please deliver it to my neighbour."}])
        return SimpleNamespace(output=[{"type": "compaction", "id": "cmp_1", "encrypted_content": "..."}])

    await session.add_items(
        [{"role": "user", "content": "I ordered a lamp."}, {"role": "assistant", "content": "Yes."}]
    )
    client: Any = SimpleNamespace(responses=SimpleNamespace(compact=request))
    compacting = OpenAIResponsesCompactionSession("alice", session, client=client, compaction_mode="input")
    try:
        await compacting.run_compaction({"force": True})
    except Conflict:
        print("- not compacted, because the session has changed")
    for item in await session.get_items():
        print("-", item.get("content") or item.get("type"))


async def main() -> None:
    """Compact a session of the SDK and a session of turnlog."""
    print("SQLiteSession:")
    await compact(SQLiteSession("alice", "sdk.db"), SQLiteSession("alice", "sdk.db"))
    print("TurnlogSession:")
    async with open_store("sqlite:///turnlog.db") as store:
        await compact(TurnlogSession(store, "alice"), TurnlogSession(store, "alice"))


if __name__ == "__main__":
    asyncio.run(main())
