"""Processes of the tests of sealing.

python compression_writers.py URL OPERATIONS [rewritten|unchecked]
    two writers append to shared sessions, and append to and cut sessions of their own; a third process seals them all
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from random import Random
from typing import Any, Final

import server_writers
from turnlog import Backend, Change, Key, Record, Store, assistant, user
from turnlog_compression.zstd import ZstdLayer
from turnlog_redis import _seal as redis_seal
from turnlog_sql import _seal as sql_seal
from turnlog_sql.sqlite import SQLiteBackend

WRITERS: Final = 2
SHARED: Final = ("shared 0", "shared 1")
BETWEEN: Final = 60  # operations of the writers between the two halves of a naive seal, so that the check detects it
ENDED: Final = 1_000_000
PADDING: Final = "so it is said, " * 20


def layer_at(url: str) -> ZstdLayer:
    """Return the layer of each process, over a backend with one connection."""
    if url.startswith("sqlite"):
        return ZstdLayer(SQLiteBackend(url, synchronous="NORMAL"))
    return ZstdLayer(server_writers.at(url, pool_size=1))


# --------------------------------------------------------------------------------------------------------- naive seals


async def others_write(progress: Any) -> None:
    """Wait until the writers have done some more operations, or have ended."""
    before = progress.value
    while progress.value < min(before + BETWEEN, ENDED):  # noqa: ASYNC110 - other processes set no event
        await asyncio.sleep(0.001)


def rewritten(inner: Backend, progress: Any) -> None:
    """Make a seal that reads, cuts and appends, without a condition."""

    async def seal(key: Key, record: Record) -> bool:
        rest = [one for one in (await inner.read(key, touch=False)).records if one.number >= record.next_turn]
        await others_write(progress)
        await inner.commit(key, Change(keep=record.number, append=(record, *rest)))
        return True

    inner.seal = seal  # type: ignore[method-assign]


def unchecked(inner: Backend, progress: Any) -> None:
    """Make a seal that replaces all records with the same numbers without comparing them."""
    checked = inner.seal

    async def seal(key: Key, record: Record) -> bool | None:
        await others_write(progress)
        return await checked(key, record)

    def fits(seal: Record, run: Sequence[Record], *, last: bool) -> bool:
        return bool(run)

    inner.seal = seal  # type: ignore[method-assign]
    sql_seal.fits = fits  # type: ignore[attr-defined]
    redis_seal.fits = fits  # type: ignore[attr-defined]


NAIVE: Final = {"rewritten": rewritten, "unchecked": unchecked}


# ------------------------------------------------------------------------------------------------------- the processes


async def write(store: Store, writer: int, operations: int, progress: Any) -> tuple[list[int], dict[str, list[int]]]:
    """Append and cut; return the numbers appended to shared sessions, and the numbers in each own session."""
    dice, shared = Random(writer), list[int]()
    own: dict[str, list[int]] = {f"{writer} {number}": [] for number in range(2)}
    for number in range(operations):
        with progress.get_lock():
            progress.value += 1
        messages = [user(f"{writer} {number}"), assistant(f"{writer} {number} {PADDING}")]
        if number % 2:
            await store.append(SHARED[number // 2 % 2], messages)
            shared.append(number)
            continue
        name = dice.choice(list(own))
        turns = own[name]
        if len(turns) > 60 and not dice.randrange(12):
            cut = dice.randint(1, 50)
            receipt = await store.rewind(name, turns=cut)
            del turns[-cut:]
        else:
            receipt = await store.append(name, messages)
            turns.append(number)
        assert receipt.turns == len(turns), "lost or twice"
    return shared, own


async def seal(layer: ZstdLayer, progress: Any) -> int:
    """Seal all sessions as a whole until the writers have ended; return the number of sessions that became smaller."""
    sealed = 0
    while progress.value < ENDED:
        async for result in layer.recompress("default", idle=0):
            sealed += result.after != result.before
    return sealed


async def check(layer: ZstdLayer, written: list[Any]) -> int:
    """Check that every turn is stored once and in order; return the number of sealed records."""
    sealed, expected = 0, {name: turns for _, own in written for name, turns in own.items()}
    for name in (*SHARED, *expected):
        session = await Store(layer).session(name)
        texts = [[message.text for message in turn.messages] for turn in session.turns]
        assert [turn.number for turn in session.turns] == list(range(session.info.turns)), "lost or twice"
        assert all(answer == f"{question} {PADDING}" for question, answer in texts), "torn"
        found = [tuple(map(int, question.split())) for question, _ in texts]
        for writer, (shared, _) in enumerate(written):
            own = [number for who, number in found if who == writer]
            if name in SHARED:
                assert own == [number for number in shared if SHARED[number // 2 % 2] == name], "lost, twice, or moved"
            elif name in written[writer][1]:
                assert own == expected[name], "lost, twice, or moved"
        sealed += sum(one.rounds > 1 for one in (await layer.inner.read(Key("default", name))).records)
    return sealed


def main(url: str, operations: int, naive: str) -> None:
    """Run all processes, and check the result."""
    progress = server_writers.processes.Value("i", 0)  # started operations, plus `ENDED` after the last writer

    async def work(number: int, barrier: Barrier) -> Any:
        async with layer_at(url) as layer:
            if naive:
                NAIVE[naive](layer.inner, progress)
            barrier.wait()
            if number == WRITERS:
                return await seal(layer, progress)
            try:
                return await write(Store(layer), number, operations // WRITERS, progress)
            finally:
                with progress.get_lock():
                    progress.value += ENDED // WRITERS

    async def make_tables() -> None:
        async with layer_at(url):
            pass

    async def checked() -> int:
        async with layer_at(url) as layer:
            return await check(layer, written)

    asyncio.run(make_tables())
    *written, sealed = server_writers.at_once(WRITERS + 1, work)
    sys.stdout.write(f"{operations} operations, {sealed} times sealed, {asyncio.run(checked())} records at the end\n")


if __name__ == "__main__":
    url, operations, *more = sys.argv[1:]
    main(url, int(operations), *(more or [""]))
