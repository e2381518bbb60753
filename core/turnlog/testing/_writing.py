"""Contract: the effects of a commit."""

from __future__ import annotations

from typing import Any

import pytest

from ..errors import Conflict, CorruptRecord, SessionNotFound, TooLarge
from ..store import Store
from ..values.change import Change
from ..values.message import Message, assistant, tool, user
from ._base import ContractBase
from ._material import ID, history, key, numbers, picture, record, say, texts

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You book flights."},
    {"role": "user", "content": "Grüße aus Köln \U0001f6eb", "name": "Alice"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "content": "", "tool_call_id": "c1"},
    {"type": "function_call", "call_id": "c2", "arguments": '{"a": 1}', "status": "completed"},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text"}]}]},
    {"role": "user", "content": "NUL \0 inside, \r\n, \u2028 and e\u0301"},
    {"content": [1, 1.0, True, False, None, 2**64 - 1, -(2**63), 1e300, 5e-324, -0.0, [], {}, [[["deep"]]]]},
    {"lc": 1, "__enc__": "x", "__compressed_data__": "y", "$ref": "#/z", "role": 7, "": "an empty name"},
]
"""Messages of providers, and messages that look like the internal data of a store."""


class Writing(ContractBase):
    async def test_append_stores_one_turn(self, store: Store) -> None:
        """`append` stores one turn, and makes a session that is not stored."""
        receipt = await store.append(ID, say("a", "b"))
        session = await store.session(ID)
        assert texts(session.messages) == ["a", "b"]
        assert [texts(turn.messages) for turn in session.turns] == [["a", "b"]]
        assert (receipt.number, receipt.first, receipt.turns, receipt.messages) == (0, 0, 1, 2)

    async def test_turns_keep_their_order(self, store: Store) -> None:
        """`load` returns the messages of a session in order."""
        for turn in ("ab", "c", "def"):
            await store.append(ID, say(*turn))
        assert texts(await store.load(ID)) == list("abcdef")

    async def test_turns_are_numbered_from_0(self, store: Store) -> None:
        """Turns are numbered from 0, and the receipt has the number of the appended turn."""
        receipts = [await store.append(ID, say(text)) for text in "abc"]
        assert [receipt.number for receipt in receipts] == [0, 1, 2]
        assert numbers(await store.session(ID)) == [0, 1, 2]

    async def test_messages_come_back_as_they_were_sent(self, store: Store) -> None:
        """Messages are stored verbatim, with or without a role, unknown keys included."""
        await store.append(ID, MESSAGES)
        loaded = [message.to_dict() for message in await store.load(ID)]
        assert loaded == MESSAGES
        assert repr(loaded[7]) == repr(MESSAGES[7]), "True is not 1, and 1 is not 1.0"

    async def test_a_turn_has_its_id_and_its_time(self, store: Store) -> None:
        """A turn has the id under which it was appended, and the time in seconds since 1970."""
        before = self.clock()
        await store.append(ID, say("a"), turn_id="first turn")
        await self.advance(10)
        after = self.clock()
        await store.append(ID, say("b"))
        one, two = (await store.session(ID)).turns
        assert one.id == "first turn"
        assert (one.time, two.time) == (before, after)
        assert two.id not in ("", one.id)

    async def test_a_receipt_says_where_the_session_is(self, store: Store) -> None:
        """A receipt has the version, `first` and the counts of the session after the commit."""
        for size in (1, 3, 2):
            receipt = await store.append(ID, say(*"abc"[:size]))
            info = await store.info(ID)
            assert (receipt.version, receipt.first) == (info.version, info.first)
            assert (receipt.turns, receipt.messages) == (info.turns, info.messages)

    async def test_a_receipt_says_what_the_change_was_applied_to(self, store: Store) -> None:
        """`Receipt.previous` is the version before the change, or None if the session did not exist."""
        one = await store.append(ID, say("a"))
        two = await store.append(ID, say("b"))
        three = await store.merge_metadata(ID, {"title": "x"})
        assert one.previous is None
        assert two.previous == one.version
        assert three.previous == two.version
        assert three.number is None, "Receipt.number: None if it appended nothing"

    async def test_a_change_may_append_several_turns(self, store: Store) -> None:
        """A change may append several records; the receipt has the number of the first."""
        await store.append(ID, say("a"))
        receipt = await store.backend.commit(key(store), Change(append=(record("b"), record("c", "d"))))
        assert (receipt.number, receipt.turns, receipt.messages) == (1, 3, 4)
        session = await store.session(ID)
        assert [(turn.number, texts(turn.messages)) for turn in session.turns] == [
            (0, ["a"]),
            (1, ["b"]),
            (2, ["c", "d"]),
        ]

    async def test_append_with_owner_and_metadata(self, store: Store) -> None:
        """`append` also sets the owner and merges metadata in the same step."""
        receipt = await store.append(ID, say("a"), owner="u1", metadata={"title": "x"})
        session = await store.session(ID)
        assert (session.info.owner, dict(session.info.metadata)) == ("u1", {"title": "x"})
        assert (session.version, texts(session.messages)) == (receipt.version, ["a"])

    async def test_a_change_does_its_parts_in_order(self, store: Store) -> None:
        """A change cuts, appends, drops turns, merges metadata, and sets owner and time to live, in this order."""
        for text in "abc":
            await store.append(ID, say(text))
        parts = {"metadata": {"title": "x"}, "owner": "u1", "ttl": 60.0}
        change = Change(keep=2, append=(record("d"), record("e")), retain=3, **parts)  # type: ignore[arg-type]
        receipt = await store.backend.commit(key(store), change)
        session = await store.session(ID)
        assert texts(session.messages) == ["b", "d", "e"]
        assert numbers(session) == [1, 2, 3]
        assert (receipt.number, receipt.first, receipt.turns, receipt.messages) == (2, 1, 4, 3)
        assert (session.info.owner, session.info.ttl, dict(session.info.metadata)) == ("u1", 60.0, {"title": "x"})

    async def test_keep_cuts_the_turns_from_there_on(self, store: Store) -> None:
        """`keep` cuts the turns numbered `keep` and above; the next turn takes that number."""
        for text in "abcd":
            await store.append(ID, say(text))
        receipt = await store.backend.commit(key(store), Change(keep=2))
        assert (receipt.number, receipt.turns, receipt.messages) == (None, 2, 2)
        assert (await store.append(ID, say("e"))).number == 2
        assert await history(store) == ["a", "b", "e"]

    async def test_keep_0_leaves_an_empty_session(self, store: Store) -> None:
        """`keep=0` cuts all turns; the session and its metadata stay."""
        await store.append(ID, say("a"), metadata={"title": "x"})
        await store.backend.commit(key(store), Change(keep=0))
        session = await store.session(ID)
        assert (session.messages, session.info.turns, dict(session.info.metadata)) == ([], 0, {"title": "x"})

    async def test_keep_beyond_the_end_cuts_nothing(self, store: Store) -> None:
        """`keep` cuts nothing, and the version stays, if it is above all turn numbers."""
        version = (await store.append(ID, say("a"))).version
        for keep in (1, 2, 2**40):
            assert (await store.backend.commit(key(store), Change(keep=keep))).version == version
        assert await history(store) == ["a"]

    async def test_what_makes_a_session(self, store: Store) -> None:
        """A change makes a session that is not stored, if it has turns, metadata, an owner or a time to live."""
        changes = {
            "turns": Change(append=(record("a"),)),
            "metadata": Change(metadata={"title": "x"}),
            "owner": Change(owner="u1"),
            "ttl": Change(ttl=60.0),
            "turns-and-keep": Change(append=(record("a"),), keep=0),
        }
        for name, change in changes.items():
            receipt = await store.backend.commit(key(store, name), change)
            info = await store.info(name)
            assert receipt.previous is None, name
            assert (receipt.version, receipt.turns) == (info.version, info.turns), name

    async def test_what_makes_no_session(self, store: Store) -> None:
        """`commit` raises `SessionNotFound` if the session does not exist and the change adds nothing to it."""
        for change in (Change(keep=0), Change(keep=5), Change(retain=1), Change(keep=1, retain=1)):
            with pytest.raises(SessionNotFound):
                await store.backend.commit(key(store), change)
        assert await picture(store) is None

    async def test_all_of_a_change_or_nothing(self, store: Store) -> None:
        """`commit` applies the whole change or nothing."""
        await store.append(ID, say("a"), metadata={"big": "x" * 600_000})
        before = await picture(store)
        with pytest.raises(TooLarge):
            await store.backend.commit(
                key(store), Change(keep=0, append=(record("b"),), metadata={"more": "x" * 600_000})
            )
        assert await picture(store) == before
        with pytest.raises(Conflict):
            await store.backend.commit(
                key(store), Change(append=(record("b", part=1),), metadata={"title": "x"}, owner="u1")
            )
        assert await picture(store) == before

    async def test_sessions_know_nothing_of_each_other(self, store: Store) -> None:
        """A change to one session does not affect another."""
        await store.append("one", say("a"), owner="u1")
        before = await picture(store, "one")
        await store.append("two", say("b"))
        await store.merge_metadata("two", {"title": "x"})
        await store.backend.commit(key(store, "two"), Change(keep=0))
        await store.erase("two")
        assert await picture(store, "one") == before

    async def test_a_payload_is_kept_as_it_is(self, store: Store) -> None:
        """A backend stores a payload that only a layer can read, byte for byte, and does not decode it."""
        sealed = record("secret").with_payload(bytes(range(256)) * 3)
        if self.reads_messages:
            with pytest.raises(CorruptRecord):
                await store.backend.commit(key(store), Change(append=(record("a"), sealed)))
            return
        await store.backend.commit(key(store), Change(append=(record("a"), sealed)))
        session = await store.backend.read(key(store))
        assert session.records[1].payload == sealed.payload
        assert texts(session.records[0].messages) == ["a"]
        assert session.info.messages == 2

    async def test_a_tool_call_stays_with_its_result(self, store: Store) -> None:
        """A tool call is never separated from its result: they belong to one turn."""
        call: list[Message] = [
            user("Is it late?"),
            assistant(tool_calls=[{"id": "c1", "type": "function", "function": {"name": "status", "arguments": "{}"}}]),
            tool("on time", tool_call_id="c1"),
            assistant("It is on time."),
        ]
        await store.append(ID, say("hello"))
        await store.append(ID, call)
        assert await store.load(ID, last=1) == call
