"""One Redis session that many write to at once: changes that are committed together, and the line of writers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from firewall import Firewall
from redis_writers import CUT_REPLY, Fate, Proxy, RedisStore, at, emptied, place_of, raw
from turnlog import Change, Conflict, IdReused, Key, OutcomeUnknown, Receipt, Record, Times, TooLarge, Unavailable, user
from turnlog_redis import _scripts

LINE = place_of("s").replace(b":s:", b":w:", 1)


async def texts(store: RedisStore) -> list[str]:
    """What the session holds."""
    return [message.text for message in await store.load("s")]


async def outcomes(*calls: Awaitable[Any]) -> list[Any]:
    """The results and errors of calls that begin at the same moment."""
    return await asyncio.gather(*calls, return_exceptions=True)


# ------------------------------------------------------------------------------------------------------------ together


async def test_a_thousand_appends_at_once_are_a_few_commands() -> None:
    """All are stored, in the order in which they were sent, and each receipt is that of its own turn."""
    async with Proxy(emptied()) as proxy, at(proxy.url) as store:
        await store.append("s", [user("first")])
        proxy.count()
        receipts = await asyncio.gather(*(store.append("s", [user(f"{n}")], turn_id=f"{n}") for n in range(1000)))
        assert len(proxy.commands) < 30
        assert await texts(store) == ["first", *map(str, range(1000))]
        assert [receipt.number for receipt in receipts] == list(range(1, 1001))
        assert [receipt.turns for receipt in receipts] == [receipt.messages for receipt in receipts]
        assert [receipt.turns for receipt in receipts] == list(range(2, 1002))
        versions = [receipt.version for receipt in receipts]
        assert [receipt.previous for receipt in receipts[1:]] == versions[:-1]
        assert len(set(versions)) == 1000


async def test_what_made_the_session_is_committed_with_others() -> None:
    async with Proxy(emptied()) as proxy, at(proxy.url, ttl=60) as store:
        proxy.count()
        receipts = await asyncio.gather(*(store.append("s", [user(f"{n}")]) for n in range(100)))
        assert len(proxy.commands) < 10
        assert await texts(store) == list(map(str, range(100)))
        assert [receipt.previous is None for receipt in receipts] == [True, *[False] * 99]
        assert all(59 < (receipt.expires_in or 0) <= 60 for receipt in receipts)


async def test_each_change_that_is_committed_together_has_its_own_answer() -> None:
    """Some are stored, others are refused, one is a repeat, and one describes the session."""
    async with at(emptied()) as store:
        old = (await store.append("s", [user("first")])).version
        await store.append("s", [user("second")], turn_id="second")
        found = await outcomes(
            store.append("s", [user("a")]),
            store.append("s", [user("b")]),
            store.append("s", [user("refused")], expect=old),
            store.append("s", [user("c")]),
            store.append("s", [user("second")], turn_id="second"),
            store.append("s", [user("other")], turn_id="second"),
            store.append("s", [user("d")], metadata={"by": "d"}),
            store.for_owner("ann").append("s", [user("not hers")]),
            store.append("s", [user("e")], expect=old.session),
            store.append("s", [user("part")], turn_id="open", open=True),
            store.append("s", [user("part")], turn_id="open", part=1),
            store.append("s", [user("f")]),
        )
        kinds = [type(outcome).__name__ for outcome in found]
        refused = {2: "Conflict", 5: "IdReused", 7: "SessionNotFound"}
        assert kinds == [refused.get(place, "Receipt") for place in range(12)]
        assert found[4].number == 1
        assert await texts(store) == ["first", "second", "a", "b", "c", "d", "e", "part", "part", "f"]
        assert dict((await store.info("s")).metadata) == {"by": "d"}


async def test_a_change_that_carries_times_is_committed_alone() -> None:
    # Seen failing where it was committed with the one before it, and where the next one was committed with it.
    async with at(emptied(), ttl=60) as store:
        await store.append("s", [user("first")])
        now = (await store.info("s")).updated
        times, key = Times(now - 90, now - 80, now + 70), Key("default", "s")

        def moved(number: int) -> Change:
            return Change(append=(Record.of((user("moved"),), id=f"m{number}", time=0.0),), times=times)

        await asyncio.gather(*(store.append("s", [user(text)]) for text in "ab"), store.backend.commit(key, moved(1)))
        info = await store.info("s")
        assert (info.created, info.updated) == (times.created, times.updated)
        assert 60 < (info.expires_in or 0) <= 70
        await asyncio.gather(
            store.append("s", [user("c")]), store.backend.commit(key, moved(2)), store.append("s", [user("d")])
        )
        info = await store.info("s")
        assert info.updated >= now
        assert 50 < (info.expires_in or 0) <= 60
        assert await texts(store) == ["first", "a", "b", "moved", "c", "moved", "d"]


async def test_one_change_that_is_sent_twice_at_once_is_stored_once() -> None:
    async with at(emptied()) as store:
        await store.append("s", [user("first")])
        change = [store.append("s", [user("same")], turn_id="same") for _ in range(5)]
        receipts = await asyncio.gather(*(store.append("s", [user(f"{n}")]) for n in range(3)), *change)
        assert await texts(store) == ["first", "0", "1", "2", "same"]
        assert [receipt.number for receipt in receipts] == [1, 2, 3, 4, 4, 4, 4, 4]
        used = await outcomes(
            store.append("s", [user("x")]),
            store.append("s", [user("y")], turn_id="same"),
            store.append("s", [user("z")]),
        )
        assert isinstance(used[1], IdReused)
        assert await texts(store) == ["first", "0", "1", "2", "same", "x", "z"]


async def test_a_limit_refuses_those_that_pass_it() -> None:
    """Though the changes before them, which are committed together, do not."""
    async with at(emptied()) as store:
        await store.append("s", [user("x" * 1000)])
        size = (await store.info("s")).bytes
        store.max_session_bytes = size * 4 + 500
        found = await outcomes(*(store.append("s", [user(f"{n}" * 1000)]) for n in range(8)))
        assert [isinstance(outcome, Receipt) for outcome in found] == [True] * 3 + [False] * 5
        assert all(isinstance(outcome, TooLarge) for outcome in found[3:])
        assert len(await texts(store)) == 4


async def test_turns_that_are_no_longer_retained_are_dropped_by_each() -> None:
    async with at(emptied()) as store:
        store.retain = 3
        receipts = await asyncio.gather(*(store.append("s", [user(f"{n}")]) for n in range(20)))
        assert await texts(store) == ["17", "18", "19"]
        assert [receipt.messages for receipt in receipts] == [min(n, 3) for n in range(1, 21)]


async def test_a_cancelled_task_leaves_the_others_theirs() -> None:
    """Whether it commits for others, waits for its turn, or another commits for it."""
    async with at(emptied()) as store:
        stored = ["first"]
        await store.append("s", [user("first")])
        for steps in range(12):
            for place in (0, 1, 5):
                tasks = [asyncio.ensure_future(store.append("s", [user(f"{steps} {place} {n}")])) for n in range(6)]
                for _ in range(steps):
                    await asyncio.sleep(0)
                tasks[place].cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                stored += [f"{steps} {place} {n}" for n, one in enumerate(done) if isinstance(one, Receipt)]
                assert sum(isinstance(one, Receipt) for one in done) >= 5
        found = await texts(store)
        assert [text for text in found if text in set(stored)] == stored
        assert len(found) == len(set(found))


async def test_changes_whose_common_answer_is_lost_are_stored_once() -> None:
    """They are sent again, each by its own task; where no answer comes at all, each carries its own change."""
    lost: list[str] = []

    def fate(command: list[bytes]) -> Fate:
        return lost.pop() if lost and command[1] == _scripts.COMMIT.sha else None

    async with Proxy(emptied(), fate) as proxy, at(proxy.url, timeout=1.0) as store, at(emptied()) as sound:
        await store.append("s", [user("first")])
        lost += [CUT_REPLY] * 2
        await asyncio.gather(*(store.append("s", [user(f"{n}")]) for n in range(9)))
        assert sorted(await texts(store)) == sorted(["first", *map(str, range(9))])
        lost += [CUT_REPLY] * 1000
        found = await outcomes(*(store.append("s", [user(f"again {n}")]) for n in range(9)))
        lost.clear()
        for outcome in found:
            assert isinstance(outcome, (OutcomeUnknown, Unavailable))
            if isinstance(outcome, OutcomeUnknown):
                await sound.backend.commit(outcome.key, outcome.change)
        again = [text for text in await texts(sound) if text.startswith("again")]
        assert len(again) == len(set(again)) == sum(isinstance(outcome, OutcomeUnknown) for outcome in found)


# ------------------------------------------------------------------------------------------------------------ the line


async def test_a_writer_that_is_far_away_has_its_turn() -> None:
    """Its commits always come later than those of a writer beside the server, which appends without pause."""
    url = emptied()
    async with Firewall(url, delay=0.003) as way, at(url) as near, at(way.url) as far:
        await far.append("s", [user("first")])
        done = {"near": 0, "far": 0}

        async def write(store: RedisStore, name: str) -> None:
            while done["far"] < 20 and done["near"] < 2000:
                await store.append("s", [user(name)])
                done[name] += 1
                await asyncio.sleep(0)

        await asyncio.gather(write(near, "near"), write(far, "far"))
        assert done["far"] == 20


async def test_a_writer_that_was_killed_keeps_nobody_waiting() -> None:
    """It was the first in the line, or in the middle of it; then the line ends, and nothing of it stays."""
    url = emptied()
    async with at(url) as store, at(url) as other:
        await store.append("s", [user("0")])
        with raw(url) as client:
            script, place = _scripts.STAND.text.decode(), place_of("s").decode()
            for number, dead in enumerate((1, 2), 1):
                for name in range(dead):
                    assert client.eval(script, 1, place, f"dead {name}") == name
                await other.append("s", [user(f"{number}")])  # which the store does not know
                began = time.monotonic()
                await store.append("s", [user(f"{number}.")])
                assert time.monotonic() - began < 2
            assert 0 < client.pttl(LINE) <= _scripts.LEASE
            await asyncio.sleep(_scripts.LEASE / 1000 + 0.05)
            assert not client.exists(LINE)
        assert await texts(store) == ["0", "1", "1.", "2", "2."]


async def test_a_writer_that_does_not_commit_leaves_its_place() -> None:
    """A refused change, and a cut that was not made; the next writer need not wait until the line ends."""
    url = emptied()
    async with at(url) as store, at(url) as other:
        old = (await store.append("s", [user("0")])).version
        await other.append("s", [user("1")])
        with pytest.raises(Conflict):
            await store.append("s", [user("x")], expect=old)
        with raw(url) as client:
            assert client.lrange(LINE, 0, -1) in ([], [b""])
            async with store.backend.alone(Key("default", "s")):
                assert len(client.lrange(LINE, 0, -1)) == 1
                assert client.lrange(LINE, 0, -1) != [b""]
            assert client.lrange(LINE, 0, -1) == [b""]


async def test_no_other_writer_comes_between_a_read_and_a_commit() -> None:
    """Inside of `alone`; those that came meanwhile are served afterwards."""
    url, key = emptied(), Key("default", "s")
    async with at(url) as store, at(url) as other:
        await store.append("s", [user("0")])
        await other.load("s")
        begun = asyncio.Event()

        async def write(one: RedisStore) -> None:
            await begun.wait()
            await one.append("s", [user("later")])

        waiting = [asyncio.ensure_future(write(one)) for one in (store, other)]
        async with store.backend.alone(key):
            version = (await store.session("s")).version
            begun.set()
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in waiting)
            await store.backend.commit(key, Change(keep=0, expect=version))
        await asyncio.gather(*waiting)
        assert await texts(store) == ["later", "later"]
