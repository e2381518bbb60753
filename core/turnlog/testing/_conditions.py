"""Contract: the conditions of `expect`, which mean the same in every method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import Conflict, SessionNotFound, TurnlogError
from ..store import Store
from ..values.change import ABSENT, PRESENT, Change, Expect
from ..values.version import Version
from ._base import ContractBase
from ._material import key, picture, record, say

_FIRST = Change(id="first", append=(record("a", id="a"),))


async def _remake(store: Store, name: str) -> None:
    await store.erase(name)
    await store.backend.commit(key(store, name), _FIRST)


_STATES: dict[str, Callable[[Store, str], Awaitable[object]] | None] = {
    "unchanged": None,
    "grown": lambda store, name: store.append(name, say("b")),
    "described": lambda store, name: store.merge_metadata(name, {"title": "x"}),
    "owned": lambda store, name: store.merge_metadata(name, owner="u1"),
    "cut": lambda store, name: store.pop(name),
    "remade": _remake,
    "missing": lambda store, name: store.erase(name),
    "expired": lambda store, name: store.merge_metadata(name, ttl=60.0),
}
"""The changes to a session after a version was read."""

_GONE = ("missing", "expired")


_METHODS: dict[str, Callable[[Store, str, Expect], Awaitable[object]]] = {
    "append": lambda store, name, expect: store.backend.commit(
        key(store, name), Change(append=(record("x"),), expect=expect)
    ),
    "keep": lambda store, name, expect: store.backend.commit(key(store, name), Change(keep=0, expect=expect)),
    "metadata": lambda store, name, expect: store.backend.commit(
        key(store, name), Change(metadata={"mood": "good"}, expect=expect)
    ),
    "owner": lambda store, name, expect: store.backend.commit(key(store, name), Change(owner="u2", expect=expect)),
    "delete": lambda store, name, expect: store.backend.delete(key(store, name), expect=expect),
    "copy": lambda store, name, expect: store.backend.copy(
        key(store, name), key(store, f"copy of {name}"), at=None, change_id="copy", expect=expect
    ),
}
"""The methods that take a condition."""


class Conditions(ContractBase):
    async def test_without_a_condition(self, store: Store) -> None:
        """Without `expect`, no state of the session is a conflict."""
        await self._check(store, lambda _: None, met=tuple(_STATES))

    async def test_session_must_be_absent(self, store: Store) -> None:
        """`ABSENT` is met if there is no session; otherwise the call raises `Conflict`."""
        await self._check(store, lambda _: ABSENT, met=_GONE)

    async def test_session_must_be_present(self, store: Store) -> None:
        """`PRESENT` is met by any session; otherwise the call raises `SessionNotFound`."""
        met = tuple(state for state in _STATES if state not in _GONE)
        await self._check(store, lambda _: PRESENT, met=met, if_gone=SessionNotFound)

    async def test_same_session(self, store: Store) -> None:
        """`version.session` is met by the same session after any change, but not by a session that was made again."""
        await self._check(
            store, lambda version: version.session, met=("unchanged", "grown", "described", "owned", "cut")
        )

    async def test_same_turns(self, store: Store) -> None:
        """`version` is met by the same turns; metadata, owner and time to live may differ."""
        await self._check(store, lambda version: version, met=("unchanged", "described", "owned"))

    async def test_exact_version(self, store: Store) -> None:
        """`version.exact` is met by the same turns, metadata, owner and time to live."""
        await self._check(store, lambda version: version.exact, met=("unchanged",))

    async def _check(
        self,
        store: Store,
        condition: Callable[[Version], Expect],
        *,
        met: tuple[str, ...],
        if_gone: type[TurnlogError] = Conflict,
    ) -> None:
        """Try each method on a session in each state, with a condition made from its first version."""
        conditions: dict[str, Expect] = {}
        for state, bring_about in _STATES.items():
            for method in _METHODS:
                name = f"{state} {method}"
                conditions[name] = condition((await store.backend.commit(key(store, name), _FIRST)).version)
                if bring_about is not None:
                    await bring_about(store, name)
        await self.advance(61)
        for name, expect in conditions.items():
            state, method = name.split()
            before = await picture(store, name)
            found = None if before is None else (await store.info(name)).version
            error: TurnlogError | None = None
            try:
                answer = await _METHODS[method](store, name, expect)
            except TurnlogError as raised:
                error = raised
            if state in _GONE and (method == "copy" or (method == "keep" and state in met)):
                wanted: type[TurnlogError] | None = SessionNotFound  # nothing to copy, or to cut
            else:
                wanted = None if state in met else if_gone if state in _GONE else Conflict
            assert (None if error is None else type(error)) is wanted, f"{method} of a session that is {state}"
            if error is not None:
                assert await picture(store, name) == before, "a refused call changes nothing"
                assert await picture(store, f"copy of {name}") is None
            elif method == "delete":
                assert answer is (state not in _GONE)
            if isinstance(error, Conflict):
                assert (error.expected, error.actual) == (None if expect is ABSENT else expect, found)
