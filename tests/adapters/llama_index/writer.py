"""Adds messages to chats while another process does the same: python writer.py URL NAME.

For each key on standard input, the program adds ten messages and deletes the first of its own.
"""

from __future__ import annotations

import sys

from llama_index.core.llms import ChatMessage

import turnlog.sync
from turnlog_llama_index import TurnlogChatStore


def main(url: str, name: str) -> None:
    with turnlog.sync.open_store(url) as store:
        chats = TurnlogChatStore(store)
        print("ready", flush=True)
        for line in iter(sys.stdin.readline, ""):
            key = line.strip()
            for number in range(10):
                chats.add_message(key, ChatMessage(f"{name}-{number}"))
            removed = chats.delete_message(key, 0)
            print(removed and removed.content, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
