"""SQLite's write-ahead log: a damaged one is refused before SQLite drops commits; a crash leaves no such log."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnlog import CorruptRecord, Store, user
from turnlog_sql import _sqlite_log
from turnlog_sql._sqlite_log import _hidden_from, hidden_from
from turnlog_sql.sqlite import SQLiteBackend

PAGE, HEADER, FRAME = 4096, 32, 24


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Return the log of a database that was not closed: six transactions of two or more frames."""
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (a, b)")
    for number in range(5):
        connection.execute("INSERT INTO t VALUES (?, zeroblob(5000))", (number,))
    shutil.copy(tmp_path / "a.db-wal", tmp_path / "copy-wal")
    yield tmp_path / "copy-wal"
    connection.close()


def frames(log: Path) -> list[bool]:
    """Return for each frame whether it ends a transaction."""
    data = log.read_bytes()
    return [struct.unpack_from(">I", data, at + 4)[0] > 0 for at in range(HEADER, len(data), FRAME + PAGE)]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("size", [8, 24, 104, 4104])
def test_the_checksums_are_those_of_the_format(size: int, big: bool) -> None:
    """The test follows the definition in sqlite.org/fileformat2.html."""
    dice = random.Random(size)
    before, data = (dice.getrandbits(32), dice.getrandbits(32)), dice.randbytes(size)
    a, b = before
    words = struct.unpack(f"{'>' if big else '<'}{size // 4}I", data)
    for x, y in zip(words[::2], words[1::2], strict=True):
        a = (a + x + b) % 2**32
        b = (b + y + a) % 2**32
    assert _sqlite_log._sums(before, data, big=big) == (a, b)


def test_a_sound_log_hides_nothing(log: Path) -> None:
    assert sum(frames(log)) == 6
    assert hidden_from(str(log)) is None
    assert hidden_from(f"{log}.missing") is None


def test_every_flipped_bit_is_noticed(log: Path) -> None:
    """Bits are flipped in the header, in the headers of frames and in pages, also in those of the last transaction."""
    data, dice = log.read_bytes(), random.Random(3)
    places = [*range(HEADER)]
    starts = list(range(HEADER, len(data), FRAME + PAGE))
    for start in (starts[0], *starts[-2:]):
        places += [*range(start, start + FRAME), *(start + FRAME + dice.randrange(PAGE) for _ in range(3))]
    missed = []
    for place in places:
        bit = dice.randrange(8)
        if _hidden_from(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]) is None:
            missed.append((place, bit))
    assert missed == []


def test_a_transaction_that_is_half_written_is_no_damage(log: Path) -> None:
    """Any part of the last transaction may be missing. A second incomplete transaction is damage."""
    data, ends = log.read_bytes(), frames(log)
    last = max(place for place, end in enumerate(ends[:-1]) if end) + 1  # the first frame of the last transaction
    starts = [HEADER + place * (FRAME + PAGE) for place in range(len(ends))]
    for start in starts[last:]:
        for hole in (PAGE // 2, PAGE):
            cut = start + FRAME + hole
            log.write_bytes(data[:cut])
            assert hidden_from(str(log)) is None
            log.write_bytes(data[: cut - hole] + os.urandom(hole) + data[cut:])
            assert hidden_from(str(log)) is None
    before = starts[last - 1]
    log.write_bytes(data[: before + FRAME] + os.urandom(PAGE) + data[before + FRAME + PAGE :])
    assert hidden_from(str(log)) == last


def test_frames_of_an_earlier_use_of_the_log_are_no_damage(log: Path) -> None:
    """SQLite restarts a log after a checkpoint, with other salts, and overwrites the old frames one by one."""
    data = log.read_bytes()
    start = HEADER + 3 * (FRAME + PAGE)
    for place in range(start, len(data), FRAME + PAGE):
        data = data[: place + 8] + b"saltsalt" + data[place + 16 :]
    log.write_bytes(data)
    assert hidden_from(str(log)) is None


async def stored(path: Path, turns: int) -> None:
    """Store turns, and copy the files as a killed process leaves them."""
    async with Store(SQLiteBackend(f"sqlite:///{path}/chat.db", sweep=0)) as store:
        for number in range(turns):
            await store.append("alice", [user(f"turn {number}")])
        for suffix in ("", "-wal"):
            shutil.copy(path / f"chat.db{suffix}", path / f"killed.db{suffix}")


def test_a_store_does_not_open_over_a_damaged_log(tmp_path: Path) -> None:
    """Otherwise alice would lose turns without an error. The log is kept so that it can be restored."""
    asyncio.run(stored(tmp_path, 5))
    log = tmp_path / "killed.db-wal"
    data = log.read_bytes()
    place = HEADER + 8 * (FRAME + PAGE) + 1000
    damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    log.write_bytes(damaged)

    async def texts() -> list[str]:
        async with Store(SQLiteBackend(f"sqlite:///{tmp_path}/killed.db", sweep=0)) as store:
            return [message.text for message in await store.load("alice")]

    for _ in range(2):
        with pytest.raises(CorruptRecord, match=r"the log of .* is damaged at frame 9"):
            asyncio.run(texts())
        assert log.read_bytes() == damaged
    log.write_bytes(data)
    assert asyncio.run(texts()) == [f"turn {number}" for number in range(5)]
