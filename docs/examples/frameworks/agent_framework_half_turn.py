"""Half a turn: the framework's FileHistoryProvider stores a call without its result, and turnlog stores the whole turn.

    pip install 'turnlog[agent-framework]' && python agent_framework_half_turn.py

A tool returns a text that ends in the middle of an emoji, as programs do that cut texts at a number of UTF-16 units.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import warnings

from agent_framework import Content, FileHistoryProvider, HistoryProvider, Message

from turnlog import open_store
from turnlog_agent_framework import TurnlogHistoryProvider

TURN = [
    Message("user", ["What did they write?"]),
    Message("assistant", [Content.from_function_call("call-1", "read_mail", arguments="{}")]),
    Message("tool", [Content.from_function_result("call-1", result=json.loads(r'"Thanks \ud83d"'))]),
    Message("assistant", ["They thank you."]),
]


async def show(provider: HistoryProvider) -> None:
    """Save the turn, and print the roles of the stored messages."""
    try:
        await provider.save_messages("alice", TURN)
    except UnicodeEncodeError as error:
        print(f"{type(provider).__name__} raises {type(error).__name__}")
    roles = [message.role for message in await provider.get_messages("alice")]
    print(f"{type(provider).__name__} has stored: {', '.join(roles)}")


async def main() -> None:
    """Save the turn with both providers."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FileHistoryProvider is experimental
        await show(FileHistoryProvider(folder))
    async with open_store("memory://") as store:
        await show(TurnlogHistoryProvider(store))


if __name__ == "__main__":
    asyncio.run(main())
