"""Program for the tests of edits, which runs in two processes.

python session_editors.py URL NAME   append, pop, rewrite and trim sessions, and print the log as JSON
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from typing import Any, Final

from turnlog import Conflict, InvalidInput, Store, open_store, user

SESSIONS: Final = 20
EDITS: Final = 12


async def edit(store: Store, writer: str, log: dict[str, Any]) -> None:
    """Edit each session a number of times, and log the created and the removed messages."""
    chance = random.Random(writer)
    for session in range(SESSIONS):
        name = f"s{session}"
        for number in range(EDITS):
            text = f"{session}-{writer}-{number}"
            receipt = await store.append(name, [user(text), user(f"{text}'")])
            log["created"][text] = log["created"][f"{text}'"] = receipt.number
            act = chance.choice(["pop", "rewrite", "trim", "append"])
            if act == "pop":
                log["removed"] += [message.text for message in await store.pop_messages(name, chance.randint(1, 3))]
            elif act == "rewrite":
                await rewrite(store, name, f"{text}!", log)
            elif act == "trim":
                info = await store.info(name)
                with contextlib.suppress(InvalidInput):  # fewer than three turns, or the other writer removed them
                    await store.trim(name, before=info.turns - 3)


async def rewrite(store: Store, name: str, text: str, log: dict[str, Any]) -> None:
    session = await store.session(name, last=1)
    if session.turns:
        last = session.turns[-1]
        try:
            receipt = await store.rewrite(name, [user(text)], from_turn=last.number, expect=session.version)
        except Conflict:
            return
        log["removed"] += [message.text for message in last.messages]
        log["created"][text] = receipt.number


async def main(url: str, writer: str) -> None:
    log: dict[str, Any] = {"created": {}, "removed": []}
    async with open_store(url) as store:
        await edit(store, writer, log)
    print(json.dumps(log))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
