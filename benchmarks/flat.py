"""Measure the influence of the stored amount on times: python benchmarks/flat.py [--groups sqlite,postgres] [--sessions 100000] [--messages 100000]

The script prints medians in µs for each database: a page of 100 sessions at several places among many sessions, and
`load(last=20)` and `append` on a short and on a long session.  It checks no limits; tests check the counts of statements.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from statistics import median

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import msgspec

import servers
from turnlog import Change, Key, Query, Record, Store, assistant, user
from turnlog.rules import Header

PER_COMMIT = 1000  # turns
COLUMNS = ("epoch", "generation", "rounds", "start", "messages_until", "bytes", "owner", "expires")
NAMED = ", ".join(("namespace", "session", "updated", "times", "head", *COLUMNS))


async def fill_sessions(store, many: int) -> None:
    """Store one session, and insert its row again under many other names and times."""
    await store.append("one", [user("hello")])
    database = store.backend._database
    sqlite = "sqlite" in repr(store)
    one = f"SELECT head, {', '.join(COLUMNS)} FROM turnlog_sessions"
    connection = database._worker._thread.connection if sqlite else None
    if sqlite:
        head, *columns = connection.execute(one).fetchone()
    else:
        head, *columns = (await database.with_connection(lambda lent: lent.fetch(one)))[0]
    header = Header.unpack(Key("default", "one"), head, updated=0.0, expires=None)

    def row(n: int) -> tuple:
        name = f"s{n}"
        packed = msgspec.structs.replace(header, key=Key("default", name)).pack()
        return (b"default", name.encode(), float(n), float(n), packed, *columns)  # none of them expires

    rows = (row(n) for n in range(1, many + 1))
    width = len(columns) + 5
    if sqlite:
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO turnlog_sessions ({NAMED}) VALUES ({', '.join('?' * width)})", rows)
        connection.execute("COMMIT")
    else:
        places = ", ".join(f"${place + 1}" for place in range(width))
        sql = f"INSERT INTO turnlog_sessions ({NAMED}) VALUES ({places})"
        await database.with_connection(lambda lent: lent.executemany(sql, rows))
        await database.with_connection(lambda lent: lent.execute("ANALYZE"))


async def fill_turns(store, name: str, messages: int) -> None:
    text = "x" * 600
    for start in range(0, messages // 2, PER_COMMIT):
        turns = range(start, min(start + PER_COMMIT, messages // 2))
        records = (Record.of((user("hello"), assistant(text)), id=f"t{turn}", time=0.0) for turn in turns)
        await store.backend.commit(Key("default", name), Change(append=tuple(records)))


async def timed(work, times: int = 60) -> float:
    spent = []
    for _ in range(times):
        before = time.perf_counter()
        await work()
        spent.append((time.perf_counter() - before) * 1e6)
    return median(spent)


async def pages(store, many: int) -> None:
    cursor, number, seen = None, 0, set()
    shown = {}
    while True:
        query = Query(namespace="default", limit=100, cursor=cursor)
        if number in (0, many // 400, many // 200, many * 3 // 400, many // 100 - 1):
            shown[number] = await timed(lambda query=query: store.backend.page(query), 20)
        page = await store.backend.page(query)
        seen.update(info.key.session for info in page.infos)
        cursor, number = page.cursor, number + 1
        if cursor is None:
            break
    print(f"page of 100 among {many:,} sessions, each shown once: {len(seen) == many + 1}")
    print("  " + ", ".join(f"page {place}: {spent:.0f} µs" for place, spent in shown.items()))


async def turns(store, many: int) -> None:
    for messages in (10, many):
        name = f"long-{messages}"
        await fill_turns(store, name, messages)
        load = await timed(lambda name=name: store.load(name, last=20))
        append = await timed(lambda name=name: store.append(name, [user("hello"), assistant("x" * 600)]))
        print(f"at {messages:,} messages: load(last=20) {load:.0f} µs, append {append:.0f} µs")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", default="sqlite,postgres")
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=100_000)
    args = parser.parse_args()
    for group in args.groups.split(","):
        print(f"\n**{group}**\n")
        folder = tempfile.mkdtemp(prefix="bench-flat-")
        try:
            if group == "sqlite":
                from turnlog_sql.sqlite import SQLiteBackend

                async with Store(SQLiteBackend(f"sqlite:///{folder}/flat.db", sweep=0)) as store:
                    await fill_sessions(store, args.sessions)
                    await pages(store, args.sessions)
                    await turns(store, args.messages)
            else:
                from turnlog_sql.postgresql import PostgreSQLBackend

                with servers.Postgres() as server:
                    url = f"postgresql://bench@127.0.0.1:{server.port}/bench"
                    async with Store(PostgreSQLBackend(url, sweep=0)) as store:
                        await fill_sessions(store, args.sessions)
                        await pages(store, args.sessions)
                        await turns(store, args.messages)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
