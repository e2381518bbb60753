"""Several requests on one session from one process: python requests_at_once.py URL MODE COUNT.

The program prints a line for each request: `stored` or the name of the error.  The model's answer contains the number
of messages that it received.  With COUNT 0 there is one request, whose model prints `asked` and answers after a line on
standard input.
"""

from __future__ import annotations

import asyncio
import sys

from turnlog import Message, Pipeline, Serialize, TurnlogError, Window, assistant, open_store

LEASE = 1.0
"""Seconds."""


async def quick(messages: list[Message], **_: object) -> Message:
    await asyncio.sleep(0.005)  # time of a model, so that requests overlap
    return assistant(f"saw {len(messages)}")


async def slow(messages: list[Message], **_: object) -> Message:
    print("asked", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    return assistant(f"saw {len(messages)}")


async def main(url: str, mode: str, count: int) -> None:
    async with open_store(url) as store:
        pipeline = Pipeline(
            store,
            quick if count else slow,
            window=Window(messages=1_000),
            concurrency=Serialize(lease=LEASE) if mode == "serialize" else mode,  # type: ignore[arg-type]
        )

        async def ask() -> str:
            try:
                await pipeline.execute("s", "user", "?")
            except TurnlogError as error:
                return type(error).__name__
            return "stored"

        for line in await asyncio.gather(*[ask() for _ in range(count or 1)]):
            print(line, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
