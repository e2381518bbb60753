"""Measure pages of the inspector: python benchmarks/inspector.py [--groups sqlite,postgres] [--sessions 1000000] [--messages 10000]

For each database, the script stores sessions and one long conversation, starts `turnlog inspect`, and prints for each
page the time of the first request and the median of 10 more, in ms, from the request to the last byte.  It checks no
limits.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from statistics import median
from urllib.parse import urlsplit

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from flat import fill_sessions, fill_turns

import servers
from turnlog import Store

PAGES = {
    "list": "/",
    "next page of the list": "{next}",
    "list, by a rare prefix": "/?prefix=s50001",
    "conversation": "/session?id=long",
    "earlier turns": "/session/turns?id=long&before=1000",
    "one turn by its link": "/session?id=long&turn=2500",
    "export": "/session/export?id=long",
    "metrics": "/metrics",
}


@contextmanager
def inspecting(url: str):
    """Start the inspector, and yield a function that returns the text of a page."""
    program = "import sys, turnlog_cli; sys.exit(turnlog_cli.main())"
    command = [sys.executable, "-c", program, "inspect", "--store", url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        first = urlsplit(process.stdout.readline().strip())
        connection = http.client.HTTPConnection(first.netloc, timeout=120)

        connection.request("GET", f"/?{first.query}")
        answer = connection.getresponse()
        answer.read()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]

        def page(path: str) -> str:
            connection.request("GET", path, headers={"Cookie": cookie})
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, text
            return text

        yield page
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def measured(url: str) -> None:
    following = "/"
    with inspecting(url) as page:
        for name, path in PAGES.items():
            path = path.replace("{next}", following)
            spent, text = [], ""
            for _ in range(11):
                before = time.perf_counter()
                text = page(path)
                spent.append((time.perf_counter() - before) * 1e3)
            if path == "/":
                following = text.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
                following = following.replace("&amp;", "&")
            print(f"{name}: first {spent[0]:.0f} ms, median {median(spent[1:]):.0f} ms, {len(text) / 1e3:.0f} kB")


async def fill(store: Store, sessions: int, messages: int) -> None:
    async with store:
        await fill_sessions(store, sessions)
        await fill_turns(store, "long", messages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", default="sqlite,postgres")
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--messages", type=int, default=10_000)
    args = parser.parse_args()
    for group in args.groups.split(","):
        print(
            f"\n**{group}**, {args.sessions:,} sessions and a conversation of {args.messages:,} messages\n", flush=True
        )
        folder = tempfile.mkdtemp(prefix="bench-inspector-")
        try:
            if group == "sqlite":
                from turnlog_sql.sqlite import SQLiteBackend

                url = f"sqlite:///{folder}/inspector.db"
                asyncio.run(fill(Store(SQLiteBackend(url, sweep=0)), args.sessions, args.messages))
                measured(url)
            else:
                from turnlog_sql.postgresql import PostgreSQLBackend

                with servers.Postgres() as server:
                    url = f"postgresql://bench@127.0.0.1:{server.port}/bench"
                    asyncio.run(fill(Store(PostgreSQLBackend(url, sweep=0)), args.sessions, args.messages))
                    measured(url)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
