"""Read a session that holds a payload, and measure the read: python open_bomb.py FILE LAYER [naive].

With `naive`, the payload is decompressed without bounds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import zlib
from pathlib import Path

import zstandard

from compressed import GZIP, LAYERS, ZSTD, compressed, talk
from turnlog import Change, CorruptRecord, Key, Record, Store
from turnlog_compression import _decompress
from turnlog_memory import MemoryBackend


def memory(what: str) -> int:
    """Return this process's resident memory in bytes: the current one (`VmRSS`), or the peak (`VmHWM`).

    `getrusage` would include the parent process.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{what}:")[2].split()[0]) * 1024


async def measured(payload: bytes, name: str) -> dict[str, object]:
    """Return the error of a read, the memory that it took, and the lowest CPU time of three reads."""
    sound = Record.of(talk(600), id="t", time=0.0)
    layer = LAYERS[name](MemoryBackend())
    async with Store(layer) as store:
        for session, records in (
            ("sound", [compressed(sound, "gzip"), compressed(sound, "zstd")]),
            ("bomb", [sound, sound.with_payload(payload), sound]),
        ):
            for record in records:
                await layer.inner.commit(Key("default", session), Change(append=(record,)))
        assert len(await store.load("sound")) == 4
        seconds, grown, before = [], [], memory("VmRSS")
        for _ in range(3):
            began = time.process_time()
            try:
                await store.load("bomb")
            except CorruptRecord as error:
                message, place = str(error), [error.key and error.key.session, error.turn]
                seconds.append(time.process_time() - began)
                grown.append(memory("VmHWM") - before)
        neighbours = [len(await store.load("bomb", last=1)), len(await store.load("bomb", before=1))]
    return {
        "error": message,
        "place": place,
        "seconds": min(seconds),
        "bytes": grown[0],
        "neighbours": neighbours,
    }


def naive_gzip(body: bytes, size: int, _: object) -> bytes:
    """Decompress the whole body."""
    return zlib.decompress(body, 31)


def naive_zstd(body: bytes, size: int, _: object) -> bytes:
    """Decompress the size that the frame states."""
    return zstandard.decompress(body)


if __name__ == "__main__":
    if sys.argv[3:] == ["naive"]:
        _decompress._EXPANDERS.update({GZIP: naive_gzip, ZSTD: naive_zstd})
    print(json.dumps(asyncio.run(measured(Path(sys.argv[1]).read_bytes(), sys.argv[2]))))
