"""A flipped bit in an SQLite file causes an error or no difference: a short run of `benchmarks/bit_flips.py`."""

from __future__ import annotations

import asyncio
import random
import struct
from pathlib import Path

from turnlog import CorruptRecord, Key, Message, Query, SchemaError, Store, Unavailable, assistant, user
from turnlog.errors import TurnlogError
from turnlog_sql.sqlite import SQLiteBackend

FLIPS = 250
PAGE = 4096
Answer = tuple[list[Message], list[Message], object]


def at(path: Path) -> Store:
    return Store(SQLiteBackend(f"sqlite:///{path}", synchronous="NORMAL"))


async def fill(store: Store) -> None:
    """Store sessions of two tenants and two owners, with undone, cut and erased turns."""
    for tenant in ("acme", "acme-corp"):
        inside = store.within(tenant)
        for number, name in enumerate(("a", "b", "c", "d")):
            for _ in range(2 if name == "c" else 1):
                await inside.erase(name)
                for turn in range(4 * number + 1):
                    said = [user(f"{tenant}|{name}|{turn}"), assistant("x" * (turn * 97 % 400))]
                    await inside.append(name, said, owner=("ann", "bob")[number % 2], metadata={"turn": turn})
            if number > 1:
                await inside.rewind(name, turns=2)
                await inside.append(name, [user(f"{tenant}|{name}|again")])


async def answer(store: Store, name: str) -> Answer:
    info = (await store.info(name)).to_dict()
    return await store.load(name), await store.load(name, last=4), info


def structure(data: bytes) -> list[int]:
    """Return the positions of the file header and of the headers of pages and cells (sqlite.org/fileformat2.html)."""
    found = list(range(100))
    for start in range(0, len(data), PAGE):
        head = start + (100 if start == 0 else 0)
        if data[head] in (2, 5, 10, 13):
            (cells,) = struct.unpack_from(">H", data, head + 3)
            width = 12 if data[head] in (2, 5) else 8
            found += range(head, head + width + 2 * cells)
            for (cell,) in struct.iter_unpack(">H", data[head + width : head + width + 2 * cells]):
                found += range(start + cell, min(start + cell + 24, start + PAGE))
    return found


async def check(path: Path, sound: dict[Key, Answer], flip: str) -> None:
    """Read everything.

    Raises:
        AssertionError: A result is wrong, and no error was raised.
    """
    try:
        async with at(path) as store:
            for key, wanted in sound.items():
                try:
                    assert await answer(store.within(key.namespace), key.session) == wanted, flip
                except CorruptRecord as error:
                    assert error.key == key, flip
            for namespace in ("acme", "acme-corp"):
                for owner in (None, "ann", "bob"):
                    page = await store.backend.page(Query(namespace=namespace, owner=owner))
                    for info in page.infos:
                        assert info.key.namespace == namespace, flip
                        assert owner in (None, info.owner), flip
                        assert sound[info.key][2] == info.to_dict() | {"expires_in": None}, flip
                    if owner is None and not page.damaged:
                        assert len(page.infos) == 4, flip
    except (CorruptRecord, SchemaError, Unavailable) as error:
        assert type(error) in (CorruptRecord, SchemaError, Unavailable), flip  # no subclass, such as not found


def test_no_flipped_bit_is_silently_wrong(tmp_path: Path) -> None:
    """No history is wrong and no session is missing without an error."""
    path, dice = tmp_path / "chat.db", random.Random(5)

    async def run() -> None:
        async with at(path) as store:
            await fill(store)
            names = [Key(tenant, name) for tenant in ("acme", "acme-corp") for name in "abcd"]
            sound = {key: await answer(store.within(key.namespace), key.session) for key in names}
        data = path.read_bytes()
        places = structure(data)
        for number in range(FLIPS):
            place, bit = dice.choice(places) if number % 2 else dice.randrange(len(data)), dice.randrange(8)
            for suffix in ("-wal", "-shm"):
                path.with_name(f"chat.db{suffix}").unlink(missing_ok=True)
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            try:
                await check(path, sound, f"bit {bit} of byte {place}")
            except TurnlogError as error:
                raise AssertionError(f"bit {bit} of byte {place}: {error!r}") from error

    asyncio.run(run())
