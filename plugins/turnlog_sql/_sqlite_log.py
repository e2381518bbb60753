"""Detect damage in SQLite's write-ahead log that hides committed transactions.

SQLite reads a log that no process has open up to the first invalid frame, and ignores the rest as the remains of a
crash.  Damage looks the same.  All transactions from the damaged frame on would be lost without an error, and sessions
would return to an earlier state.  Either of two signs distinguishes damage from a crash:

- A later transaction is complete.  A commit waits until the one before is on the disk, so a crash leaves at most one
  transaction half-written.
- Only one bit is wrong.  A page that was written in part differs in many bits.

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
_FRAME: Final = struct.Struct(">6I")  # page, number of pages if it ends a transaction, two salts, two checksums
_MAGIC: Final = 0x377F0682  # for little-endian checksums; the next number: for big-endian ones
_PAGE: Final = 4096  # bytes, unless the header says otherwise
_MASK: Final = 0xFFFF_FFFF

_Two = tuple[int, int]


class _Part(NamedTuple):
    """The header of the log, or a frame.

    Attributes:
        data: The bytes that the checksums cover.
        before: The checksums of the part before: the stored ones, and the computed ones.
        salts: The salts.
        sums: The stored checksums.
        ends: Whether the part ends a transaction.
    """

    data: bytes
    before: tuple[_Two, ...]
    salts: _Two
    sums: _Two
    ends: bool


def hidden_from(path: str) -> int | None:
    """Return the number of a damaged frame that hides transactions, from 1; 0: the header; None: there is no damage.

    Another process may write to the log during the read, so the log is read again if damage is found.

    Args:
        path: The path of the log; the file may be missing.
    """
    found = _hidden_from(_read(path))
    return None if found is None or found != _hidden_from(_read(path)) else found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # SQLite never locks this file, so closing it releases no lock
            return file.read()
    except OSError:  # SQLite will report the error
        return b""


def _hidden_from(log: bytes) -> int | None:
    if len(log) < _HEADER.size:
        return None
    magic, _, page, _, salt, other, one, two = _HEADER.unpack_from(log)
    head = _Part(log[: _HEADER.size - 8], ((0, 0),), (salt, other), (one, two), ends=False)
    if not (512 <= page <= 65_536 and page & (page - 1) == 0):
        page = _PAGE
    big = magic == _MAGIC + 1
    if magic in (_MAGIC, _MAGIC + 1) and _is_sound(head, head.salts, big=big):
        return _search(log, page, head, None, big=big)
    found = _search(log, page, head, head, big=False)  # the magic number itself may be damaged
    return found if found is not None else _search(log, page, head, head, big=True)


def _search(log: bytes, page: int, head: _Part, refused: _Part | None, *, big: bool) -> int | None:
    """Return the number of the part that SQLite refuses, if it hides a transaction; otherwise None.

    Args:
        log: The log.
        page: The size of a page in bytes.
        head: The header.
        refused: The header, if SQLite refuses it; otherwise None.
        big: Whether the checksums are computed from big-endian words.
    """
    at, complete = 0, False
    before: tuple[_Two, ...] = head.sums, _sums((0, 0), head.data, big=big)
    salts = head.salts if refused is None else _FRAME.unpack_from(log + bytes(_FRAME.size), _HEADER.size)[2:4]
    for place, start in enumerate(range(_HEADER.size, len(log) - _FRAME.size - page + 1, _FRAME.size + page), 1):
        _, ends, salt, other, one, two = _FRAME.unpack_from(log, start)
        content = log[start : start + 8] + log[start + _FRAME.size : start + _FRAME.size + page]
        frame = _Part(content, before, (salt, other), (one, two), bool(ends))
        if _is_sound(frame, salts, big=big):
            before = (frame.sums,)
            if refused is not None and frame.ends:
                if complete or refused is head:
                    return at
                complete = True  # the transaction of the refused frame
        else:
            ours = frame.salts == salts
            before = (frame.sums, _sums(before[0], content, big=big)) if ours else (frame.sums,)
            if refused is None:
                refused, at, complete = frame, place, frame.ends
    if refused is not None and complete and _is_one_bit_off(refused, salts, big=big):
        return at
    return None


def _is_sound(part: _Part, salts: _Two, *, big: bool) -> bool:
    """Return whether a part belongs to the present generation of the log and has correct checksums."""
    return part.salts == salts and any(_sums(before, part.data, big=big) == part.sums for before in part.before)


def _is_one_bit_off(part: _Part, salts: _Two, *, big: bool) -> bool:
    """Return whether a part would be sound after a change of one bit, in its data, its salts or its checksums."""
    found = _sums(part.before[0], part.data, big=big)
    off = sum((a ^ b).bit_count() for a, b in zip(part.salts + found, salts + part.sums, strict=True))
    if off == 1:
        return True
    (_, first), (_, second) = _weights(len(part.data) // 8)
    one, two = part.sums[0] - found[0], part.sums[1] - found[1]
    wanted = {(one & _MASK, two & _MASK), (-one & _MASK, -two & _MASK)}  # if the bit is set, or is not set
    return part.salts == salts and any(
        (x << bit & _MASK, y << bit & _MASK) in wanted for x, y in zip(first, second, strict=True) for bit in range(32)
    )


def _sums(before: _Two, data: bytes, *, big: bool) -> _Two:
    """Return the two checksums of data, given the checksums before it.

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
    """Return, for each checksum after `pairs` pairs of words, the weights of the initial checksums and of each word."""
    return _weights_in((1, 0), pairs), _weights_in((0, 1), pairs)


def _weights_in(last: _Two, pairs: int) -> tuple[_Two, list[int]]:
    a, b = last  # the weights after the last pair; the loop goes backwards
    weights: list[int] = []
    for _ in range(pairs):
        x = (a + b) & _MASK  # x is added to a, and a to b
        weights += (b, x)
        a, b = x, (a + 2 * b) & _MASK
    return (a, b), weights[::-1]
