"""Contract: the table of bad input.  Each row is an operation with an input, and its error; or a value that is stored.

Other chapters test the rest: `Limits` sizes, `Describing` metadata, `Expiring` times to live, `Paging` and `Prefixes`
cursors, `Reading` windows, `Owners` owners, `DamageContract` damage, `Lifecycle` closed stores.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import pytest

from .. import limits
from ..errors import Conflict, IdReused, InvalidInput, SessionNotFound, TooLarge
from ..store import Store
from ..values.change import ABSENT, ANY, PRESENT, Change
from ..values.message import user
from ..values.query import Query
from ..values.record import Record
from ..values.version import Version
from ._base import ContractBase
from ._difficult_ids import NO_IDS
from ._material import ID, Watched, key, made_by_hand, picture, record, say

Call: TypeAlias = "Callable[[Store, Any], Any]"
"""A call with an input: it returns an awaitable, or is a constructor, which raises before it returns."""


def _message(value: object) -> list[Any]:
    """Return messages of which the third has a value as its content."""
    return [user("fine"), {"role": "user", "content": "fine"}, {"role": "user", "content": value}, user("fine")]


def _nested(depth: int) -> Any:  # noqa: ANN401 - a list in lists
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


async def _append(store: Store, messages: Any) -> None:  # noqa: ANN401 - invalid input
    await store.append(ID, messages)


async def _save(store: Store, messages: Any) -> None:  # noqa: ANN401
    await store.save(ID, messages)


async def _append_content(store: Store, value: object) -> None:
    with pytest.raises(InvalidInput) as error:
        await store.append(ID, _message(value))
    assert "messages[2]" in str(error.value), "the error names the place"
    await store.save(ID, _message(value))


async def _append_with(store: Store, options: Any) -> None:  # noqa: ANN401
    await store.append(ID, say("x"), **options)


IDS: Final[list[tuple[str, Call]]] = [
    ("load", lambda store, bad: store.load(bad)),
    ("session", lambda store, bad: store.session(bad)),
    ("info", lambda store, bad: store.info(bad)),
    ("touch", lambda store, bad: store.touch(bad)),
    ("append", lambda store, bad: store.append(bad, say("x"))),
    ("save", lambda store, bad: store.save(bad, say("x"))),
    ("merge_metadata", lambda store, bad: store.merge_metadata(bad, {"x": 1})),
    ("pop", lambda store, bad: store.pop(bad)),
    ("rewind", lambda store, bad: store.rewind(bad, turns=1)),
    ("fork from", lambda store, bad: store.fork(bad, "bob")),
    ("fork to", lambda store, bad: store.fork(ID, bad)),
    ("erase", lambda store, bad: store.erase(bad)),
    ("within", lambda store, bad: store.within(bad).load(ID)),
    ("a page", lambda store, bad: store.backend.page(Query(namespace="" if bad is None else bad))),
]
"""The operations that take an id, or a namespace; each one refuses all values of `NO_IDS`."""

Table: TypeAlias = "list[tuple[str, type[Exception], Call, list[Any]]]"
"""The operation, the error, the call, and the inputs."""

REFUSED: Final[Table] = [
    # messages
    ("append", InvalidInput, _append, [[], (), None, 7, "text", user("a"), {"role": "user"}, {user("a")}]),
    ("append", InvalidInput, _append, [iter(say("a")), (message for message in say("a"))]),
    ("append", InvalidInput, _append, [[None], [7], ["text"], [["role", "user"]], [{"role": "user", 7: "x"}]]),
    ("save", InvalidInput, _save, [[], (), None, 7, "text", user("a"), {"role": "user"}, {user("a")}]),
    ("save", InvalidInput, _save, [iter(say("a")), (message for message in say("a"))]),
    ("save", InvalidInput, _save, [[None], [7], ["text"], [["role", "user"]], [{"role": "user", 7: "x"}]]),
    # values in messages
    ("a set, an object", InvalidInput, _append_content, [{1, 2}, object(), bytearray(b"x"), memoryview(b"x")]),
    ("a tuple", InvalidInput, _append_content, [("x",), [("x",)]]),
    ("a number of too many digits", InvalidInput, _append_content, [[10**limits.MAX_DIGITS], 10**5_000]),
    ("a key that is no string", InvalidInput, _append_content, [{1: "x"}, [{1: "x", "1": "y"}], {True: 1, None: 2}]),
    ("a cycle", InvalidInput, _append_content, [_cycle()]),
    ("too deep", TooLarge, _append_content, [_nested(limits.MAX_DEPTH), _nested(100_000)]),
    # options of append
    ("turn_id", InvalidInput, _append_with, [{"turn_id": i} for i in ("", " ", "x" * 201, "a\0b", 7, b"t", "\ud800")]),
    ("part", InvalidInput, _append_with, [{"turn_id": "t", "part": part} for part in (-1, True, "1", 1.0, 2**53)]),
    ("part", InvalidInput, _append_with, [{"part": 1}]),
    ("open", InvalidInput, _append_with, [{"turn_id": "t", "open": value} for value in (1, "yes", None)]),
    ("expect", InvalidInput, _append_with, [{"expect": value} for value in ("1", 1, object(), True, ANY)]),
    ("owner", InvalidInput, _append_with, [{"owner": owner} for owner in (" ", "x" * 256, 7, "a\nb")]),
    ("metadata", InvalidInput, _append_with, [{"metadata": value} for value in ("x", [1], {1: 2}, {"x": (1,)})]),
    ("metadata", InvalidInput, _append_with, [{"metadata": {name: 1}} for name in ("\ud800", "")]),
    # changes and records
    ("Change", InvalidInput, lambda _, options: Change(**options), [{}, {"id": ""}, {"keep": -1}, {"retain": 0}]),
    ("Change", InvalidInput, lambda _, append: Change(append=append), [[record("b")]]),
    ("Change", InvalidInput, lambda _, append: Change(append=append), [(record("b"), record("c", id="t", part=1))]),
    ("Change", InvalidInput, lambda _, expect: Change(keep=0, expect=expect), ["1"]),
    ("Record", InvalidInput, lambda _, messages: Record.of(messages, id="t", time=0.0), [(), [user("a")], ("a",)]),
    # lists
    ("limit of a page", InvalidInput, lambda _, n: Query(namespace="a", limit=n), [0, -1, True, "5", 2**63, 10**9]),
]
"""Input that is refused before any I/O."""

UNFIT: Final[list[tuple[str, type[Exception], Call]]] = [
    ("load a session that is not stored", SessionNotFound, lambda store, _: store.load("none")),
    ("pop from it", SessionNotFound, lambda store, _: store.pop("none")),
    ("rewind further than the beginning", InvalidInput, lambda store, _: store.rewind(ID, turns=3)),
    ("append to a session that must exist", SessionNotFound, lambda s, _: s.append("none", say("x"), expect=PRESENT)),
    ("append to one that must not", Conflict, lambda store, _: store.append(ID, say("x"), expect=ABSENT)),
    ("append at a stale version", Conflict, lambda store, seen: store.append(ID, say("x"), expect=seen[0])),
    ("append at a version of another session", Conflict, lambda s, seen: s.append("empty", say("x"), expect=seen[1])),
    ("append to a deleted session", Conflict, lambda store, seen: store.append("none", say("x"), expect=seen[1])),
    ("save at a stale version", Conflict, lambda store, seen: store.save(ID, say("x"), expect=seen[0])),
    ("erase at a stale version", Conflict, lambda store, seen: store.erase(ID, expect=seen[0])),
    ("fork to a session that exists", Conflict, lambda store, _: store.fork(ID, "empty")),
    ("a turn id with other messages", IdReused, lambda store, _: store.append(ID, say("x"), turn_id="t")),
    ("a round of no turn", Conflict, lambda store, _: store.append(ID, say("x"), turn_id="new", part=1)),
    ("metadata of more than 1 MiB", TooLarge, lambda store, _: store.merge_metadata(ID, {"x": "x" * 2**20})),
]
"""Input that a session refuses: what is done, the error, and the call with the two versions of `ID`."""

STORED: Final[list[tuple[str, Any]]] = [
    ("a zero byte", "a\0b"),
    ("lone surrogates", "\ud800 and \udfff"),
    ("floats", [float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, -0.0]),
    ("integers beyond 64 bits", [2**64, -(2**63) - 1, 10 ** (limits.MAX_DIGITS - 1)]),
    ("bytes", bytes(range(256))),
    ("keys of serialisers", {"lc": 1, "type": "constructor", "__enc__": 1, "__compressed_data__": "", "$ref": "#/a"}),
    ("keys of turnlog", {"$turnlog": {"$turnlog": None}}),
    ("text like JSON, SQL, or a pattern", ['{"a": NaN}', "x') OR '1'='1", "%s :name $1 ?", "*[a]", "../../x"]),
    ("other normal forms", ["\u00e9", "e\u0301", "\ufb01", "\u202eab", "\u200b"]),
    ("empty values", [{}, [], "", {"": {}}, None]),
    ("the deepest value", _nested(limits.MAX_DEPTH - 3)),
]
"""Unusual content of a message, which is stored and read back equal."""


class BadInput(ContractBase):
    async def test_bad_ids(self, store: Store) -> None:
        """A namespace or id that is not 1 to 255 bytes of UTF-8, or has control characters, raises `InvalidInput`."""
        await _check_refused(store, [(name, InvalidInput, call, NO_IDS) for name, call in IDS])

    async def test_bad_input(self, store: Store) -> None:
        """Bad input raises the error of the table before any I/O, and stores nothing."""
        await _check_refused(store, REFUSED)

    async def test_conditions_that_are_none(self, store: Store) -> None:
        """Every method that takes `expect` raises `InvalidInput` if it is not a condition, and changes nothing."""
        version = (await store.append(ID, say("a"))).version
        before, forged = await picture(store), made_by_hand(version)
        for bad in (str(version), "1", 1, object(), True, *forged, *(one.exact for one in forged[:3])):
            calls: list[Callable[[str, Any], Awaitable[object]]] = [
                lambda name, bad: store.append(name, say("b"), expect=bad),
                lambda name, bad: store.save(name, say("b"), expect=bad),
                lambda name, bad: store.merge_metadata(name, {"x": 1}, expect=bad),
                lambda name, bad: store.fork(name, "bob", expect=bad),
                lambda name, bad: store.rewind(name, turns=1, expect=bad),
                lambda name, bad: store.erase(name, expect=bad),
                lambda name, bad: store.backend.delete(key(store, name), expect=bad),
            ]
            for call in calls:
                for name in (ID, "none"):
                    with pytest.raises(InvalidInput):
                        await call(name, bad)
        assert (await picture(store), await picture(store, "none")) == (before, None)

    async def test_input_that_does_not_fit_the_session(self, store: Store) -> None:
        """Input that does not fit the stored session raises the error of the table, and stores nothing."""
        seen: list[Version] = [(await store.append(ID, say("a"), turn_id="t")).version]
        seen.append((await store.append(ID, say("b"))).version)
        await store.merge_metadata("empty", {"x": 1})
        before = [await picture(store, name) for name in (ID, "empty", "none")]
        for what, error, call in UNFIT:
            try:
                await call(store, seen)
            except error:
                pass
            else:
                pytest.fail(f"{what} raises no {error.__name__}")
            assert [await picture(store, name) for name in (ID, "empty", "none")] == before, what

    async def test_unusual_input(self, store: Store) -> None:
        """Unusual values and the longest ids are stored and read back equal; a repeat is recognised."""
        for what, value in STORED:
            for _ in range(2):
                await store.append(what, [{"role": "user", "content": value}], turn_id="é" * 100)
        for what, value in STORED:
            assert [repr(message.content) for message in await store.load(what)] == [repr(value)], what
        await store.append(ID, tuple(say("a")), turn_id="x" * limits.MAX_TURN_ID_BYTES)
        assert [turn.id for turn in (await store.session(ID)).turns] == ["x" * 200]


async def _check_refused(store: Store, table: Table) -> None:
    """Check that each input of a table raises its error before any I/O."""
    await store.append(ID, say("a"))
    before = await picture(store)
    layer = Watched(store.backend)
    watched = Store(layer, namespace=store.namespace)
    for what, error, call, inputs in table:
        for bad in inputs:
            try:
                await call(watched, bad)
            except error:
                pass
            else:
                pytest.fail(f"{what} of {str(bad)[:80]!r} raises no {error.__name__}")
            assert layer.calls == [], f"{what} is refused after I/O"
    assert await picture(store) == before
