"""What tests of sealing do in processes of their own.

python compression_writers.py URL OPERATIONS [rewritten|unlooked]
    two writers append to shared sessions, append to and cut sessions of their own, and a third seals all of them
"""

from __future__ import annotations

import asyncio
import sys
from multiprocessing.synchronize import Barrier
from random import Random
from typing import Any, Final

import server_writers
from turnlog import Change, Key, Record, Store, assistant, user
from turnlog_compression.zstd import ZstdLayer
from turnlog_redis import _store as redis_store
from turnlog_sql import _operations
from turnlog_sql.sqlite import SQLiteBackend

WRITERS: Final = 2
SHARED: Final = ("shared 0", "shared 1")
BETWEEN: Final = 60  # operations of others between the two halves of a naive seal, so that it is found out
ENDED: Final = 1_000_000
PADDING: Final = "so it is said, " * 20


def at(url: str) -> ZstdLayer:
    """The layer that all of them open, with a store of one connection."""
    if url.startswith("sqlite"):
        return ZstdLayer(SQLiteBackend(url, synchronous="NORMAL"))
    return ZstdLayer(server_writers.at(url, pool_size=1))


async def others_write(progress: Any) -> None:
    """Wait until the writers have done some more, or have ended."""
    before = progress.value
    while progress.value < min(before + BETWEEN, ENDED):  # noqa: ASYNC110 - other processes set no event
        await asyncio.sleep(0.001)


def rewritten(layer: ZstdLayer, progress: Any) -> None:
    """The naive sealer: it reads, cuts and appends, as if nobody had written since."""
    inner = layer.inner
    commit = inner.commit

    async def naive(key: Key, change: Change) -> Any:
        seal = change.seal
        if seal is None:
            return await commit(key, change)
        rest = [one for one in (await inner.read(key, touch=False)).records if one.number >= seal.next_turn]
        await others_write(progress)
        return await commit(key, Change(keep=seal.number, append=(seal, *rest)))

    inner.commit = naive  # type: ignore[method-assign]


def unlooked(layer: ZstdLayer, progress: Any) -> None:
    """The naive store: a seal takes the place of whatever has the numbers that it covers."""
    inner = layer.inner
    commit = inner.commit

    async def slow(key: Key, change: Change) -> Any:
        if change.seal is not None:
            await others_write(progress)
        return await commit(key, change)

    def fits(seal: Record, run: Any, *, last: bool) -> bool:
        return bool(run)

    inner.commit = slow  # type: ignore[method-assign]
    _operations.fits = fits  # type: ignore[attr-defined]
    redis_store.fits = fits  # type: ignore[attr-defined]


async def write(layer: Store, writer: int, operations: int, progress: Any) -> tuple[list[int], dict[str, list[int]]]:
    """Append and cut; answers which were put into the sessions that are shared, and what is in those of its own."""
    dice, shared = Random(writer), list[int]()
    own: dict[str, list[int]] = {f"{writer} {number}": [] for number in range(2)}
    for number in range(operations):
        with progress.get_lock():
            progress.value += 1
        said = [user(f"{writer} {number}"), assistant(f"{writer} {number} {PADDING}")]
        if number % 2:
            await layer.append(SHARED[number // 2 % 2], said)
            shared.append(number)
            continue
        name = dice.choice(list(own))
        there = own[name]
        if len(there) > 60 and not dice.randrange(12):
            cut = dice.randint(1, 50)
            receipt = await layer.rewind(name, turns=cut)
            del there[-cut:]
        else:
            receipt = await layer.append(name, said)
            there.append(number)
        assert receipt.turns == len(there), "lost or twice"
    return shared, own


async def seal(layer: ZstdLayer, progress: Any) -> int:
    """Seal whole whatever there is, again and again, until the writers have ended; answers how often there was."""
    sealed = 0
    while progress.value < ENDED:
        async for told in layer.recompress(idle=0):
            sealed += told.after != told.before
    return sealed


async def check(layer: ZstdLayer, written: list[Any]) -> int:
    """That all is there, once, and in its order; answers how many records hold several turns."""
    sealed, expected = 0, {name: turns for _, own in written for name, turns in own.items()}
    for name in (*SHARED, *expected):
        session = await layer.session(name)
        texts = [[message.text for message in turn.messages] for turn in session.turns]
        assert [turn.number for turn in session.turns] == list(range(session.info.turns)), "lost or twice"
        assert all(answer == f"{said} {PADDING}" for said, answer in texts), "torn"
        found = [tuple(map(int, said.split())) for said, _ in texts]
        for writer, (shared, _) in enumerate(written):
            own = [number for who, number in found if who == writer]
            if name in SHARED:
                assert own == [number for number in shared if SHARED[number // 2 % 2] == name], "lost, twice, or moved"
            elif name in written[writer][1]:
                assert own == expected[name], "lost, twice, or moved"
        sealed += sum(one.rounds > 1 for one in (await layer.inner.read(Key("default", name))).records)
    return sealed


def main(url: str, operations: int, naive: str) -> None:
    """Let them all loose, and look at what is there."""
    progress = server_writers.processes.Value("i", 0)  # operations that were begun; whoever has ended adds many

    async def work(number: int, barrier: Barrier) -> Any:
        async with at(url) as layer:
            if naive:
                {"rewritten": rewritten, "unlooked": unlooked}[naive](layer, progress)
            barrier.wait()
            if number == WRITERS:
                return await seal(layer, progress)
            try:
                return await write(layer, number, operations // WRITERS, progress)
            finally:
                with progress.get_lock():
                    progress.value += ENDED // WRITERS

    async def made() -> None:
        async with at(url):
            pass  # the tables are there

    async def look() -> int:
        async with at(url) as layer:
            return await check(layer, written)

    asyncio.run(made())
    *written, sealed = server_writers.at_once(WRITERS + 1, work)
    sys.stdout.write(f"{operations} operations, {sealed} times sealed, {asyncio.run(look())} records at the end\n")


if __name__ == "__main__":
    url, operations, *more = sys.argv[1:]
    main(url, int(operations), *(more or [""]))
