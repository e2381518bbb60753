"""Edits that depend on the stored turns: undo, removal at either end, and the search for a turn.

Other tasks may write between the read and the commit of an edit.  The commit then raises `Conflict`, and `repeated`
tries again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from math import inf
from time import monotonic
from typing import Final, TypeVar

from .access import Access
from .errors import Conflict, InvalidInput
from .rules.conditions import check_condition, is_met, naming_owner, unchanged_since
from .rules.history import rewound
from .values.change import Change, Expect, Receipt, check_expect
from .values.checks import check_number
from .values.ids import check_id, new_id
from .values.key import Key
from .values.message import Message
from .values.session import Session
from .values.turn import Turn

__all__ = ["find_turn", "fork", "pop", "pop_messages", "rewind", "trim"]

_T = TypeVar("_T")

_PATIENCE: Final = 30.0
"""Seconds until an edit gives up: the default timeout of backends."""

_SEARCHED: Final = 256
"""Minimum number of messages in each read of `find_turn`, except the last one."""


async def fork(access: Access, target: Key, at: int | None, expect: Expect, change_id: str | None) -> Receipt:
    """Implement `Store.fork`."""
    if at is not None:
        check_number(at, "at", least=0)
    check_expect(expect)
    id = new_id() if change_id is None else check_id(change_id, "change id")
    if access.key == target:
        raise InvalidInput(f"session {target.session!r} cannot be forked onto itself: choose another target")
    with naming_owner(access.owner):
        return await access.backend.copy(access.key, target, at=at, change_id=id, expect=expect, for_owner=access.owner)


async def rewind(access: Access, turns: int | None, messages: int | None, expect: Expect) -> Receipt:
    """Implement `Store.rewind`."""
    if (turns is None) == (messages is None):
        given = "neither" if turns is None else "both"
        raise InvalidInput(f"rewind takes turns= or messages=, but got {given}: write rewind(id, turns=1)")
    check_number(messages if turns is None else turns, "messages" if turns is None else "turns", least=1)
    check_expect(expect)

    async def attempt() -> Receipt:
        session = await access.window(messages or 0)
        if not is_met(session.version, expect) and (await access.info()).version != session.version:
            session = await access.window(messages or 0)  # a cache answered the first read
        check_condition(access.key, session.version, expect)
        keep, append = rewound(session, turns, messages)
        bound = unchanged_since(session.version, expect)
        return await access.commit(access.key, keep=keep, append=append, expect=bound)

    return await _repeated(access, attempt, expect)


async def pop(access: Access) -> Turn | None:
    """Implement `Store.pop`."""

    async def attempt() -> Turn | None:
        session = await _end(access, 1)
        if not session.turns:
            return None
        turn = session.turns[-1]
        await access.commit(access.key, keep=turn.number, expect=session.version)
        return turn

    return await _repeated(access, attempt)


async def pop_messages(access: Access, n: int, expect: Expect) -> list[Message]:
    """Implement `Store.pop_messages`."""
    check_number(n, "n", least=1)
    check_expect(expect)

    async def attempt() -> list[Message]:
        session = await _end(access, n)
        check_condition(access.key, session.version, expect)
        removed = session.messages[-n:]
        if removed:
            keep, append = rewound(session, None, len(removed))
            bound = unchanged_since(session.version, expect)
            await access.commit(access.key, keep=keep, append=append, expect=bound)
        return removed

    return await _repeated(access, attempt, expect)


async def trim(access: Access, before: int, expect: Expect) -> Receipt:
    """Implement `Store.trim`."""
    check_number(before, "before", least=0)
    check_expect(expect)

    async def attempt() -> Receipt:
        info = await access.info()
        check_condition(access.key, info.version, expect)
        if before <= info.first:
            return Receipt.of(info)
        if before >= info.turns:
            raise InvalidInput(
                f"trim must leave a turn: before must be at most {info.turns - 1} for session {access.key}, not "
                f"{before}; to remove all turns, rewind or erase the session"
            )
        bound = unchanged_since(info.version, expect)
        change = Change(retain=info.turns - before, expect=bound, for_owner=access.owner)
        return await access.backend.commit(access.key, change)

    return await _repeated(access, attempt, expect)


async def find_turn(access: Access, turn_id: str) -> Turn | None:
    """Implement `Store.turn`."""
    before: int | None = None
    while True:
        session = await access.window(_SEARCHED, before=before, touch=before is None)
        for turn in reversed(session.turns):
            if turn.id == turn_id:
                return turn
        if not session.turns or session.turns[0].number <= session.info.first:
            return None
        before = session.turns[0].number


async def _end(access: Access, messages: int) -> Session:
    """Return the turns at the end, and not those of an earlier state that a cache holds."""
    session = await access.window(messages)
    if not session.turns and (await access.info()).messages:
        raise Conflict(f"session {access.key} has changed since the cache read it: try again")
    return session


async def _repeated(access: Access, attempt: Callable[[], Awaitable[_T]], expect: Expect = None) -> _T:
    """Call a function that reads and edits a session until it meets no conflict, and return its result.

    The first attempt is only a call of the function.  During further attempts the backend keeps other writers waiting.

    Args:
        access: The session.
        attempt: The function; it raises `Conflict` if the session has changed between its read and its commit.
        expect: The condition of the edit; another attempt is made only if the session may meet it.

    Raises:
        Conflict: The session does not meet the condition, or no attempt has succeeded within 30 seconds.
    """
    end = inf
    while True:
        try:
            async with nullcontext() if end == inf else access.backend.alone(access.key):
                return await attempt()
        except Conflict:
            now = monotonic()
            end = min(end, now + _PATIENCE)
            if now > end or not (expect is None or await access.may_meet(expect)):
                raise
