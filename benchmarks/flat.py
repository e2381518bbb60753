"""Whether time depends on how much there is: python benchmarks/flat.py [--groups sqlite,postgres] [--sessions 100000] [--messages 100000]

Two tables for each database: a page of 100 sessions at several places among many sessions, and `load(last=20)` and `append`
on a short and on a long session, in µs, medians.  Prints; judges nothing: what is flat is proved by counts, in the tests.
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

import servers
from turnlog import Change, Key, Query, Record, assistant, user

PER_COMMIT = 1000  # turns
MANY = "INSERT INTO turnlog_sessions ({columns}) SELECT {values} FROM turnlog_sessions s, {numbers} WHERE s.session = {one}"
COLUMNS = ("epoch", "generation", "rounds", "start", "messages_until", "bytes", "owner", "expires", "head")


async def fill_sessions(store, many: int) -> None:
    """One session, and its header many times over under other names and times: set-wise, and as the store would do it."""
    await store.append("one", [user("hello")])
    sqlite = "sqlite" in repr(store)
    values = ", ".join(
        ["s.namespace", "CAST('s' || n.n AS BLOB)" if sqlite else "convert_to('s' || n.n, 'UTF8')", "n.n"]
        + [f"s.{column}" for column in COLUMNS]
    )
    numbers = (
        f"(WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM c WHERE n < {many}) SELECT n FROM c) n"
        if sqlite
        else f"generate_series(1, {many}) AS n(n)"
    )
    sql = MANY.format(
        columns=", ".join(("namespace", "session", "updated", *COLUMNS)),
        values=values,
        numbers=numbers,
        one="CAST('one' AS BLOB)" if sqlite else "'one'::bytea",
    )
    database = store._database
    if sqlite:
        database._worker._thread.connection.execute(sql)
    else:
        await database.with_connection(lambda connection: connection.execute(sql))
        await database.with_connection(lambda connection: connection.execute("ANALYZE"))


async def fill_turns(store, name: str, messages: int) -> None:
    text = "x" * 600
    for start in range(0, messages // 2, PER_COMMIT):
        turns = range(start, min(start + PER_COMMIT, messages // 2))
        records = (Record.of((user("hello"), assistant(text)), id=f"t{turn}", time=0.0) for turn in turns)
        await store.commit(Key("default", name), Change(append=tuple(records)))


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
            shown[number] = await timed(lambda query=query: store.page(query), 20)
        page = await store.page(query)
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

                async with SQLiteBackend(f"sqlite:///{folder}/flat.db", sweep=0) as store:
                    await fill_sessions(store, args.sessions)
                    await pages(store, args.sessions)
                    await turns(store, args.messages)
            else:
                from turnlog_sql.postgresql import PostgreSQLBackend

                with servers.Postgres() as server:
                    url = f"postgresql://bench@127.0.0.1:{server.port}/bench"
                    async with PostgreSQLBackend(url, sweep=0) as store:
                        await fill_sessions(store, args.sessions)
                        await pages(store, args.sessions)
                        await turns(store, args.messages)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
