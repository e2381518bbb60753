"""Contract: metadata and owner."""

from __future__ import annotations

from typing import Any

import pytest

from .. import limits
from ..errors import Conflict, InvalidInput, TooLarge
from ..store import Store
from ..values.json_value import JSON
from ._base import ContractBase
from ._material import ID, history, key, picture, say

_VALUES: dict[str, JSON] = {
    "text": "é\u0301\0 \U0001f600",
    "numbers": [0, -1, 2**63, 1.0, 1.5, -0.0],
    "flags": {"yes": True, "no": False},
    "nested": {"a": [{"b": [[]]}, None]},
    "with.dot": 1,
    "$set": 2,
    'it\'s "quoted" %s :name': 3,
    "name": "not the field",
    "turns": -1,
    "é": 4,
    "e\u0301": 5,
}


class Describing(ContractBase):
    async def test_metadata_comes_back_as_it_was_set(self, store: Store) -> None:
        """Every read returns the metadata as it was set, with any names and values."""
        await store.append(ID, say("a"))
        receipt = await store.merge_metadata(ID, _VALUES)
        for session in (
            await store.backend.read(key(store)),
            await store.backend.read(key(store), last=0),
            await store.session(ID),
        ):
            metadata = dict(session.info.metadata)
            assert metadata == _VALUES
            assert repr(metadata["numbers"]) == repr(_VALUES["numbers"])
            assert repr(metadata["flags"]) == repr(_VALUES["flags"]), "True is not 1"
            assert session.version == receipt.version

    async def test_names_are_merged_one_by_one(self, store: Store) -> None:
        """A change sets metadata name by name: None removes a name, and a value replaces the whole old value."""
        await store.merge_metadata(ID, {"a": 1, "b": {"x": 1}, "c": 3})
        await store.merge_metadata(ID, {"b": {"y": 2}, "c": None, "d": 4, "never": None})
        assert dict((await store.info(ID)).metadata) == {"a": 1, "b": {"y": 2}, "d": 4}

    async def test_metadata_leaves_the_turns_alone(self, store: Store) -> None:
        """A change of metadata makes another version, but does not change turns and counts."""
        version = (await store.append(ID, say("a", "b"))).version
        turns = (await store.session(ID)).turns
        receipt = await store.merge_metadata(ID, {"title": "x"})
        assert (receipt.number, receipt.turns, receipt.messages) == (None, 1, 2)
        assert receipt.version != version
        assert version.met_by(receipt.version)
        assert not version.exact.met_by(receipt.version)
        assert (await store.session(ID)).turns == turns

    async def test_a_session_without_turns(self, store: Store) -> None:
        """`merge_metadata` makes a session that is not stored."""
        receipt = await store.merge_metadata(ID, {"title": "x"}, owner="u1")
        assert (receipt.previous, receipt.turns, receipt.messages) == (None, 0, 0)
        assert await store.load(ID) == []
        assert await store.load(ID, last=5) == []
        assert (await store.append(ID, say("a"))).number == 0
        info = await store.info(ID)
        assert (info.owner, dict(info.metadata)) == ("u1", {"title": "x"})

    async def test_too_much_metadata(self, store: Store) -> None:
        """A store raises `TooLarge` if the metadata of a session would take more than 1 MiB, and stores nothing.

        Metadata of 1 MiB can be read and changed, and turns can be appended.
        """
        large = "x" * (limits.MAX_METADATA_BYTES - 1_000)
        await store.merge_metadata(ID, {"a": large})
        assert dict((await store.info(ID)).metadata) == {"a": large}
        assert (await store.append(ID, say("a"))).turns == 1
        assert dict((await store.session(ID)).info.metadata) == {"a": large}
        before = await picture(store)
        wrong: list[dict[str, JSON]] = [{"b": "x" * 1_000}, {"b": large + "x" * 1_000}, {"b": [0] * limits.MAX_VALUES}]
        for metadata in wrong:
            with pytest.raises(TooLarge):
                await store.merge_metadata(ID, metadata)
        assert await picture(store) == before
        await store.merge_metadata(ID, {"a": None, "b": large})
        assert list((await store.info(ID)).metadata) == ["b"]

    async def test_the_owner(self, store: Store) -> None:
        """A change sets the owner: the empty string removes it, and None leaves it unchanged."""
        await store.append(ID, say("a"))
        assert (await store.info(ID)).owner == ""
        await store.merge_metadata(ID, owner="u1")
        await store.merge_metadata(ID, {"title": "x"})
        await store.append(ID, say("b"))
        assert (await store.info(ID)).owner == "u1"
        await store.merge_metadata(ID, owner="Ü 'u2'")
        assert (await store.info(ID)).owner == "Ü 'u2'"
        await store.merge_metadata(ID, owner="")
        assert (await store.info(ID)).owner == ""
        assert await history(store) == ["a", "b"]

    async def test_compare_and_set(self, store: Store) -> None:
        """`merge_metadata` with `expect=version.exact` sets metadata only if nothing has changed since."""
        one = await store.merge_metadata(ID, {"count": 1})
        two = await store.merge_metadata(ID, {"count": 2}, expect=one.version.exact)
        with pytest.raises(Conflict) as error:
            await store.merge_metadata(ID, {"count": 2}, expect=one.version.exact)
        assert error.value.actual == two.version
        assert dict((await store.info(ID)).metadata) == {"count": 2}

    async def test_nothing_to_set(self, store: Store) -> None:
        """`merge_metadata` raises `InvalidInput` if nothing is given, or if a value is not JSON."""
        await store.append(ID, say("a"))
        before = await picture(store)
        with pytest.raises(InvalidInput):
            await store.merge_metadata(ID)
        wrong: list[Any] = [{"x": (1,)}, {"x": {1, 2}}, {1: "x"}, {"": "x"}, {"\ud800": "x"}, ["x"], "x"]
        for bad in wrong:
            with pytest.raises(InvalidInput):
                await store.merge_metadata(ID, bad)
        assert await picture(store) == before
