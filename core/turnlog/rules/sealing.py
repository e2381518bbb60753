"""The rules of `Backend.seal`."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidInput
from ..values.key import Key, check_key
from ..values.record import Record


def fits(seal: Record, run: Sequence[Record], *, last: bool) -> bool:
    """Return whether a sealed record may replace stored records.

    Args:
        seal: The sealed record.
        run: The stored records with the turn numbers of the sealed record.
        last: Whether no record follows them.
    """
    return (
        bool(run)
        and run[0].number == seal.number
        and run[0].turns > 0
        and run[0].rounds_until - run[0].rounds == seal.rounds_until - seal.rounds
        and run[-1].rounds_until == seal.rounds_until
        and run[-1].tip == seal.tip
        and sum(record.turns for record in run) == seal.turns
        and sum(record.count for record in run) == seal.count
        and not (last and run[-1].open)
    )


def check_seal(key: Key, record: Record) -> None:
    """Check the arguments of `Backend.seal`, before any I/O.

    Raises:
        InvalidInput: `key` is not a key, or `record` is not a record that begins a turn.
        TooLarge: The record is larger than 16 MiB encoded.
    """
    check_key(key)
    if type(record) is not Record or not record.turns:
        raise InvalidInput("seal needs a record that begins a turn: make it with Record.seal")
    _ = record.payload
