"""The write-ahead log of SQLite: whether damage in it hides transactions that were committed.

SQLite reads a log that no process has open up to the first frame that is not sound, and takes the rest for what a crash
has left half-written.  Damage looks the same.  Then all transactions from that frame on would be gone without an error,
and the sessions would be as they were before.  Two things tell damage from a crash:

- A later transaction is complete.  A commit waits until the one before is on the disk, so a crash leaves at most one
  transaction half-written.
- One bit is wrong.  A page that was written in part differs in many.

The format is that of sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import struct
import sys
from array import array
from functools import lru_cache
from operator import mul
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct(">8I")  # magic, version, page size, checkpoints, two salts, two checksums
_FRAME: Final = struct.Struct(">6I")  # page, pages in all if it ends a transaction, two salts, two checksums
_MAGIC: Final = 0x377F0682  # of little-endian checksums; the next number: of big-endian ones
_PAGE: Final = 4096  # bytes, unless the header says otherwise
_MASK: Final = 0xFFFF_FFFF

_Two = tuple[int, int]


class _Part(NamedTuple):
    """The header of the log, or a frame.

    Attributes:
        data: The bytes that its checksums cover.
        before: The checksums before it.
        salts: Its salts.
        sums: Its checksums, as they are stored.
        ends: Whether it ends a transaction.
    """

    data: bytes
    before: _Two
    salts: _Two
    sums: _Two
    ends: bool


def hidden_from(path: str) -> int | None:
    """Return the number of a damaged frame that hides transactions, from 1, or 0 for the header; None if there is none.

    Another process may write to the log meanwhile, so it is read again if damage is found.

    Args:
        path: The path of the log; it need not exist.
    """
    found = _hidden_from(_read(path))
    return None if found is None or found != _hidden_from(_read(path)) else found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # SQLite never locks this file: closing it releases no lock of this process
            return file.read()
    except OSError:  # SQLite reports what it cannot read
        return b""


def _hidden_from(log: bytes) -> int | None:
    if len(log) < _HEADER.size:
        return None
    magic, _, page, _, *salts, one, two = _HEADER.unpack_from(log)
    big = magic == _MAGIC + 1
    if not (512 <= page <= 65_536 and page & (page - 1) == 0):
        page = _PAGE
    head = _Part(log[: _HEADER.size - 8], (0, 0), (salts[0], salts[1]), (one, two), ends=False)
    is_sound = magic in (_MAGIC, _MAGIC + 1) and _is_sound(head, head.salts, big=big)
    refused, at, complete, before = None if is_sound else head, 0, False, head.sums
    for place, start in enumerate(range(_HEADER.size, len(log) - _FRAME.size - page + 1, _FRAME.size + page), 1):
        _, ends, a, b, one, two = _FRAME.unpack_from(log, start)
        content = log[start : start + 8] + log[start + _FRAME.size : start + _FRAME.size + page]
        frame = _Part(content, before, (a, b), (one, two), bool(ends))
        if refused is head and place == 1:
            head = refused = head._replace(salts=frame.salts)  # or none would fit, if that is where the damage is
        before = frame.sums
        if not _is_sound(frame, head.salts, big=big):
            if refused is None:
                refused, at, complete = frame, place, frame.ends
        elif refused is not None and frame.ends:
            if complete or refused is head:
                return at
            complete = True  # the transaction of the frame that was refused
    if refused is not None and complete and _is_one_bit_off(refused, head.salts, big=big):
        return at
    return None


def _is_sound(part: _Part, salts: _Two, *, big: bool) -> bool:
    """Return whether a part belongs to this use of the log, and its checksums fit."""
    return part.salts == salts and _sums(part.before, part.data, big=big) == part.sums


def _is_one_bit_off(part: _Part, salts: _Two, *, big: bool) -> bool:
    """Return whether a part would be sound with one other bit, in its data, its salts or its checksums."""
    found = _sums(part.before, part.data, big=big)
    off = sum((a ^ b).bit_count() for a, b in zip(part.salts + found, salts + part.sums, strict=True))
    if off == 1:
        return True
    (_, first), (_, second) = _weights(len(part.data) // 8)
    differences = (part.sums[0] - found[0]) & _MASK, (part.sums[1] - found[1]) & _MASK
    return part.salts == salts and any(
        differences in {(x << bit & _MASK, y << bit & _MASK), (-x << bit & _MASK, -y << bit & _MASK)}
        for x, y in zip(first, second, strict=True)
        for bit in range(32)
    )


def _sums(before: _Two, data: bytes, *, big: bool) -> _Two:
    """Return the two checksums of data, after those before it.

    SQLite adds up pairs of words: a += x + b, b += y + a.  The sums are linear in all words, so each word has a weight.
    """
    words = array("I", data)
    if big != (sys.byteorder == "big"):
        words.byteswap()
    (of_a, a_weights), (of_b, b_weights) = _weights(len(words) // 2)
    return (
        (before[0] * of_a[0] + before[1] * of_a[1] + sum(map(mul, words, a_weights))) & _MASK,
        (before[0] * of_b[0] + before[1] * of_b[1] + sum(map(mul, words, b_weights))) & _MASK,
    )


@lru_cache(4)
def _weights(pairs: int) -> tuple[tuple[_Two, list[int]], tuple[_Two, list[int]]]:
    """Return the weights in each checksum: of the two checksums before so many pairs of words, and of each word."""
    return _weights_in((1, 0), pairs), _weights_in((0, 1), pairs)


def _weights_in(last: _Two, pairs: int) -> tuple[_Two, list[int]]:
    a, b = last  # the weights of both checksums after the last pair; go back from there
    weights: list[int] = []
    for _ in range(pairs):
        x = (a + b) & _MASK  # x is added to a, and with a to b
        weights += (b, x)
        a, b = x, (a + 2 * b) & _MASK
    return (a, b), weights[::-1]
