"""Contract: limits, and input that is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .. import limits
from ..errors import InvalidInput, TooLarge
from ..store import Store
from ..values.change import ANY, Change
from ..values.message import user
from ..values.record import Record
from ._base import ContractBase
from ._material import ID, Watched, history, key, made_by_hand, noise, picture, record, say, texts


def _nested(depth: int) -> dict[str, Any]:
    """Return a message of this depth; the dictionary of the message is the first level."""
    value: Any = []
    for _ in range(depth - 2):
        value = [value]
    return {"role": "user", "content": value}


def _cycle() -> dict[str, Any]:
    message: dict[str, Any] = {"role": "user"}
    message["content"] = [message]
    return message


_BAD: list[Any] = [
    {"role": "user", "content": {1, 2}},
    {"role": "user", "content": bytearray(b"bytes")},
    {"role": "user", "content": object()},
    {"role": "user", "content": [("tuple",)]},
    {"role": "user", "content": [10**limits.MAX_DIGITS]},
    {"role": "user", "content": [{1: "x"}]},
    {"role": "user", "content": [{True: "x", None: "y"}]},
    {"role": "user", 7: "x"},
    "a string",
    None,
    7,
    ["role", "user"],
    _cycle(),
]
"""Values that are not messages."""


class Limits(ContractBase):
    async def test_invalid_messages(self, store: Store) -> None:
        """`append` and `save` raise `InvalidInput` for values of other types than `json` has, and name their place."""
        await store.append(ID, say("a"))
        before = await picture(store)
        layer = Watched(store.backend)
        watched = Store(layer)
        for bad in _BAD:
            for messages in ([bad], [user("fine"), {"role": "user", "content": "fine"}, bad, user("fine")]):
                with pytest.raises(InvalidInput) as error:
                    await watched.append(ID, messages)
                assert f"messages[{messages.index(bad)}]" in str(error.value)
                with pytest.raises(InvalidInput):
                    await watched.save(ID, messages)
        assert layer.calls == [], "it was refused after I/O"
        assert await picture(store) == before

    async def test_messages_that_are_no_list(self, store: Store) -> None:
        """`append` and `save` take a list or tuple of at least one message; otherwise they raise `InvalidInput`."""
        wrong: list[Any] = [
            [],
            (),
            "text",
            user("a"),
            {"role": "user"},
            iter(say("a")),
            (m for m in say("a")),
            None,
            7,
            {user("a")},
        ]
        layer = Watched(store.backend)
        watched = Store(layer)
        for bad in wrong:
            with pytest.raises(InvalidInput):
                await watched.append(ID, bad)
            with pytest.raises(InvalidInput):
                await watched.save(ID, bad)
        assert layer.calls == []
        assert await picture(store) is None
        await store.append(ID, tuple(say("a")))
        assert await history(store) == ["a"]

    async def test_invalid_arguments_of_append(self, store: Store) -> None:
        """`append` raises `InvalidInput` if turn_id, part, open, expect, owner or metadata break a rule."""
        wrong: list[dict[str, Any]] = [
            *({"turn_id": bad} for bad in ("", " ", "x" * 201, "a\0b", 7, b"t", "\ud800")),
            *({"turn_id": "t", "part": bad} for bad in (-1, True, "1", 1.0, 2**53)),
            {"part": 1},
            *({"turn_id": "t", "open": bad} for bad in (1, "yes", None)),
            *({"expect": bad} for bad in ("1", 1, object(), ANY)),
            *({"owner": bad} for bad in (" ", "x" * 256, 7, "a\nb")),
            *({"metadata": bad} for bad in ("x", [1], {1: 2}, {"x": (1,)}, {"\ud800": 1}, {"": 1})),
        ]
        layer = Watched(store.backend)
        watched = Store(layer)
        for options in wrong:
            with pytest.raises(InvalidInput):
                await watched.append(ID, say("a"), **options)
        assert layer.calls == []
        assert await picture(store) is None
        await store.append(ID, say("a"), turn_id="x" * 200)
        await store.append(ID, say("b"), turn_id="é" * 100, open=True)
        assert await history(store) == ["a", "b"]

    async def test_invalid_conditions(self, store: Store) -> None:
        """Every method that takes `expect` raises `InvalidInput` if it is not a condition, and changes nothing."""
        version = (await store.append(ID, say("a"))).version
        before = await picture(store)
        forged = made_by_hand(version)
        wrong: list[Any] = [str(version), "1", 1, object(), True, *forged, *(one.exact for one in forged[:3])]
        for bad in wrong:
            for session_id in (ID, "not there"):
                calls: list[Callable[[], Awaitable[object]]] = [
                    lambda: store.append(session_id, say("b"), expect=bad),  # noqa: B023 - called at once
                    lambda: store.save(session_id, say("b"), expect=bad),  # noqa: B023
                    lambda: store.merge_metadata(session_id, {"x": 1}, expect=bad),  # noqa: B023
                    lambda: store.erase(session_id, expect=bad),  # noqa: B023
                    lambda: store.backend.delete(key(store, session_id), expect=bad),  # noqa: B023
                    lambda: store.fork(session_id, "bob", expect=bad),  # noqa: B023
                ]
                for call in calls:
                    with pytest.raises(InvalidInput):
                        await call()
            with pytest.raises(InvalidInput):
                await store.rewind(ID, turns=1, expect=bad)
        assert await picture(store) == before
        assert await picture(store, "not there") is None

    async def test_how_deep(self, store: Store) -> None:
        """Lists and objects in a message may be nested `limits.MAX_DEPTH` deep, and can then be read again."""
        deepest = _nested(limits.MAX_DEPTH)
        await store.append(ID, [deepest])
        assert [message.to_dict() for message in await store.load(ID)] == [deepest]
        for depth in (limits.MAX_DEPTH + 2, 100_000):
            with pytest.raises(TooLarge):
                await store.append(ID, [_nested(depth)])
        assert len(await store.load(ID)) == 1

    async def test_how_many_values(self, store: Store) -> None:
        """The messages of a record hold at most `limits.MAX_VALUES` values and names in lists and objects.

        With more values, a write raises `TooLarge` and stores nothing.  Each round is counted by itself, and a seal may
        join rounds.
        """
        half = {"role": "user", "content": [0] * (limits.MAX_VALUES // 2 - 20)}
        more = {"role": "assistant", "content": [0] * (limits.MAX_VALUES // 2 + 20)}
        layer = Watched(store.backend)
        watched = Store(layer)
        for wrong in ([{"role": "user", "content": [0] * limits.MAX_VALUES}], [half, more]):
            with pytest.raises(TooLarge):
                await watched.append(ID, wrong)
            assert layer.calls == []
            with pytest.raises(TooLarge):
                await watched.save(ID, wrong)
            assert "commit" not in layer.calls
            layer.calls.clear()
        await store.append(ID, [half, half], turn_id="t", open=True)
        await store.append(ID, [more], turn_id="t", part=1)
        await store.append(ID, say("x"))
        session = await store.backend.read(key(store))
        await store.backend.seal(key(store), Record.seal(session.records))
        assert [message.content for message in await store.load(ID)] == [
            *(one["content"] for one in (half, half, more)),
            "x",
        ]

    async def test_how_many_messages(self, store: Store) -> None:
        """A change of more than `limits.MAX_MESSAGES` messages raises `TooLarge`; smaller changes can be read again."""
        with pytest.raises(TooLarge):
            await store.append(ID, say("x") * (limits.MAX_MESSAGES + 1))
        half = limits.MAX_MESSAGES // 2 + 1
        with pytest.raises(TooLarge):
            await store.backend.commit(key(store), Change(append=(record(*["x"] * half), record(*["x"] * half))))
        assert await picture(store) is None
        many = [f"{number}" for number in range(limits.MAX_MESSAGES)]
        receipt = await store.append(ID, say(*many))
        assert (receipt.turns, receipt.messages) == (1, limits.MAX_MESSAGES)
        assert texts(await store.load(ID)) == many

    async def test_how_large_a_record(self, store: Store) -> None:
        """A record of more than `limits.MAX_PAYLOAD_BYTES` encoded raises `TooLarge`, and nothing is stored."""
        await store.append(ID, say("a"))
        before = await store.info(ID)
        with pytest.raises(TooLarge):
            await store.append(ID, say("x" * limits.MAX_PAYLOAD_BYTES))
        with pytest.raises(TooLarge):
            await store.append("bob", say("x" * (limits.MAX_PAYLOAD_BYTES // 2), "y" * (limits.MAX_PAYLOAD_BYTES // 2)))
        assert await store.info(ID) == before
        assert await picture(store, "bob") is None
        large = "x" * (limits.MAX_PAYLOAD_BYTES - 100)
        await store.append("carol", say(large))
        assert await history(store, "carol") == [large]

    async def test_ids_as_long_as_they_may_be(self, store: Store) -> None:
        """A namespace, session id, owner and change id may take `limits.MAX_ID_BYTES` bytes of UTF-8."""
        name = "é" * 127 + "x"
        other = store.within(name)
        await other.backend.commit(key(other, name), Change(id=name, append=(record("a"),), owner=name))
        info = await other.info(name)
        assert (info.key.namespace, info.key.session, info.owner) == (name, name, name)
        assert [found.key.session async for found in other.sessions(owner=name)] == [name]

    async def test_how_large_a_session(self) -> None:
        """A change that would make a session larger than `max_session_bytes` raises `TooLarge`."""
        store = await self.opened(max_session_bytes=2200)
        await store.append(ID, say(noise(1000)))
        await store.append(ID, say(noise(1000)))
        before = await picture(store)
        with pytest.raises(TooLarge):
            await store.append(ID, say(noise(1000)), turn_id="t")
        with pytest.raises(TooLarge):
            await store.append("bob", say(noise(4000)))
        assert await picture(store) == before
        assert await picture(store, "bob") is None
        assert 1500 <= (await store.info(ID)).bytes <= 2200
        await store.append(ID, say("a little"), turn_id="t")
        await store.rewind(ID, turns=2)
        await store.append(ID, say(noise(1000)))
        assert (await store.info(ID)).turns == 2
        with pytest.raises(InvalidInput):
            self.made(max_session_bytes=0)

    async def test_a_cut_is_never_too_large(self, store: Store) -> None:
        """A session that is larger than `max_session_bytes` can still be cut."""
        for number in range(4):
            await store.append(ID, say(noise(1000), f"{number}"))
        store.max_session_bytes = 500  # as in a store that is opened again with a lower limit
        with pytest.raises(TooLarge):
            await store.append(ID, say("x"))
        await store.rewind(ID, turns=1)
        await store.pop(ID)
        assert (await store.info(ID)).turns == 2

    async def test_retention_makes_room(self) -> None:
        """`max_session_bytes` limits the size of the session after the change has cut, appended and dropped turns."""
        store = await self.opened(max_session_bytes=2200, retain=2)
        for number in range(6):
            await store.append(ID, say(noise(1000), f"{number}"))
        assert (await store.info(ID)).first == 4

    async def test_a_sessions_bytes(self, store: Store) -> None:
        """`SessionInfo.bytes` is about the size of the encoded records."""
        sizes = []
        for _ in range(3):
            await store.append(ID, say(noise(1000)))
            sizes.append((await store.info(ID)).bytes)
        assert sizes == sorted(sizes)
        assert 2200 <= sizes[2] <= 4000
        await store.backend.commit(key(store), Change(keep=2))
        assert (await store.info(ID)).bytes == sizes[1]
        await store.backend.commit(key(store), Change(keep=0))
        assert (await store.info(ID)).bytes == 0

    async def test_a_record_is_checked_before_it_is_sent(self, store: Store) -> None:
        """The constructors of changes and records check their arguments, before any I/O."""
        version = (await store.append(ID, say("a"))).version
        one = record("b")
        for make in (
            Change,
            lambda: Change(append=[one]),  # type: ignore[arg-type]
            lambda: Change(append=(one, record("c", id="t", part=1))),
            lambda: Change(id="", append=(one,)),
            lambda: Change(keep=-1),
            lambda: Change(retain=0),
            lambda: Change(append=(one,), expect="1"),  # type: ignore[arg-type]
            lambda: Record.of((), id="t", time=0.0),
        ):
            with pytest.raises(InvalidInput):
                make()
        assert (await store.info(ID)).version == version
