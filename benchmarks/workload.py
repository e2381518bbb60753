"""Deterministic chat messages: the workload of every adapter.

A message is a plain dict in the form that most chat APIs use:

    {"id", "role", "content", "ts"}                               user, assistant
    {..., "tool_calls": [{"id", "name", "arguments": "<json>"}]}  assistant calling a tool
    {..., "tool_call_id": "..."}                                  the tool's answer (JSON text)

The text comes from a second-order Markov chain of words from the documentation topics of CPython
(`pydoc_data.topics`).  It is English prose with some code and differs in every message, so compression ratios are
realistic.  The mean content is about 600 bytes.  One turn is two messages, and one turn in eight is a tool call and its
result.
"""

from __future__ import annotations

import json
import random
import re
from functools import lru_cache

SEED = 20260101
TOOLS = ("search_documents", "get_weather", "run_sql", "read_file", "create_ticket")


@lru_cache(1)
def _chain():
    from pydoc_data import topics

    words: list[str] = []
    for key in sorted(topics.topics):
        text = re.sub(r"[ \t]+", " ", topics.topics[key])
        text = re.sub(r"[*=~^-]{4,}", "", text)
        words.extend(re.findall(r"\S+|\n\n", text))
    table: dict[tuple[str, str], list[str]] = {}
    for a, b, c in zip(words, words[1:], words[2:]):
        table.setdefault((a, b), []).append(c)
    return table, sorted(table)


def _text(rng: random.Random, target: int) -> str:
    table, keys = _chain()
    a, b = keys[rng.randrange(len(keys))]
    out, size = [a, b], len(a) + len(b) + 2
    while size < target:
        nexts = table.get((a, b))
        # an occasional jump prevents long quotations of the source
        if not nexts or rng.random() < 0.08:
            a, b = keys[rng.randrange(len(keys))]
            out += (a, b)
            size += len(a) + len(b) + 2
            continue
        c = nexts[rng.randrange(len(nexts))]
        out.append(c)
        size += len(c) + 1
        a, b = b, c
    return " ".join(out).replace(" \n\n ", "\n\n")


def _hex(rng: random.Random, n: int) -> str:
    return f"{rng.getrandbits(4 * n):0{n}x}"


def generate(n: int, seed: int = SEED) -> list[dict]:
    """Return n messages, alternately of user and assistant; equal for equal n and seed."""
    rng = random.Random(seed)
    out: list[dict] = []
    ts = 1_760_000_000.0
    turn = 0
    while len(out) < n:
        ts = round(ts + rng.uniform(2, 90), 3)
        if turn % 8 == 7:
            call = "call_" + _hex(rng, 24)
            args = {
                "query": _text(rng, 60),
                "limit": rng.randrange(1, 50),
                "filters": {"lang": rng.choice(["en", "de", "fr"]), "since": f"2025-{rng.randrange(1, 13):02d}-01"},
            }
            rows = [
                {
                    "id": rng.randrange(10**6),
                    "score": round(rng.random(), 4),
                    "title": _text(rng, 40),
                    "snippet": _text(rng, 90),
                }
                for _ in range(rng.randrange(1, 6))
            ]
            out.append(
                {
                    "id": "msg_" + _hex(rng, 24),
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"id": call, "name": rng.choice(TOOLS), "arguments": json.dumps(args)}],
                    "ts": ts,
                }
            )
            out.append(
                {
                    "id": "msg_" + _hex(rng, 24),
                    "role": "tool",
                    "tool_call_id": call,
                    "content": json.dumps({"ok": True, "results": rows}),
                    "ts": round(ts + 0.8, 3),
                }
            )
        else:
            user = min(4000, rng.lognormvariate(5.1, 0.8))
            asst = min(8000, rng.lognormvariate(6.75, 0.7))
            out.append({"id": "msg_" + _hex(rng, 24), "role": "user", "content": _text(rng, int(user)), "ts": ts})
            out.append(
                {
                    "id": "msg_" + _hex(rng, 24),
                    "role": "assistant",
                    "content": _text(rng, int(asst)),
                    "ts": round(ts + 3.1, 3),
                }
            )
        ts += 4  # some stores order by timestamps, so they must increase
        turn += 1
    return out[:n]


if __name__ == "__main__":
    msgs = generate(10000)
    sizes = sorted(len(m["content"]) for m in msgs)
    print(
        "messages",
        len(msgs),
        "mean content",
        sum(sizes) / len(sizes),
        "median",
        sizes[len(sizes) // 2],
        "p95",
        sizes[int(len(sizes) * 0.95)],
        "max",
        sizes[-1],
    )
    print("mean JSON", sum(len(json.dumps(m)) for m in msgs) / len(msgs))
    for m in msgs[:2] + msgs[14:16]:
        print(json.dumps(m)[:300])
