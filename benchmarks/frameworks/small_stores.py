"""Compare stores of Strands and LlamaIndex: python benchmarks/frameworks/small_stores.py [--rounds 15]

Needs `turnlog[strands,llama-index,redis]`.  Neither framework has a store for Redis, and Strands has none for SQLite.
Each round adds four messages to a history of 1,000 messages and reads it, with each store in a different order.
LlamaIndex's stores are also asked for 100 keys.  The script prints the median and the fastest times, the medians of the
ratios within a round, and the ratios of the fastest times.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llama_index.core.llms import ChatMessage
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from strands.session import FileSessionManager
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

import servers
import turnlog.sync
from turnlog_llama_index import TurnlogChatStore
from turnlog_strands import TurnlogSessionRepository

MESSAGES, LISTED = 1_000, 100
ROLES = ("user", "assistant", "user", "assistant")
TEXT = "It is on its way, and should arrive tomorrow. " * 6


class OfStrands:
    """A session repository."""

    def __init__(self, repository):
        self.repository, self.next = repository, 0
        if repository.read_session("long") is None:
            repository.create_session(Session("long", SessionType.AGENT))
        repository.create_agent("long", SessionAgent("a", {}, {}))

    def write(self):
        for role in ROLES:
            message = SessionMessage({"role": role, "content": [{"text": TEXT}]}, self.next)
            self.repository.create_message("long", "a", message)
            self.next += 1

    def read(self):
        return len(self.repository.list_messages("long", "a"))


class OfLlamaIndex:
    """A chat store of turnlog."""

    def __init__(self, chats):
        self.chats, self.next = chats, 0
        for number in range(LISTED - 1):
            chats.add_message(f"short-{number}", ChatMessage(TEXT))

    def write(self):
        for role in ROLES:
            self.chats.add_message("long", ChatMessage(TEXT, role=role))
            self.next += 1

    def read(self):
        return len(self.chats.get_messages("long"))

    def list(self):
        return len(self.chats.get_keys())


class OfSQLAlchemy(OfLlamaIndex):
    """LlamaIndex's chat store for SQL, whose methods are asynchronous; one event loop runs them."""

    def __init__(self, path):
        chats, loop = SQLAlchemyChatStore("chats", f"sqlite+aiosqlite:///{path}"), asyncio.new_event_loop()

        class Called:
            def __getattr__(self, name):
                return lambda *arguments: loop.run_until_complete(getattr(chats, name)(*arguments))

        super().__init__(Called())


PAIRS = (
    ("strands: turnlog sqlite", "strands: files"),
    ("strands: turnlog redis", "strands: files"),
    ("llama-index: turnlog sqlite", "llama-index: SQLAlchemyChatStore"),
    ("llama-index: turnlog redis", "llama-index: SQLAlchemyChatStore"),
)


def main(rounds):
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-small-"))
        stores = {
            "strands: files": OfStrands(FileSessionManager("long", storage_dir=f"{folder}/files")),
            "llama-index: SQLAlchemyChatStore": OfSQLAlchemy(f"{folder}/theirs.db"),
        }
        for name in ("sqlite", "redis"):
            store = stack.enter_context(turnlog.sync.open_store(servers.started(name, stack)))
            stores[f"strands: turnlog {name}"] = OfStrands(TurnlogSessionRepository(store.within("strands")))
            stores[f"llama-index: turnlog {name}"] = OfLlamaIndex(TurnlogChatStore(store.within("llama-index")))
        for store in stores.values():
            while store.next < MESSAGES:
                store.write()
        found = {}
        names = list(stores)
        for _ in range(rounds):
            random.shuffle(names)
            for name in names:
                for what in ("write", "read", "list"):
                    if act := getattr(stores[name], what, None):
                        start = time.perf_counter()
                        act()
                        found.setdefault((name, what), []).append(time.perf_counter() - start)
        print(f"milliseconds, median and fastest of {rounds} rounds:")
        for (name, what), times in sorted(found.items()):
            print(f"  {name:36}{what:6}{statistics.median(times) * 1e3:8.2f}{min(times) * 1e3:8.2f}")
        print("medians of ratios within a round, and ratios of the fastest times:")
        for ours, theirs in PAIRS:
            for what in ("write", "read", "list"):
                if (ours, what) in found:
                    ratios = [a / b for a, b in zip(found[ours, what], found[theirs, what])]
                    fastest = min(found[ours, what]) / min(found[theirs, what])
                    print(f"  {ours} / {theirs}: {what} {statistics.median(ratios):.2f} {fastest:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    main(parser.parse_args().rounds)
