"""`save`: makes a stored history equal to another one, and writes only the difference."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Final, Literal

from .access import Access
from .errors import Conflict, CorruptRecord, InvalidInput, SessionNotFound
from .rules.conditions import check_absent, unchanged_since
from .rules.history import TurnRule, check_extends, check_replaces, common, divide, split_turns
from .rules.one_turn import warn_of_one_turn
from .values.change import ABSENT, ANY, PRESENT, Expect, Mark, Receipt, check_expect
from .values.message import Message
from .values.turn import Turn

__all__ = ["save"]

_TRIES: Final = 100
"""Tries of a read and the write that depends on it, while other writers change the session in between."""


async def save(
    access: Access, wanted: tuple[Message, ...], expect: Expect | Literal[Mark.ANY], begins: TurnRule
) -> Receipt:
    """Implement `Store.save`.

    Args:
        access: The session.
        wanted: The history.
        expect: As in `Store.save`.
        begins: Returns whether a message begins a turn.
    """
    if not wanted:
        raise InvalidInput("save needs at least one message: to empty a session, rewind or erase it")
    if expect is not ANY:
        check_expect(expect)
    tries = 0
    while True:
        tries += 1
        try:
            receipt = await _save_once(access, wanted, expect, begins)
        except (Conflict, SessionNotFound) as error:
            foreign = tries > 1 and access.owner is not None and isinstance(error, SessionNotFound)
            if foreign or tries == _TRIES or expect is ABSENT or not await access.may_meet(expect):
                raise
            session = await access.find()
            if (expect is None or expect is PRESENT) and session is not None:
                check_extends(session, wanted, access.as_read)
        else:
            warn_of_one_turn(access.key, receipt, len(wanted))
            return receipt


async def _save_once(
    access: Access, wanted: tuple[Message, ...], expect: Expect | Literal[Mark.ANY], begins: TurnRule
) -> Receipt:
    key, session = access.key, await access.find()
    if session is None or expect is ABSENT:
        if expect is not ANY:
            check_absent(key, expect, access.owner)
        return await access.commit(key, append=access.records(split_turns(wanted, begins)), expect=ABSENT)
    check_replaces(session, wanted, expect, access.as_read)
    info = session.info
    stored: Sequence[Message] = ()
    turns: Sequence[Turn] = ()
    with suppress(CorruptRecord) if expect is ANY else nullcontext():  # damaged turns are overwritten
        stored, turns = session.messages, session.turns
    same = common(stored, wanted, access.as_read)
    if same == len(stored) == len(wanted):
        if (now := (await access.info()).version) != info.version:  # a trusting cache may have answered the first read
            raise Conflict(f"session {key} has changed since it was read: load it again", actual=now)
        return Receipt.of(info)
    keep, rest = divide(turns, wanted, same, info.first, begins)
    cut = keep if keep < info.turns else None
    append, bound = access.records(split_turns(rest, begins)), unchanged_since(info.version, expect)
    return await access.commit(key, append=append, keep=cut, expect=bound)
