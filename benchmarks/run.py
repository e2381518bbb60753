"""Measure every adapter: python run.py [--groups memory,redis,sqlite,postgres] [--only TEXT] [--out DIR] [--quick]

Each backend group runs in a separate process.  Its adapters alternate round by round, so that other work on the machine
affects all of them equally.  The script writes DIR/<group>.csv.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gc
import importlib
import os
import pathlib
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import workload
from interface import NotSupported, Turns, fresh, quantile

import adapters
import servers

GROUPS = ("memory", "redis", "sqlite", "postgres")
SIZES = (10, 100, 1000, 10_000)
OPS = ("load", "tail", "append", "turn", "fork", "save")
POOL = {10: 60, 100: 20, 1000: 4, 10_000: 1}  # number of messages: number of sessions, used in rotation
ROUNDS = 8
CELL = 0.5  # intended seconds for one cell (adapter x N x operation)
CELL_MAX = 10.0  # seconds after which no further round of a cell starts
MAX_REPS = 320
CONC = (50, 40)  # sessions, turns
CONC_MAX = 6.0


def adapters_for(group: str, only: str) -> list:
    found = []
    for info in pkgutil.iter_modules(adapters.__path__):
        src = pathlib.Path(adapters.__path__[0], info.name + ".py").read_text()
        if f'"{group}"' not in src:
            continue
        try:
            mod = importlib.import_module(f"adapters.{info.name}")
        except ModuleNotFoundError as e:
            print(f"left out: {info.name} ({e})", file=sys.stderr)
            continue
        found += [c() for c in mod.ADAPTERS if c.backend == group and any(part in c.name for part in only.split(","))]
    found.sort(key=lambda a: (not a.floor, a.peer, a.name))
    return found


async def check(a, tag: str) -> None:
    """Refuse a store that loses, reorders or invents messages."""
    msgs = fresh(workload.generate(40), "c" + tag)
    native, more = a.convert(msgs), Turns(1_765_000_000.0, "c" + tag)
    sid = f"check-{tag}"
    await a.seed(sid, native)
    want = [a.content(m) for m in native]
    for _ in range(3):
        new = a.convert(more.next())
        want += [a.content(m) for m in new]
        await a.append(sid, new)
    await a.turn(sid, new := a.convert(more.next()))
    want += [a.content(m) for m in new]

    def same(got, expect):
        got = [a.content(m) for m in got]
        assert got == expect, (
            f"{a.name}: {len(got)} messages for {len(expect)}, first difference at "
            f"{next((i for i, (x, y) in enumerate(zip(got, expect)) if x != y), '-')}"
        )

    same(await a.load(sid), want)
    same(await a.tail(sid, 20), want[-20:])
    await a.fork(sid, sid + "-f")
    same(await a.load(sid + "-f"), want)
    await a.append(sid + "-f", a.convert(more.next()))
    same(await a.load(sid), want)


class Cell:
    def __init__(self):
        self.times: list[float] = []
        self.spent = 0.0
        self.error = ""


async def grid(ads, rows, quick):
    for n in SIZES if not quick else SIZES[:3]:
        base = workload.generate(n)
        live = []
        for ai, a in enumerate(ads):
            t0 = time.perf_counter()
            try:
                for p in range(POOL[n]):
                    await a.seed(f"s{n}-{p}", a.convert(fresh(base, f"{ai:x}s{n:x}p{p:x}q")))
                    if time.perf_counter() - t0 > 60:
                        raise TimeoutError(f"seeding took more than 60 s (session {p + 1} of {POOL[n]})")
                live.append(a)
            except Exception as e:
                print(f"  seed {a.name} N={n}: {type(e).__name__}: {e}", flush=True)
                rows.append((a.backend, a.name, a.peer, a.floor, "seed", n, 0, "", "", "", f"{type(e).__name__}: {e}"))
        gc.collect()
        gc.freeze()
        for op in OPS:
            cells = {a: Cell() for a in live}
            turns = Turns(1_770_000_000.0 + n, f"{OPS.index(op):x}{n:x}g")
            for rnd in range(ROUNDS):
                for ai, a in enumerate(live):
                    c = cells[a]
                    if c.error or (rnd and c.spent > CELL * (rnd + 1) / ROUNDS and (len(c.times) >= 3 or c.spent > 3)):
                        continue
                    if op in ("save", "fork") and n > a.save_max:
                        c.error = f"not timed above N={a.save_max}: " + a.notes.get(op, "")
                        continue
                    until = time.perf_counter() + CELL / ROUNDS
                    for rep in range(MAX_REPS // ROUNDS):
                        i = len(c.times)
                        sid, dst = f"s{n}-{i % POOL[n]}", f"{op}{n}-{i}"
                        try:
                            if op == "load":
                                t0 = time.perf_counter()
                                await a.load(sid)
                                t1 = time.perf_counter()
                            elif op == "tail":
                                t0 = time.perf_counter()
                                await a.tail(sid, 20)
                                t1 = time.perf_counter()
                            elif op == "fork":
                                t0 = time.perf_counter()
                                await a.fork(sid, dst)
                                t1 = time.perf_counter()
                            elif op == "save":
                                native = a.convert(fresh(base, f"{ai:x}w{n:x}i{i:x}q"))
                                t0 = time.perf_counter()
                                await a.save(dst, native)
                                t1 = time.perf_counter()
                            else:
                                native = a.convert(turns.next())
                                fn = a.append if op == "append" else a.turn
                                t0 = time.perf_counter()
                                await fn(sid, native)
                                t1 = time.perf_counter()
                        except NotSupported:
                            c.error = "not supported"
                            break
                        except Exception as e:
                            c.error = f"{type(e).__name__}: {e}"
                            print(f"  {op} {a.name} N={n}: {c.error}", flush=True)
                            break
                        c.times.append((t1 - t0) * 1e6)
                        c.spent += t1 - t0
                        if t1 > until or c.spent > CELL_MAX:
                            break
            for a in live:
                c = cells[a]
                t = c.times
                rows.append(
                    (
                        a.backend,
                        a.name,
                        a.peer,
                        a.floor,
                        op,
                        n,
                        len(t),
                        round(quantile(t, 0.5), 2) if t else "",
                        round(quantile(t, 0.99), 2) if t else "",
                        round(min(t), 2) if t else "",
                        c.error or a.notes.get(op, ""),
                    )
                )
            print(f"  N={n} {op} done", flush=True)
        gc.unfreeze()
        gc.collect()


async def concurrent(ads, rows):
    sessions, per = CONC
    base = workload.generate(20)
    for rnd in range(2):
        for ai, a in enumerate(ads):
            try:
                plans = []
                for s in range(sessions):
                    sid = f"conc{rnd}-{s}"
                    await a.seed(sid, a.convert(fresh(base, f"{ai:x}k{rnd}{s:x}q")))
                    src = Turns(1_780_000_000.0 + rnd * 1e6 + s * 1e3, f"{ai:x}k{rnd:x}{s:x}z")
                    plans.append((sid, [a.convert(src.next()) for _ in range(per)]))
                gc.collect()
                done, lat = 0, []
                end = time.perf_counter() + CONC_MAX

                async def work(sid, todo):
                    nonlocal done
                    for native in todo:
                        t0 = time.perf_counter()
                        if t0 > end:
                            return
                        await a.turn(sid, native)
                        lat.append((time.perf_counter() - t0) * 1e6)
                        done += 1

                t0 = time.perf_counter()
                failed = [r for r in await asyncio.gather(*(work(*p) for p in plans), return_exceptions=True) if r]
                dt = time.perf_counter() - t0
                why = (
                    f"; {len(failed)} of {sessions} sessions failed: {type(failed[0]).__name__}: {str(failed[0])[:80]}"
                    if failed
                    else ""
                )
                rows.append(
                    (
                        a.backend,
                        a.name,
                        a.peer,
                        a.floor,
                        "concurrent",
                        sessions,
                        done,
                        round(done / dt, 1),
                        round(quantile(lat, 0.99), 1),
                        round(quantile(lat, 0.5), 1),
                        f"round {rnd}; median is turns/s, min is the median turn in us" + why,
                    )
                )
            except Exception as e:
                rows.append(
                    (
                        a.backend,
                        a.name,
                        a.peer,
                        a.floor,
                        "concurrent",
                        sessions,
                        0,
                        "",
                        "",
                        "",
                        f"{type(e).__name__}: {str(e)[:200]}",
                    )
                )
                print(f"  concurrent {a.name}: {type(e).__name__}: {str(e)[:300]}", flush=True)
        print(f"  concurrent round {rnd} done", flush=True)


async def sizes(make, env, rows):
    """Measure the bytes of one session of 1000 messages, appended turn by turn to an empty store."""
    for cls, opts in make:
        a = cls(**opts)
        if a.backend == "memory" and not getattr(a, "traced", True):
            rows.append(
                (
                    a.backend,
                    a.name,
                    a.peer,
                    a.floor,
                    "bytes1000",
                    0,
                    0,
                    "",
                    "",
                    "",
                    "memory outside the Python heap is not traced",
                )
            )
            continue
        try:
            await a.open(env)
            sid = "bytes"
            if a.backend == "memory":
                gc.collect()
                tracemalloc.start()
            src = Turns(1_790_000_000.0, "b")
            await a.seed(sid, a.convert(src.next()))
            before = tracemalloc.get_traced_memory()[0] if a.backend == "memory" else await a.stored_bytes()
            t0 = time.perf_counter()
            n = 2
            # the source of turns shares the text, so count copies
            while n < 1002:
                turn = src.next()
                for m in turn:
                    m["content"] = (m["content"] + " ")[:-1]
                await a.append(sid, a.convert(turn))
                n += 2
                if time.perf_counter() - t0 > 40:
                    break
            del turn
            if a.backend == "memory":
                gc.collect()
                after = tracemalloc.get_traced_memory()[0]
                tracemalloc.stop()
            else:
                after = await a.stored_bytes()
            rows.append(
                (
                    a.backend,
                    a.name,
                    a.peer,
                    a.floor,
                    "bytes1000",
                    n - 2,
                    n - 2,
                    round((after - before) / (n - 2) * 1000),
                    "",
                    "",
                    "median is bytes per 1000 messages",
                )
            )
        except Exception as e:
            rows.append(
                (
                    a.backend,
                    a.name,
                    a.peer,
                    a.floor,
                    "bytes1000",
                    0,
                    0,
                    "",
                    "",
                    "",
                    f"{type(e).__name__}: {str(e)[:200]}",
                )
            )
            print(f"  bytes {a.name}: {type(e).__name__}: {str(e)[:200]}", flush=True)
            if tracemalloc.is_tracing():
                tracemalloc.stop()
        finally:
            try:
                await a.close()
            except Exception:
                pass


async def group_main(group, out, only, quick, steps):
    import contextlib
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    warnings.filterwarnings("ignore")
    rows: list[tuple] = []
    with contextlib.ExitStack() as stack:
        env = {"dir": tempfile.mkdtemp(prefix=f"bench-{group}-")}
        stack.callback(shutil.rmtree, env["dir"], ignore_errors=True)
        if group == "redis":
            env["redis_port"] = stack.enter_context(servers.Redis()).port
        if group == "postgres":
            env["pg_port"] = stack.enter_context(servers.Postgres()).port
        if "bytes" in steps:
            # each adapter has a separate, empty store
            sub = {**env, "dir": os.path.join(env["dir"], "bytes")}
            os.mkdir(sub["dir"])
            await sizes([(type(a), {}) for a in adapters_for(group, only)], sub, rows)
            print("  bytes done", flush=True)
        ads = []
        for i, a in enumerate(adapters_for(group, only)):
            try:
                await asyncio.wait_for(a.open(env), 30)
                await asyncio.wait_for(check(a, f"{i:x}"), 60)
                ads.append(a)
            except Exception as e:
                print(f"  LEFT OUT {a.name}: {type(e).__name__}: {str(e)[:400]}", flush=True)
                if os.environ.get("BENCH_TRACE"):
                    traceback.print_exc()
                rows.append(
                    (
                        a.backend,
                        a.name,
                        a.peer,
                        a.floor,
                        "open",
                        0,
                        0,
                        "",
                        "",
                        "",
                        f"{type(e).__name__}: {str(e)[:200]}",
                    )
                )
        print("  running:", ", ".join(a.name for a in ads), flush=True)
        if "grid" in steps:
            await grid(ads, rows, quick)
        if "concurrent" in steps:
            await concurrent(ads, rows)
        for a in ads:
            try:
                await asyncio.wait_for(a.close(), 20)
            except BaseException as e:
                print(f"  close {a.name}: {type(e).__name__}: {e}", flush=True)
    path = os.path.join(out, f"{group}.csv")
    kept = []  # a run of some steps or of one peer replaces only its rows
    if os.path.exists(path):
        step = {"concurrent": "concurrent", "bytes1000": "bytes"}
        done = {r[1] for r in rows}
        with open(path) as f:
            kept = [
                r for r in list(csv.reader(f))[1:] if step.get(r[4], "grid") not in steps or (only and r[1] not in done)
            ]
    rows = kept + rows
    with open(path, "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(["backend", "adapter", "peer", "floor", "op", "n", "reps", "median_us", "p99_us", "min_us", "note"])
        w.writerows(rows)
    print(f"  wrote {os.path.basename(path)}: {len(rows)} rows", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--groups", default=",".join(GROUPS))
    p.add_argument("--only", default="", help="only adapters whose name contains this text")
    p.add_argument("--out", default=os.path.join(HERE, "results"))
    p.add_argument("--quick", action="store_true", help="N up to 1000")
    p.add_argument("--steps", default="grid,concurrent,bytes")
    p.add_argument("--one", help=argparse.SUPPRESS)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    if a.one:
        asyncio.run(group_main(a.one, a.out, a.only, a.quick, a.steps.split(",")))
        sys.stdout.flush()
        os._exit(0)  # some peers do not stop their non-daemon threads
    for g in a.groups.split(","):
        print(f"== {g}", flush=True)
        t0 = time.time()
        subprocess.run(
            [
                sys.executable,
                os.path.abspath(__file__),
                "--one",
                g,
                "--out",
                a.out,
                "--only",
                a.only,
                "--steps",
                a.steps,
                *(["--quick"] if a.quick else []),
            ],
            timeout=3000,
        )
        print(f"== {g}: {time.time() - t0:.0f} s", flush=True)


if __name__ == "__main__":
    main()
