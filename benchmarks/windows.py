"""Measure the tokens and the cost that windows save: python benchmarks/windows.py [--data airline_conversations.jsonl] [--turns 200]

The script joins real conversations to one session and replays it turn by turn.  For each window it prints the share of
requests that begin with the whole previous request, among all requests and among the first ones of each turn, the number
of tokens sent, and their cost at the prices of a provider's prompt cache.  All numbers of tokens are estimates
(`turnlog.pipeline.estimate`).  Answers cost the same in every row and are excluded.  The cost of writing summaries is
included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from turnlog import Message, Pipeline, Store, Summaries, Window, assistant, system
from turnlog.pipeline import estimate
from turnlog.rules import outline_of, split_turns
from turnlog_memory import MemoryBackend

# US dollars per million tokens: Claude Sonnet 4.5 (docs.anthropic.com, "Pricing")
INPUT, OUTPUT, CACHE_WRITE, CACHE_READ = 3.0, 15.0, 3.75, 0.3
LEAST_CACHED = 1_024  # tokens; a shorter prefix is not cached (docs.anthropic.com, "Prompt caching")
SUMMARY = "The customer's flights, what was decided and what is open. " * 15  # about 200 words


class Bill:
    """Counts requests and compares each with the previous one."""

    def __init__(self) -> None:
        self.before: Sequence[Message] = ()
        self.requests = self.whole = self.turns = self.whole_turns = self.tokens = 0
        self.dollars = 0.0

    def send(self, messages: Sequence[Message], *, first: bool) -> None:
        same = 0
        while same < min(len(messages), len(self.before)) and messages[same] == self.before[same]:
            same += 1
        tokens, cached = estimate(messages).tokens, estimate(messages[:same]).tokens
        cached = cached if cached >= LEAST_CACHED else 0
        self.requests += 1
        self.whole += same == len(self.before)
        self.turns += first
        self.whole_turns += first and same == len(self.before)
        self.tokens += tokens
        self.dollars += (cached * CACHE_READ + (tokens - cached) * CACHE_WRITE) / 1e6
        self.before = messages


async def play(prompt: str, turns: Sequence[tuple[Message, ...]], window: Window, *, summarised: bool) -> Bill:
    bill = Bill()

    async def answer(messages: Sequence[Message], **_: object) -> Message:
        bill.given = messages
        return assistant("")

    async def summarise(messages: Sequence[Message], **_: object) -> Message:
        bill.dollars += (estimate(messages).tokens * INPUT + len(SUMMARY) / 4 * OUTPUT) / 1e6
        return assistant(SUMMARY)

    store = Store(MemoryBackend())
    summaries = Summaries(model=summarise, threshold=60, keep=20, automatic=False) if summarised else None
    pipeline = Pipeline(store, answer, window=window, system=prompt, summaries=summaries)
    for turn in turns:
        if summarised and (await covered(store)) > 60:
            await pipeline.summarize("s")
        await pipeline.execute("s", "user", turn[0].text)
        await store.rewind("s", turns=1)
        await store.append("s", turn)
        history = bill.given[:-1]
        for place, message in enumerate(turn):
            if outline_of(message).speaker == "assistant":  # the model gets one request for each of its messages
                bill.send([*history, *turn[:place]], first=place == 1)
    return bill


async def covered(store: Store) -> int:
    """Return the number of messages that no summary replaces."""
    try:
        session = await store.session("s")
    except LookupError:
        return 0
    summary = session.info.metadata.get("turnlog.summary") or {"until": 0}
    return sum(len(turn.messages) for turn in session.turns if turn.number >= summary["until"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(__file__).resolve().parents[2] / "shared" / "data" / "airline_conversations.jsonl"
    parser.add_argument("--data", type=Path, default=shared)
    parser.add_argument("--turns", type=int, default=200)
    options = parser.parse_args()
    turns: list[tuple[Message, ...]] = []
    for line in options.data.read_text(encoding="utf-8").splitlines():
        messages = [Message.from_dict(message) for message in json.loads(line)["messages"]]
        prompt = messages[0].text
        turns += [turn for turn in split_turns(messages[1:]) if len(turn) > 1]
    turns = turns[: options.turns]
    rows = {
        "no limit": (Window(messages=10**6), False),
        "20 messages, sliding": (Window(messages=20, least=1), False),
        "20 messages": (Window(messages=20), False),
        "100 messages": (Window(messages=100), False),
        "100 messages, results of the last 3 turns": (Window(messages=100, tool_results=3), False),
        "100 messages, summaries": (Window(messages=100), True),
    }
    print(
        f"{len(turns)} turns, {sum(map(len, turns))} messages, prompt of {estimate([system(prompt)]).tokens} tokens\n"
    )
    print("| window | begin with the whole request before | first requests of turns that do | tokens sent | cost |")
    print("|---|---|---|---|---|")
    for name, (window, summarised) in rows.items():
        bill = asyncio.run(play(prompt, turns, window, summarised=summarised))
        parts = f"{bill.whole / bill.requests:.0%} | {bill.whole_turns / bill.turns:.0%}"
        print(f"| {name} | {parts} | {bill.tokens / 1e6:.2f} M | ${bill.dollars:.2f} |")


if __name__ == "__main__":
    main()
