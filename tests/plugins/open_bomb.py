"""Ask for a session that holds a payload, and measure it: python open_bomb.py FILE LAYER [naive].

With `naive` the payload is opened as it would be by who trusts it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import zlib
from pathlib import Path

import zstandard

from compressed import LAYERS, compressed, talk
from turnlog import Change, CorruptRecord, Key, Record
from turnlog_compression import _decompress
from turnlog_memory import MemoryBackend


def memory(what: str) -> int:
    """Bytes of memory that this process has (`VmRSS`), or had at most (`VmHWM`).

    `getrusage` says no less than what the process had that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{what}:")[2].split()[0]) * 1024


async def measured(payload: bytes, layer: str) -> dict[str, object]:
    """What a caller hears, how much memory that took, and how long the best of three times."""
    sound = Record.of(talk(600), id="t", time=0.0)
    async with LAYERS[layer](MemoryBackend()) as store:
        for session, records in (
            ("sound", [compressed(sound, "gzip"), compressed(sound, "zstd")]),
            ("bomb", [sound, sound.with_payload(payload), sound]),
        ):
            for record in records:
                await store.inner.commit(Key("default", session), Change(append=(record,)))
        assert len(await store.load("sound")) == 4
        seconds, grown, before = [], [], memory("VmRSS")
        for _ in range(3):
            began = time.perf_counter()
            try:
                await store.load("bomb")
            except CorruptRecord as error:
                said, place = str(error), [error.key and error.key.session, error.turn]
                seconds.append(time.perf_counter() - began)
                grown.append(memory("VmHWM") - before)
        beside = [len(await store.load("bomb", last=1)), len(await store.load("bomb", before=1))]
    return {"said": said, "place": place, "seconds": min(seconds), "bytes": grown[0], "beside": beside}


def naive_gzip(body: bytes, size: int, _: object) -> bytes:
    """All that comes out."""
    return zlib.decompress(body, 31)


def naive_zstd(body: bytes, size: int, _: object) -> bytes:
    """As much as the frame says."""
    return zstandard.decompress(body)


if __name__ == "__main__":
    if sys.argv[3:] == ["naive"]:
        _decompress._OPENERS.update({_decompress.GZIP: naive_gzip, _decompress.ZSTD: naive_zstd})
    print(json.dumps(asyncio.run(measured(Path(sys.argv[1]).read_bytes(), sys.argv[2]))))
