"""Turn results/*.csv into Markdown tables: python report.py [results-dir] > tables.md"""

from __future__ import annotations

import csv
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = (10, 100, 1000, 10000)
TITLES = {
    "load": "(b) load the full history",
    "tail": "(c) load the last 20",
    "append": "(a) append one turn (2 messages)",
    "turn": "(e) one full turn: last 20 + append 2",
    "fork": "(d) fork",
    "save": "(h) save the whole history",
}


def t(us) -> str:
    """Return a number of microseconds as readable text."""
    if us == "" or us is None:
        return "-"
    us = float(us)
    if us < 10:
        return f"{us:.2f} µs"
    if us < 1000:
        return f"{us:.0f} µs"
    if us < 10_000:
        return f"{us / 1000:.2f} ms"
    if us < 1e6:
        return f"{us / 1000:.0f} ms"
    return f"{us / 1e6:.1f} s"


def size(b) -> str:
    b = float(b)
    return f"{b / 1e6:.1f} MB" if b >= 1e6 else f"{b / 1e3:.0f} kB"


def read(d, name):
    path = os.path.join(d, name)
    return list(csv.DictReader(open(path))) if os.path.exists(path) else []


def main():
    d = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "results")
    out = []
    p = out.append
    for g in ("memory", "redis", "sqlite", "postgres"):
        rows = read(d, f"{g}.csv")
        if not rows:
            continue
        names, cell = [], {}
        for r in rows:
            if r["op"] in TITLES and r["adapter"] not in names:
                names.append(r["adapter"])
            cell[r["adapter"], r["op"], r["n"]] = r
        floors = [n for n in names if n.startswith("floor")]
        peers = [n for n in names if not n.startswith("floor")]

        def med(name, op, n):
            r = cell.get((name, op, str(n)))
            return float(r["median_us"]) if r and r["median_us"] != "" else None

        p(f"## {g}\n")
        for op, title in TITLES.items():
            p(f"**{g}: {title}** (median; p99 and ratio to the best floor at N=1000)\n")
            p("| | N=10 | N=100 | N=1000 | N=10000 | p99 N=1000 | x floor | growth 10→10000 |")
            p("|---|---|---|---|---|---|---|---|")
            best = {
                n: min([m for f in floors if "cache" not in f and (m := med(f, op, n)) is not None], default=None)
                for n in SIZES
            }
            bp = {
                n: min([(m, q) for q in peers if (m := med(q, op, n)) is not None], default=(None, None))[1]
                for n in SIZES
            }
            for name in names:
                cols = []
                for n in SIZES:
                    m = med(name, op, n)
                    s = t(m)
                    if m is not None and (m == best[n] if name in floors else name == bp[n]):
                        s = f"**{s}**"
                    cols.append(s)
                r = cell.get((name, op, "1000"))
                m = med(name, op, 1000)
                ratio = f"{m / best[1000]:.1f}" if m and best[1000] else "-"
                lo, hi = med(name, op, 10), med(name, op, 10000)
                grow = f"x{hi / lo:.1f}" if lo and hi else "-"
                p(f"| {name} | " + " | ".join(cols) + f" | {t(r['p99_us']) if r else '-'} | {ratio} | {grow} |")
            p("")
        p(
            f"**{g}: (f) 50 sessions x 40 turns in one process, and (g) bytes per session of 1000 messages built turn by turn**\n"
        )
        p("| | turns/s (better of 2) | median turn | p99 turn | bytes/1000 messages |")
        p("|---|---|---|---|---|")
        for name in names:
            cs = [r for r in rows if r["adapter"] == name and r["op"] == "concurrent" and r["median_us"]]
            bs = [r for r in rows if r["adapter"] == name and r["op"] == "bytes1000" and r["median_us"]]
            c = max(cs, key=lambda r: float(r["median_us"])) if cs else None
            full = (
                ""
                if not c or c["reps"] == "2000"
                else f" ({c['reps']} of 2000 turns"
                + (
                    "; " + c["note"].split("; ")[2].split(":")[0] + ")"
                    if c["note"].count("; ") > 1
                    else " in the time)"
                )
            )
            p(
                f"| {name} | {float(c['median_us']):,.0f}{full} | {t(c['min_us'])} | {t(c['p99_us'])} | " % ()
                if c
                else f"| {name} | - | - | - | "
            )
            out[-1] += (size(bs[0]["median_us"]) if bs else "-") + " |"
        p("")
        bad = [r for r in rows if r["reps"] == "0"]
        if bad:
            p(
                "Cells without a number: "
                + "; ".join(sorted({f"{r['adapter']} {r['op']} N={r['n']}: {r['note'][:140]}" for r in bad}))
                + "\n"
            )

    p("## Fastest peer per cell\n")
    p("| backend | operation | " + " | ".join(f"N={n}" for n in SIZES) + " |")
    p("|---|---|" + "---|" * len(SIZES))
    for g in ("memory", "redis", "sqlite", "postgres"):
        rows = read(d, f"{g}.csv")
        for op in TITLES:
            cols = []
            for n in SIZES:
                c = [
                    (float(r["median_us"]), r["adapter"])
                    for r in rows
                    if r["op"] == op and r["n"] == str(n) and r["median_us"] and r["floor"] != "True"
                ]
                f = [
                    float(r["median_us"])
                    for r in rows
                    if r["op"] == op
                    and r["n"] == str(n)
                    and r["median_us"]
                    and r["floor"] == "True"
                    and "cache" not in r["adapter"]
                ]
                cols.append(f"{min(c)[1]} {t(min(c)[0])} (x{min(c)[0] / min(f):.1f})" if c and f else "-")
            if any(c != "-" for c in cols):
                p(f"| {g} | {op} | " + " | ".join(cols) + " |")
    p("")
    comp = read(d, "compression.csv")
    if comp:
        p("## Compression\n")
        for en in dict.fromkeys(r["encoding"] for r in comp):
            p(f"**{en}** (ratio; compress MB/s; decompress MB/s; µs per unit to compress / decompress)\n")
            units = list(dict.fromkeys(r["unit"] for r in comp))
            p("| codec | " + " | ".join(units) + " |")
            p("|---|" + "---|" * len(units))
            for co in dict.fromkeys(r["codec"] for r in comp):
                cols = []
                for u in units:
                    r = next((r for r in comp if (r["encoding"], r["unit"], r["codec"]) == (en, u, co)), None)
                    cols.append(
                        f"**{float(r['ratio']):.2f}**; {float(r['compress_MBps']):.0f}; {float(r['decompress_MBps']):.0f}; "
                        f"{float(r['compress_us_per_unit']):.0f} / {float(r['decompress_us_per_unit']):.0f}"
                        if r
                        else "-"
                    )
                p(f"| {co} | " + " | ".join(cols) + " |")
            p("")
    micro = read(d, "micro.csv")
    if micro:
        p("## Micro-measurements\n")
        for s in dict.fromkeys(r["section"] for r in micro):
            p(f"**{s}**\n\n| case | median | p99 | |\n|---|---|---|---|")
            for r in micro:
                if r["section"] == s:
                    m = float(r["median_us"])
                    p(
                        f"| {r['case']} | {m * 1000:.0f} ns | {t(r['p99_us'])} | {r['extra']} |"
                        if m < 1
                        else f"| {r['case']} | {t(m)} | {t(r['p99_us'])} | {r['extra']} |"
                    )
            p("")
    print("\n".join(out))


if __name__ == "__main__":
    main()
