"""The costs of the Redis store: round trips, scripts, their commands, and bytes, for any length of the history."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from redis_writers import Proxy, RedisStore, at, emptied, planted, raw
from turnlog import ABSENT, Change, Conflict, Key, Query, Record, SessionNotFound, Version, assistant, user

KEY = Key("default", "s")
SHORT, LONG = 5, 50_000  # turns of two messages


class Place:
    """A store behind a proxy that counts its commands."""

    def __init__(self, proxy: Proxy, store: RedisStore, url: str) -> None:
        self.proxy, self.store, self.url = proxy, store, url

    async def names(self, work: Awaitable[object]) -> tuple[int, str]:
        """Return the number of round trips of an operation, and its commands."""
        self.proxy.count()
        await work
        return self.proxy.trips, b" ".join(self.proxy.commands).decode()

    async def calls(self, work: Awaitable[object]) -> dict[str, int]:
        """Return the number of calls of each command on the server, including those inside scripts."""
        with raw(self.url) as client:
            client.config_resetstat()
            await work
            found: dict[str, dict[str, int]] = client.info("commandstats")
        ours = {name.removeprefix("cmdstat_").lower(): one["calls"] for name, one in found.items()}
        return {name: calls for name, calls in ours.items() if not name.startswith(("config", "info"))}

    async def bytes(self, work: Awaitable[object]) -> tuple[int, int]:
        """Return the number of bytes that were sent and received."""
        self.proxy.count()
        await work
        return self.proxy.sent, self.proxy.received


@asynccontextmanager
async def placed(**options: Any) -> AsyncGenerator[Place, None]:
    """Yield a place on an empty server, with a store that has already used the server."""
    url = emptied()
    async with Proxy(url) as proxy, at(proxy.url, **options) as store:
        for _ in "ab":  # the server knows the scripts from here on
            await store.append("warm", [user("hello")], owner="ann")
            await store.load("warm", last=1, before=1)
            await store.load("warm", last=1)
            await store.load("warm")
            await store.info("warm")
        await store.backend.page(Query(namespace="default"))
        yield Place(proxy, store, url)


async def fill(store: RedisStore, turns: int) -> Version:
    """Write a session of `turns` turns, with a thousand turns per commit; return its version."""
    messages = (user("a question of some words"), assistant("an answer of a few more words than that"))
    for begin in range(0, turns, 1000):
        numbers = range(begin, min(turns, begin + 1000))
        said = tuple(Record.of(messages, id=f"t{number}", time=0.0) for number in numbers)
        receipt = await store.backend.commit(KEY, Change(id=f"c{begin}", append=said))
    return receipt.version


async def test_a_read_of_the_end_transfers_no_earlier_rounds() -> None:
    async with placed() as place:
        received = []
        for turns in (30, 31, 32, 200):
            rounds = [
                Record.of((user("some words"),), id=f"t{turn}", time=0.0, part=part, open=part < 2)
                for turn in range(turns)
                for part in range(3)
            ]
            await place.store.backend.commit(Key("default", f"s{turns}"), Change(append=tuple(rounds)))
            for last in (1, 2, 3, 20):
                session = await place.store.session(f"s{turns}", last=last)
                assert len(session.records) == -(-last // 3) * 3
            received.append((await place.bytes(place.store.load(f"s{turns}", last=20)))[1])
        assert max(received) < 1.2 * min(received)


async def test_a_read_is_one_round_trip() -> None:
    """A read of the last messages takes a second one if the last turns are shorter than the average of the session."""
    async with placed(ttl=3600) as place:
        store = place.store
        version = await fill(store, SHORT)
        await store.append("s", [user("more"), assistant("yes")])
        for read in (
            lambda: store.load("s"),
            lambda: store.load("s", last=4),
            lambda: store.load("s", last=4, before=3),
            lambda: store.backend.read(KEY, since=version),
            lambda: store.info("s"),
            lambda: store.backend.read(KEY, last=4, since=version),
        ):
            assert (await place.names(read()))[0] == 1
        for _ in "abc":
            await store.append("s", [user("short")])
        assert (await place.names(store.load("s", last=4)))[0] == 2
        assert (await place.names(store.load("s", last=1)))[0] == 1


async def test_a_read_of_rounds_with_one_message_is_one_round_trip() -> None:
    """The header of the session was seen, and tells how many records hold the messages; otherwise it takes two."""
    async with placed() as place, at(place.url) as other:
        for turn in range(10):
            for part, message in enumerate((user("a question"), assistant("a call"), assistant("an answer"))):
                await place.store.append("s", [message], turn_id=f"t{turn}", part=part, open=part < 2)
        for last in (1, 2, 20, 30, 40):
            assert (await place.names(place.store.load("s", last=last)))[0] == 1
        await other.append("unseen", [user("a question")], turn_id="t", open=True)
        await other.append("unseen", [assistant("an answer")], turn_id="t", part=1)
        assert (await place.names(place.store.load("unseen", last=2)))[0] == 2
        assert (await place.names(place.store.load("unseen", last=2)))[0] == 1


async def test_an_append_to_a_known_session_is_one_script() -> None:
    """The store has read or written the session. Metadata, an owner, a condition or a repeat add no script."""
    async with placed() as place, at(place.url) as other:
        store = place.store
        await store.append("written", [user("1")], owner="ann")
        await other.append("read", [user("1")], owner="ann")
        await store.load("read", last=1)
        once = (1, "EVALSHA")
        for session in ("written", "read"):
            assert await place.names(store.append(session, [user("2")])) == once
            assert await place.names(store.append(session, [user("3")], metadata={"a": 1}, owner="ann")) == once
            info = await store.info(session)
            assert await place.names(store.append(session, [user("4")], expect=info.version, turn_id="4")) == once
            assert await place.names(store.append(session, [user("4")], turn_id="4")) == once
            assert (await store.info(session)).turns == 4
        assert await place.names(store.append("unseen", [user("1")])) == (2, "EVALSHA EVALSHA")
        await other.append("read", [user("5")])
        assert await place.names(store.append("read", [user("6")])) == (2, "EVALSHA EVALSHA")


async def test_a_refused_cut_is_one_script() -> None:
    """The header is read again, because it may be out of date. The records around the cut are not read."""
    async with placed() as place:
        old = await fill(place.store, SHORT)
        await place.store.append("s", [user("more")])

        async def refused(**conditions: Any) -> None:
            with pytest.raises((Conflict, SessionNotFound)):
                await place.store.backend.commit(KEY, Change(keep=1, **conditions))

        for conditions in ({"expect": old}, {"expect": ABSENT}, {"for_owner": "ann"}):
            assert await place.names(refused(**conditions)) == (1, "EVALSHA")


def same(short: dict[str, int], long: dict[str, int]) -> bool:
    """Return whether the server ran the same few commands for both lengths."""
    return short == long and sum(short.values()) < 40


OPERATIONS: dict[str, Callable[[RedisStore], Coroutine[Any, Any, object]]] = {
    "append": lambda store: store.append("s", [user("a question"), assistant("an answer")]),
    "append and metadata": lambda store: store.append("s", [user("a question")], metadata={"title": "T"}),
    "last 20": lambda store: store.load("s", last=20),
    "info": lambda store: store.info("s"),
    "touch": lambda store: store.touch("s"),
    "undo": lambda store: store.rewind("s", turns=1),
}


async def measured(turns: int) -> dict[str, tuple[dict[str, int], tuple[int, int]]]:
    """Return the commands and the bytes of each operation on a session of `turns` turns."""
    found = {}
    async with placed() as place:
        await fill(place.store, turns)
        await place.store.load("s", last=1)
        for _ in range(-place_of_next(turns) % 8):
            await place.store.append("s", [user("a question"), assistant("an answer")])
        for name, operation in OPERATIONS.items():
            await operation(place.store)
            sent = await place.bytes(operation(place.store))
            await place.store.load("s", last=1)
            found[name] = await place.calls(operation(place.store)), sent
        found["all"] = await place.calls(place.store.load("s")), await place.bytes(place.store.load("s"))
    return found


def place_of_next(turns: int) -> int:
    """Return the number of the next change. Every eighth change also cleans up the index."""
    return -(-turns // 1000)


async def test_an_operation_costs_the_same_for_any_length() -> None:
    """At 10 messages and at 100,000 the server runs the same commands, and the bytes differ only by a few digits."""
    short, long = await measured(SHORT), await measured(LONG)
    for name in OPERATIONS:
        (few, little), (many, much) = short[name], long[name]
        if name == "undo":  # it searches for the turn
            assert sum(many.values()) <= sum(few.values()) + 2 * 17
            continue
        if name == "last 20":  # the short session has fewer than 20 messages
            assert sum(many.values()) <= sum(few.values()) + 2
            assert much[1] < little[1] + 3_000
            continue
        assert same(few, many), name
        assert abs(much[0] - little[0]) < 60, name
        assert abs(much[1] - little[1]) < 60, name
    assert long["all"][1][1] > 1000 * short["all"][1][1]  # the measurement can fail


async def test_a_store_that_reads_everything_is_detected() -> None:
    """The naive store reads the whole session and cuts the window out of it."""
    whole = ("READ", "(held >= last and", "(false and")
    async with placed() as place:
        await fill(place.store, 2000)
        few = await place.bytes(place.store.load("s", last=4, before=1000))
        with planted(*whole):
            await place.store.load("s", last=4, before=1000)
            many = await place.bytes(place.store.load("s", last=4, before=1000))
        assert few[1] < 2_000
        assert many[1] > 100_000


async def test_an_unchanged_session_is_reported_in_a_few_bytes() -> None:
    """This holds even for a session of 100,000 messages. Only new turns are sent."""
    async with placed(ttl=3600) as place, at(place.url) as other:
        store = place.store
        version = await fill(store, LONG)
        await store.backend.read(KEY, since=version)
        assert max(await place.bytes(store.backend.read(KEY, since=version))) < 400
        await other.append("s", [user("x" * 1000)])
        received = (await place.bytes(store.backend.read(KEY, since=version)))[1]
        assert 1000 < received < 1000 + 800
        calls = await place.calls(store.backend.read(KEY, since=version))
        assert sum(calls.values()) < 30


async def test_a_page_is_a_few_round_trips_for_any_number_of_sessions() -> None:
    """All indexes are read at once, then all sessions at once."""
    async with placed() as place:
        for number in range(600):
            await place.store.append(f"s{number}", [user("x")], owner=f"o{number % 3}")
            if number in (50, 599):
                for owner in (None, "o1"):
                    query = Query(namespace="default", owner=owner, limit=20)
                    place.proxy.count()
                    page = await place.store.backend.page(query)
                    shown = len(page.infos)
                    assert shown == 20 or (number == 50 and owner)
                    assert place.proxy.trips <= 6
                    assert place.proxy.commands.count(b"EVALSHA") <= 22
                    assert len(place.proxy.commands) <= 400
        assert [info.key.session for info in page.infos] == [f"s{number}" for number in range(598, 538, -3)]


async def test_a_page_of_a_small_store_is_one_script() -> None:
    async with placed() as place:
        for owner in (None, "ann"):
            page = place.store.backend.page(Query(namespace="default", owner=owner))
            assert await place.names(page) == (1, "EVALSHA")
        assert await place.names(place.store.backend.page(Query(namespace="none"))) == (1, "EVALSHA")


@pytest.mark.parametrize("many", [64, 300])
async def test_no_more_changes_are_kept_than_are_remembered(many: int) -> None:
    async with placed() as place:
        sizes = []
        for number in range(many):
            receipt = await place.store.backend.commit(KEY, Change(id=f"c{number}", metadata={"n": 1}))
            with raw(place.url) as client:
                sizes.append(client.memory_usage(client.keys("turnlog:*:s:*:s")[0], samples=0))
        assert max(sizes) < 20_000
        again = await place.store.backend.commit(KEY, Change(id=f"c{many - 64}", metadata={"n": 1}))
        assert again.version != receipt.version
        assert (await place.store.info("s")).version == receipt.version, "the change was not remembered"
