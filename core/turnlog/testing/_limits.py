"""Contract: limits."""

from __future__ import annotations

from typing import Any

import pytest

from .. import limits
from ..errors import InvalidInput, TooLarge
from ..store import Store
from ..values.change import Change
from ..values.record import Record
from ._base import ContractBase
from ._material import ID, Watched, history, key, noise, picture, record, say, texts


def _nested(depth: int) -> dict[str, Any]:
    """Return a message of this depth; the dictionary of the message is the first level."""
    value: Any = []
    for _ in range(depth - 2):
        value = [value]
    return {"role": "user", "content": value}


class Limits(ContractBase):
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
