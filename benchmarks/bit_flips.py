"""Count the wrong answers that flipped bits cause: python benchmarks/bit_flips.py [--groups sqlite,log,postgresql,redis,lists]

The script fills a store of several namespaces and owners.  Some sessions are undone, cut, erased and created again, so
that the files contain old pages and rows.  Then the script flips bits in the stored data and reads everything back: each
whole session, its last 20 messages, its info, and the pages of each namespace and each owner.  It classifies every
answer:

    equal       the same as before the flip
    error       a `TurnlogError` (by class), or a session that a page reports as damaged
    not found   `SessionNotFound` for a stored session
    list        a page without an error that lacks a session, or has one at a wrong place, or an old or wrong info
    info        an old or wrong answer of `info`, without an error
    blocked     a page that raises an error, so that it lists no session
    raw         an exception that is not turnlog's
    history     an incorrect history: an older state, a part, or other contents
    foreign     messages, infos or pages that contain data of another session, owner or namespace

`sqlite`: one bit of the file; `--targeted` flips only in the headers, pointers and cell heads of pages.
`log`: one bit of the write-ahead log, while no process has the database open: the next process recovers the log.
`postgresql`: in each round one bit in a quarter of the blocks of the tables, the indexes and their side tables, while a private
server without block checksums is stopped.
`redis`: in each round one bit of one element of each session's list.  `lists`: one bit of an index, or of a key's name.
`--writes` also writes to and erases sessions after a flip, and checks the sessions that it did not write to.
"""

from __future__ import annotations

import argparse
import asyncio
import glob
import json
import os
import pwd
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from math import isnan

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import logging

import servers
from turnlog import Change, Key, Query, Record, SessionNotFound, Store, TurnlogError, assistant, open_store, user

NAMESPACES, OWNERS = ("acme", "acme-corp"), ("", "ann", "bob")
RAM = "/dev/shm" if os.path.isdir("/dev/shm") else None
BAD = ("foreign", "history", "raw", "blocked", "info", "list", "not found")
"""The kinds of wrong answers, the worst first.  A flip counts as its worst answer."""

logging.disable(logging.CRITICAL)


# ---------------------------------------------------------------------------------------------------------- the content


@dataclass
class Known:
    """The stored state of a session, and its earlier states."""

    messages: list[dict]
    info: dict
    turns: list[int]
    older: set[str] = field(default_factory=set)


Truth = dict[Key, Known]


def said(dice: random.Random, key: Key, turn: str) -> list:
    tag = f"{key.namespace}|{key.session}|"
    words = " ".join(f"{dice.getrandbits(30):x}" for _ in range(dice.choice((2, 5, 20, 90))))
    return [user(f"{tag}{turn}?"), assistant(f"{tag}{turn} {words}")]


async def fill(store: Store, many: int, dice: random.Random) -> Truth:
    """Fill each namespace with `many` sessions."""
    truth: Truth = {}
    for namespace in NAMESPACES:
        inside = store.within(namespace)
        for number in range(many):
            key = Key(namespace, f"s{number}")
            for _ in range(2 if number % 5 == 0 else 1):  # some are erased and created again
                if number % 5 == 0:
                    await inside.erase(key.session)
                older = await write(inside, key, number, dice)
            truth[key] = Known([], {}, [], older)
    for key, known in truth.items():
        session = await store.within(key.namespace).session(key.session, touch=False)
        known.messages = [message.to_dict() for message in session.messages]
        known.info = plain(session.info)
        known.turns = [turn.number for turn in session.turns]
        known.older.discard(json.dumps(known.messages))
    return truth


async def write(store: Store, key: Key, number: int, dice: random.Random) -> set[str]:
    name, older = key.session, set()

    async def add(turn: str, **more) -> None:
        await store.append(name, said(dice, key, turn), **more)
        older.add(json.dumps([message.to_dict() for message in await store.load(name)]))

    owner = OWNERS[number % len(OWNERS)]
    await add("first", owner=owner or None, metadata={"title": f"of {key}", "n": 0})
    for turn in range((0, 2, 6, 11, 24)[number % 5]):
        await add(str(turn))
    if number % 3 == 0:
        await store.merge_metadata(name, {"n": 1})
    if number % 2 and number % 5:
        await store.rewind(name, turns=2)
        for turn in range(2):
            await add(f"again {turn}")
    if number % 7 == 6:
        await store.merge_metadata(name, ttl=10 * 86_400.0)
    if number % 4 == 3:
        record = Record.of(tuple(said(dice, key, "last")), id=f"last {number}", time=1.0)
        await store.backend.commit(key, Change(append=(record,), retain=max(1, number % 5)))
        if number % 8 == 7:
            await store.fork(name, f"{name} copy")
            await store.erase(f"{name} copy")
    return older


def plain(info) -> dict:
    found = info.to_dict()
    del found["expires_in"]
    return found


# ------------------------------------------------------------------------------------------------------- classification


@dataclass
class Verdict:
    """The outcome of one flip, or of one round of flips."""

    seen: Counter = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def note(self, kind: str, what: str = "", key: object = None) -> None:
        self.seen[kind if not what or kind not in ("error", "raw") else f"{kind} {what}"] += 1
        if kind in BAD and len(self.examples) < 4:
            self.examples.append(f"{kind}: {key} {what}"[:300])

    @property
    def worst(self) -> str:
        kinds = {kind.split(" ")[0] if kind.startswith("raw ") else kind for kind in self.seen}
        for kind in BAD:
            if kind in kinds:
                return kind
        return next((kind for kind in sorted(kinds) if kind.startswith("error")), "equal")


def failed(verdict: Verdict, error: Exception, key: object) -> None:
    if isinstance(error, SessionNotFound):
        verdict.note("not found", key=key)
    elif isinstance(error, TurnlogError):
        named = getattr(error, "key", None)
        if isinstance(key, Key) and named not in (None, key):
            verdict.note("foreign", f"the error names {named}", key)
        verdict.note("error", type(error).__name__)
    else:
        verdict.note("raw", type(error).__name__, key)


def judge_history(verdict: Verdict, key: Key, known: Known, found: list[dict], last: int | None) -> None:
    wanted = known.messages
    if last is not None:
        wanted = wanted[max(0, len(wanted) - last - last % 2) :]
    if found == wanted:
        verdict.note("equal")
        return
    tag = f"{key.namespace}|{key.session}|"
    others = [one for one in found if not str(one.get("content")).startswith(tag)]
    kind = "foreign" if others else "history"
    what = "older" if json.dumps(found) in known.older else f"{len(found)} of {len(wanted)} messages"
    verdict.note(kind, others[0]["content"][:40] if others else what, key)


async def judge(store: Store, truth: Truth, verdict: Verdict, *, touched: frozenset[Key] = frozenset()) -> None:
    """Read everything and classify the answers, except for the `touched` sessions, which have changed since."""
    for key, known in truth.items():
        if key in touched:
            continue
        inside = store.within(key.namespace)
        for last in (None, 20):
            try:
                messages = await inside.load(key.session, last=last)
                judge_history(verdict, key, known, [message.to_dict() for message in messages], last)
            except Exception as error:
                failed(verdict, error, key)
        try:
            info = plain(await inside.info(key.session))
            if info == known.info:
                verdict.note("equal")
            else:
                named = (info["namespace"], info["session_id"], info["owner"])
                own = (key.namespace, key.session, known.info["owner"])
                differing = [name for name in info if info[name] != known.info[name]]
                verdict.note("info" if named == own else "foreign", f"info: {differing}", key)
        except Exception as error:
            failed(verdict, error, key)
    for namespace in NAMESPACES:
        for owner in (None, *OWNERS):
            await judge_pages(store, truth, verdict, namespace, owner, touched)


async def judge_pages(
    store: Store, truth: Truth, verdict: Verdict, namespace: str, owner: str | None, touched: frozenset[Key]
) -> None:
    infos, damaged, cursor, pages = [], [], None, 0
    limit = max(7, len(truth) // 8)
    while True:
        try:
            page = await store.backend.page(Query(namespace=namespace, owner=owner, limit=limit, cursor=cursor))
        except TurnlogError as error:
            verdict.note("blocked", f"{type(error).__name__} {error}", (namespace, owner))
            return
        except Exception as error:
            verdict.note("raw", type(error).__name__, ("page", namespace, owner))
            return
        infos += page.infos
        damaged += [error.key for error in getattr(page, "damaged", ())]
        pages += 1
        if page.cursor is None:
            break
        if page.cursor == cursor or pages > 10 * len(truth):
            verdict.note("blocked", "the same page again", (namespace, owner))
            return
        cursor = page.cursor
    belongs = {
        key: known
        for key, known in truth.items()
        if key.namespace == namespace and owner in (None, known.info["owner"]) and key not in touched
    }
    found = {info.key: plain(info) for info in infos if info.key not in touched}
    if damaged:
        verdict.note("error", "named on a page")
    for key, info in found.items():
        if key not in belongs:
            verdict.note("foreign", f"on the page of {namespace}, {owner}", key)
        elif info != belongs[key].info:
            verdict.note("list", str([name for name in info if info[name] != belongs[key].info[name]]), key)
    missed = [key for key in belongs if key not in found and key not in damaged]
    if None in damaged:
        missed = []
    if missed:
        verdict.note("list", f"{len(missed)} missed by the page of {namespace}, {owner}", missed[0])
    if len(found) != len([info for info in infos if info.key not in touched]):
        verdict.note("list", "twice on the pages", (namespace, owner))
    elif not missed and [i for i in found if i in belongs] != _ordered(belongs, found):
        verdict.note("list", "another order", (namespace, owner))
    if not missed and found and not damaged:
        verdict.note("equal")


def _ordered(belongs: Truth, found: dict) -> list[Key]:
    return sorted(
        (key for key in belongs if key in found),
        key=lambda key: (-belongs[key].info["updated"], key.session.encode()),
    )


async def write_after(store: Store, truth: Truth, dice: random.Random, verdict: Verdict) -> frozenset[Key]:
    """Write to, undo and erase a few sessions and one owner; return the sessions that may have changed."""
    touched = set(dice.sample(list(truth), 6))
    for number, key in enumerate(sorted(touched)):
        inside = store.within(key.namespace)
        with suppress(TurnlogError):
            if number < 3:
                await inside.append(key.session, said(dice, key, "new"))
            elif number == 3:
                await inside.rewind(key.session, turns=1)
            else:
                await inside.erase(key.session)
    namespace = dice.choice(NAMESPACES)
    with suppress(TurnlogError):
        await store.within(namespace).erase_owner("bob")
    return frozenset(touched | {k for k, v in truth.items() if k.namespace == namespace and v.info["owner"] == "bob"})


def add(total: Counter, verdict: Verdict) -> None:
    total[verdict.worst] += 1


def report(name: str, flips: int, total: Counter, examples: list[str], unit: str) -> None:
    print(f"\n**{name}**: {flips:,} flips; {unit} by the worst answer\n")
    print("| answer | count |\n|---|--:|")
    for kind in ("equal", *sorted(kind for kind in total if kind.startswith("error")), *reversed(BAD)):
        if total[kind] or kind in BAD:
            print(f"| {kind} | {total[kind]:,} |")
    for example in examples[:30]:
        print(f"    {example}")
    sys.stdout.flush()


# --------------------------------------------------------------------------------------------------------------- SQLite


def structure(data: bytes, size: int) -> list[int]:
    """Return the offsets of headers, pointers and cell heads of all pages of a SQLite file (sqlite.org/fileformat2.html)."""
    found = list(range(100))
    for page in range(len(data) // size):
        start = page * size
        head = start + (100 if page == 0 else 0)
        kind = data[head]
        if kind not in (2, 5, 10, 13):
            continue
        cells = struct.unpack_from(">H", data, head + 3)[0]
        width = 12 if kind in (2, 5) else 8
        found += range(head, min(head + width + 2 * cells, start + size))
        for number in range(cells):
            cell = start + struct.unpack_from(">H", data, head + width + 2 * number)[0]
            found += range(cell, min(cell + 24, start + size))
    return found


def sqlite_chunk(folder: str, seed: int, flips: int, name: str, *, targeted: bool, writes: bool, layers: list) -> tuple:
    import pickle

    with open(f"{folder}/truth", "rb") as file:
        truth: Truth = pickle.load(file)
    base = {}
    for suffix in ("", "-wal"):
        if os.path.exists(f"{folder}/chat.db{suffix}"):
            with open(f"{folder}/chat.db{suffix}", "rb") as file:
                base[suffix] = file.read()
    target = "-wal" if name == "log" else ""
    data = base[target]
    places = structure(data, 4096) if targeted else range(len(data))
    mine = f"{folder}/{seed}"
    os.makedirs(mine)
    dice, total, examples, raw = random.Random(seed), Counter(), [], Counter()

    async def one(url: str, verdict: Verdict) -> None:
        try:
            async with open_store(url, layers=layers) as store:
                touched = await write_after(store, truth, dice, verdict) if writes else frozenset()
                await judge(store, truth, verdict, touched=touched)
        except Exception as error:
            failed(verdict, error, "open")

    async def all_of_them() -> None:
        for _ in range(flips):
            at, bit = dice.choice(places), dice.randrange(8)
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{mine}/chat.db{suffix}")
            for suffix, sound in base.items():
                with open(f"{mine}/chat.db{suffix}", "wb") as file:
                    file.write(sound)
                    if suffix == target:
                        file.seek(at)
                        file.write(bytes([sound[at] ^ 1 << bit]))
            verdict = Verdict()
            await one(f"sqlite:///{mine}/chat.db?synchronous=NORMAL", verdict)
            add(total, verdict)
            raw.update(kind for kind in verdict.seen if kind.startswith("raw"))
            if verdict.worst in BAD:
                examples.append(f"byte {at} (page {at // 4096 + 1}, {at % 4096}) bit {bit}: {verdict.examples}")

    asyncio.run(all_of_them())
    shutil.rmtree(mine)
    return flips, total, examples, raw


def sqlite(args: argparse.Namespace, name: str) -> None:
    import pickle
    import sqlite3

    folder = tempfile.mkdtemp(prefix="bench-flips-", dir=RAM)
    layers = args.layers.split(",") if args.layers else []
    path = f"{folder}/chat.db"

    async def make() -> Truth:
        url = f"sqlite:///{path}?synchronous=NORMAL"
        async with open_store(url, layers=layers) as store:
            if name != "log":
                return await fill(store, args.sessions, random.Random(1))
            await fill(store, args.sessions, random.Random(1))
        holder = sqlite3.connect(path)  # keeps the log when the store is closed
        holder.execute("SELECT count(*) FROM turnlog_sessions").fetchone()
        async with open_store(url, layers=layers) as store:
            for number in range(args.sessions):  # most of the log contains acknowledged turns
                for namespace in NAMESPACES:
                    await store.within(namespace).erase(f"s{number}")
            truth = await fill(store, args.sessions, random.Random(2))
        shutil.copy(path, f"{path}.kept")
        shutil.copy(f"{path}-wal", f"{path}.kept-wal")
        holder.close()
        for suffix in ("", "-wal"):
            os.replace(f"{path}.kept{suffix}", f"{path}{suffix}")
        return truth

    truth = asyncio.run(make())
    with open(f"{folder}/truth", "wb") as file:
        pickle.dump(truth, file)
    size = os.path.getsize(path + ("-wal" if name == "log" else ""))
    print(f"{name}: {len(truth)} sessions, {size:,} bytes", flush=True)
    total, examples, raw, done, began = Counter(), [], Counter(), 0, time.monotonic()
    chunk = min(args.chunk, max(1, args.flips // args.processes))
    more = {"targeted": args.targeted, "writes": args.writes, "layers": layers}
    with ProcessPoolExecutor(args.processes) as pool:
        jobs = [
            pool.submit(sqlite_chunk, folder, args.seed * 1_000_003 + number, chunk, name, **more)
            for number in range(args.flips // chunk)
        ]
        for job in as_completed(jobs):
            flips, counted, shown, met = job.result()
            done, examples = done + flips, examples + shown
            total += counted
            raw += met
            if args.verbose:
                print(done, f"{time.monotonic() - began:.0f} s", dict(total), dict(raw), flush=True)
    report(
        name + (" targeted" if args.targeted else "") + (" and writes" if args.writes else ""),
        done,
        total,
        examples,
        "flips",
    )
    if raw:
        print("raw:", dict(raw))
    if args.all:
        print("\n".join(examples))
    shutil.rmtree(folder, ignore_errors=True)


# ----------------------------------------------------------------------------------------------------------- PostgreSQL


class Stopped(servers.Postgres):
    """A private PostgreSQL server that can be stopped and started again on the same files."""

    def stop(self) -> None:
        servers._stop(self.proc, signal.SIGINT)

    def start(self) -> None:
        somebody = {}
        if os.getuid() == 0:
            found = pwd.getpwnam("postgres")
            somebody = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [*self.proc.args, "-c", "autovacuum=off"]
        self.proc = subprocess.Popen(command, cwd=self.dir, **quiet, **somebody)
        servers._wait(self.port)

    def files(self) -> list[str]:
        """Return the files of the tables, their indexes and side tables."""
        mine = "relname LIKE 'turnlog_%'"
        rows = f"SELECT pg_relation_filepath(oid) FROM pg_class WHERE {mine} OR oid IN (SELECT reltoastrelid FROM pg_class WHERE {mine})"
        rows += f" OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT reltoastrelid FROM pg_class WHERE {mine}))"
        command = [f"{max(glob.glob('/usr/lib/postgresql/*/bin'))}/psql", "-h", "127.0.0.1", "-p", str(self.port)]
        done = subprocess.run([*command, "-U", "bench", "-d", "bench", "-Atc", rows], capture_output=True, check=True)
        return [f"{self.dir}/data/{line}" for line in done.stdout.decode().split()]


async def judged(url: str, truth: Truth, verdict: Verdict, dice: random.Random, *, writes: bool) -> None:
    try:
        async with open_store(url) as store:
            touched = frozenset()
            for _ in range(len(truth) // 24 if writes else 0):
                touched |= await write_after(store, truth, dice, verdict)
            await judge(store, truth, verdict, touched=touched)
    except Exception as error:
        failed(verdict, error, "open")


def summed(name: str, flips: int, rounds: int, verdict: Verdict, examples: list[str]) -> None:
    """Print the counts of all answers, for rounds with many flips each."""
    total = Counter({kind: verdict.seen[kind] for kind in verdict.seen})
    for kind in [kind for kind in total if kind.startswith("raw ")]:
        total["raw"] += total.pop(kind)
    report(f"{name}, {rounds} rounds", flips, total, examples, "answers")


def postgresql(args: argparse.Namespace, name: str) -> None:
    dice = random.Random(args.seed)
    with Stopped() as server:
        url = f"postgresql://bench@127.0.0.1:{server.port}/bench"

        async def make() -> Truth:
            async with open_store(url) as store:
                return await fill(store, args.sessions * 20, random.Random(1))

        truth = asyncio.run(make())
        files = server.files()
        server.stop()
        sound = {}
        for path in files:
            with open(path, "rb") as file:
                sound[path] = file.read()
        blocks = [(path, at) for path, data in sound.items() for at in range(0, len(data), 8192)]
        print(f"{name}: {len(truth)} sessions, {len(files)} files, {len(blocks)} blocks", flush=True)
        verdict, examples, flips, rounds = Verdict(), [], 0, 0
        while flips < args.flips:
            rounds += 1
            chosen = dice.sample(blocks, len(blocks) // args.one_in)
            changed = {path: bytearray(data) for path, data in sound.items()}
            for path, at in chosen:
                changed[path][at + dice.randrange(8192)] ^= 1 << dice.randrange(8)
            flips += len(chosen)
            for path, data in changed.items():
                with open(path, "r+b") as file:
                    file.write(data)
                    file.truncate()
            server.start()
            verdict.examples = []
            asyncio.run(judged(f"{url}?timeout=20&sweep=0", truth, verdict, dice, writes=args.writes))
            examples += [f"round {rounds}: {example}" for example in verdict.examples]
            server.stop()
            if args.verbose:
                print(flips, dict(verdict.seen), flush=True)
        summed(name, flips, rounds, verdict, examples)


# ---------------------------------------------------------------------------------------------------------------- Redis


def redis_values(args: argparse.Namespace, name: str) -> None:
    import redis

    dice = random.Random(args.seed)
    with servers.Redis() as server:
        url = f"redis://127.0.0.1:{server.port}/0"

        async def make() -> Truth:
            async with open_store(url) as store:
                return await fill(store, args.sessions * 20, random.Random(1))

        truth = asyncio.run(make())
        client = redis.Redis(port=server.port)
        sound = {key: (client.dump(key), client.pttl(key)) for key in client.keys("turnlog:*")}
        lists = {key: client.lrange(key, 0, -1) for key in sound if b":s:" in key}
        print(f"{name}: {len(truth)} sessions, {sum(len(dump) for dump, _ in sound.values()):,} bytes", flush=True)
        verdict, examples, flips, rounds = Verdict(), [], 0, 0
        while flips < args.flips:
            rounds += 1
            if name == "redis":
                for key, elements in lists.items():
                    place = dice.choices(range(len(elements)), [len(one) for one in elements])[0]
                    client.lset(key, place, flipped(elements[place], dice))
                    flips += 1
            else:
                flips += damage_lists(client, dice, list(sound), args.one_in)
            verdict.examples = []
            asyncio.run(judged(url, truth, verdict, dice, writes=args.writes))
            examples += [f"round {rounds}: {example}" for example in verdict.examples]
            client.flushall()
            for key, (dump, left) in sound.items():
                client.restore(key, max(left, 0), dump)
            if args.verbose:
                print(flips, dict(verdict.seen), flush=True)
        summed(name, flips, rounds, verdict, examples)


def flipped(data: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(data)
    damaged[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def damage_lists(client, dice: random.Random, keys: list[bytes], one_in: int) -> int:
    """Flip a bit in the names of some keys, and in an entry or a time of some indexes."""
    flips = 0
    for key in dice.sample(keys, len(keys) // one_in):
        flips += 1
        if b":s:" in key:
            client.renamenx(key, flipped(key, dice))
            continue
        member, score = dice.choice(client.zrange(key, 0, -1, withscores=True))
        client.zrem(key, member)
        if dice.random() < 0.5:
            client.zadd(key, {flipped(member, dice): score})
        else:
            (other,) = struct.unpack(">d", flipped(struct.pack(">d", score), dice))
            client.zadd(key, {member: 0.0 if isnan(other) else other})
    return flips


GROUPS = {"sqlite": sqlite, "log": sqlite, "postgresql": postgresql, "redis": redis_values, "lists": redis_values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", default="sqlite")
    parser.add_argument("--flips", type=int, default=20_000)
    parser.add_argument(
        "--sessions", type=int, default=12, help="sessions in each of two namespaces; servers get 20 times this number"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=500, help="flips in one task of a process")
    parser.add_argument(
        "--one-in", type=int, default=4, help="damage one of this number of blocks or keys in each round"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layers", default="")
    parser.add_argument("--targeted", action="store_true")
    parser.add_argument("--writes", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--all", action="store_true", help="print every flip with a wrong answer")
    args = parser.parse_args()
    for group in args.groups.split(","):
        GROUPS[group](args, group)


if __name__ == "__main__":
    main()
