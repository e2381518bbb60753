"""Redis with faults: lost requests and answers, other writers, cancellations, kills, fail-overs."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

import server_writers
import servers
from redis_writers import (
    CUT_REPLY,
    CUT_REQUEST,
    FORGETFUL,
    Fate,
    Proxy,
    RedisStore,
    at,
    emptied,
    place_of,
    planted,
    raw,
)
from test_servers import load_and_kill
from turnlog import (
    Change,
    Conflict,
    HistoryRegressed,
    Key,
    Query,
    Record,
    SessionNotFound,
    TurnlogError,
    Unavailable,
    Version,
    assistant,
    user,
)
from turnlog_redis._connection import SharedConnection

WRITERS = Path(__file__).with_name("redis_writers.py")


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[Callable[..., servers.Redis]]:
    """Return a function that starts private servers, which end with the test."""
    made: list[servers.Redis] = []

    def make(*settings: str) -> servers.Redis:
        made.append(servers.Redis(*settings))
        return made[-1]

    yield make
    for server in made:
        server.stop()


# ------------------------------------------------------------------------------------------- lost requests and answers


async def send_200(*, seed: int) -> list[str]:
    """Send 200 turns through a proxy that loses requests and answers; return the stored texts."""
    dice = Random(seed)
    lost = {CUT_REQUEST: 0, CUT_REPLY: 0}

    def fate(command: list[bytes]) -> Fate:
        if not command[0].startswith(b"EVAL"):
            return None
        drawn = CUT_REQUEST if dice.random() < 0.1 else CUT_REPLY if dice.random() < 0.2 else None
        if drawn is not None:
            lost[drawn] += 1
        return drawn

    async with Proxy(emptied(), fate) as proxy:
        async with at(proxy.url) as store:
            for turn in range(200):
                receipt = await store.append("s", [user(f"{turn}"), assistant(f"{turn}")])
                assert receipt.number == turn, "twice"
        assert min(lost.values()) >= 10
    async with at(servers.redis()) as store:
        turns = (await store.session("s")).turns
        return [message.text for turn in turns for message in turn.messages]


async def test_lost_requests_and_answers_neither_lose_nor_repeat_a_turn() -> None:
    """With a tenth of the requests and a fifth of the answers lost, 200 turns are sent and 200 stored, in order."""
    assert await send_200(seed=1) == [f"{turn}" for turn in range(200) for _ in "qa"]


async def test_without_the_memory_of_changes_turns_are_stored_twice() -> None:
    with planted(*FORGETFUL), pytest.raises(AssertionError, match="twice"):
        await send_200(seed=1)


# ------------------------------------------------------------------------------------------------------- other writers


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `redis_writers.py`."""
    command = [sys.executable, "-W", "error", str(WRITERS), *arguments]
    search = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **search}
    )


def figures(done: subprocess.CompletedProcess[str]) -> list[int]:
    """Return the numbers in the program's output."""
    assert done.returncode == 0, done.stderr
    return [int(number) for number in re.findall(r"\d+", done.stdout)]


def test_eight_processes_append_to_one_session() -> None:
    """In 8 runs of 8 times 25 turns no turn is lost, stored twice or torn, and each writer's turns are in its order."""
    repeats, mixed = figures(python("append", emptied(), "8"))
    assert repeats == 8
    assert mixed > 4


def test_without_a_look_at_the_header_turns_are_lost() -> None:
    done = python("append", emptied(), "3", "unchecked")
    assert done.returncode != 0
    assert "AssertionError: lost" in done.stderr or "a stored record is missing" in done.stderr, done.stderr


def test_of_two_writers_with_one_version_one_wins() -> None:
    """In each of 400 rounds the other one receives `Conflict`, and has changed nothing."""
    rounds, ann, ben = figures(python("race", emptied(), "400"))
    assert rounds == ann + ben == 400
    assert min(ann, ben) > 0


def test_without_a_look_at_the_header_both_win() -> None:
    done = python("race", emptied(), "100", "unchecked")
    assert done.returncode != 0
    assert "AssertionError" in done.stderr or "a stored record is missing" in done.stderr, done.stderr


# ------------------------------------------------------------------------------------------------------- cancellations


async def cancel(cancellations: int) -> None:
    """Cancel loads and appends at random moments, send the appends again, and check all sessions."""
    sent: dict[str, list[str]] = {f"s{number}": [] for number in range(20)}
    cancelled, numbers = 0, count()

    async def caller(store: RedisStore, random: Random) -> None:
        nonlocal cancelled
        while cancelled < cancellations:
            name, said = f"s{random.randrange(20)}", f"{next(numbers)}"

            def again(name: str = name, said: str = said) -> Any:
                return store.append(name, [user(f"{name} {said}")], turn_id=said)

            reads = random.random() < 0.5
            if not reads:
                sent[name].append(said)
            task = asyncio.ensure_future(store.load(name, last=random.choice([1, 5, None])) if reads else again())
            for _ in range(random.randrange(12)):
                await asyncio.sleep(0)
            task.cancel()
            try:
                answer: Any = await task
            except asyncio.CancelledError:
                cancelled += 1
                if not reads:
                    await again()
                continue
            if reads:
                assert {message.text.split()[0] for message in answer} == {name}, "crossed"

    url = emptied()
    async with at(url, timeout=5) as store:
        for name in sent:
            await store.append(name, [user(f"{name} begin")], turn_id="begin")
        with raw(url) as client:
            before = client.info("stats")["total_connections_received"]
        await asyncio.gather(*(caller(store, Random(number)) for number in range(8)))
        with raw(url) as client:
            assert client.info("stats")["total_connections_received"] == before + 1, "it has connected anew"
        for name, ids in sent.items():
            turns = (await store.session(name)).turns
            assert sorted(turn.id for turn in turns) == sorted(["begin", *ids]), "lost or twice"
            assert all(turn.messages[0].text == f"{name} {turn.id}" for turn in turns), "crossed"


async def test_a_thousand_cancelled_calls() -> None:
    """On the single connection, no answer reaches another call, and a repeated append is stored once."""
    await cancel(1000)


async def test_answers_that_are_not_told_apart_by_their_order_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive connection forgets cancelled calls, so the next call receives their answers.

    The test above detects it.
    """
    received = SharedConnection.data_received

    def forgets(connection: SharedConnection, data: bytes) -> None:
        connection._waiting = deque(batch for batch in connection._waiting if not batch[2].done())
        received(connection, data)

    monkeypatch.setattr(SharedConnection, "data_received", forgets)
    with pytest.raises((AssertionError, TurnlogError, ValueError, TypeError, IndexError)):
        await asyncio.wait_for(cancel(1000), 20)


# ------------------------------------------------------------------------------------------------------------- expiry


def elements(client: redis.Redis, places: list[bytes]) -> list[int]:
    """Return the length of each list, all at one moment."""
    with client.pipeline() as asked:
        for place in places:
            asked.llen(place)
        return list(asked.execute())


async def test_what_expires_is_whole_or_gone() -> None:
    """Watch 1,000 sessions with a time to live of 4 s without pause, and use half of them once more."""
    url, turns = emptied(), 5
    names = [f"s{number}" for number in range(1000)]
    places = [place_of(name) for name in names]
    gone: set[int] = set()
    ttl = 4
    async with at(url, ttl=ttl) as store:
        used = await asyncio.gather(*(made(store, name, turns) for name in names))
        again = False
        with raw(url) as client:
            whole = elements(client, places)[0]
            while len(gone) < 1000:
                began = time.monotonic()
                lengths = elements(client, places)
                now = time.monotonic()
                assert set(lengths) <= {0, whole}, "torn"
                for number, length in enumerate(lengths):
                    if not length and number not in gone:
                        gone.add(number)
                        assert now - used[number][0] > ttl * 7 / 8, "too early"
                    assert not length or number not in gone, "it came back"
                    assert not length or began - used[number][1] < ttl + 0.2, "too late"
                if not again and now - used[0][1] > 1:
                    again = True
                    used[::2] = await asyncio.gather(*(timed(store.load(name, last=1)) for name in names[::2]))
                for number in range(0, 1000, 50):
                    assert await read_whole(store, names[number], turns) or not client.exists(places[number])
            assert [info async for info in store.sessions()] == []


async def made(store: RedisStore, name: str, turns: int) -> tuple[float, float]:
    """Create a session; return the times before and after its last use."""
    for turn in range(turns):
        used = await timed(store.append(name, [user(f"{name} {turn}"), assistant(f"{name} {turn}")]))
    return used


async def timed(work: Awaitable[object]) -> tuple[float, float]:
    """Await some work; return the times before and after."""
    began = time.monotonic()
    await work
    return began, time.monotonic()


async def read_whole(store: RedisStore, name: str, turns: int) -> bool:
    """Return whether the session exists, after a check that it is complete."""
    try:
        session = await store.backend.read(Key("default", name), touch=False)
    except SessionNotFound:
        return False
    assert [message.text for message in session.messages] == [f"{name} {turn}" for turn in range(turns) for _ in "qa"]
    return True


# ------------------------------------------------------------------------------------------------------------- memory


async def test_what_is_evicted_is_evicted_whole(own: Callable[..., servers.Redis]) -> None:
    """Far above `maxmemory`, each session is complete or not found, and no page lists an evicted one."""
    server = own("maxmemory=20mb", "maxmemory-policy=allkeys-lru")
    turns, size = 8, 2_000
    names = [f"s{number}" for number in range(2500)]
    async with at(server.url) as store, at(server.url) as other:
        dice, begun = Random(1), dict.fromkeys(names, 0)

        async def write(name: str) -> None:
            for turn in range(turns):
                said = f"{name} {turn} " + dice.randbytes(size // 2).hex()
                receipt = await store.append(name, [user(said), assistant(said)])
                begun[name] = turn if receipt.previous is None else begun[name]

        for place in range(0, len(names), 50):
            await asyncio.gather(*(write(name) for name in names[place : place + 50]))
        with raw(server.url) as client:
            assert client.info("stats")["evicted_keys"] > 500
            client.config_set("maxmemory", 0)  # otherwise reads would evict more
        there = set()
        for name in names:
            try:
                messages = await other.load(name)
            except SessionNotFound:
                continue
            there.add(name)
            assert [message.text.split()[:2] for message in messages] == [
                [name, f"{turn}"] for turn in range(begun[name], turns) for _ in "qa"
            ]
        assert 100 < len(there) < 2400
        shown = [info.key.session async for info in other.sessions()]
        assert len(shown) == len(set(shown)) > 10
        for name in shown:
            assert await other.load(name, last=1)


async def test_a_server_without_memory_refuses_appends_and_goes_on_reading(own: Callable[..., servers.Redis]) -> None:
    """Refused turns are not stored.  With more memory, the same turns are stored once."""
    server = own("maxmemory=20mb", "maxmemory-policy=noeviction")
    stored: dict[str, int] = {}
    async with at(server.url, ttl=3600) as store:
        said = "x" * 2_000
        with pytest.raises(Unavailable, match="OOM"):
            for number in range(20_000):
                name = f"s{number % 100}"
                await store.append(name, [user(said), assistant(said)], turn_id=f"t{number}", metadata={"n": number})
                stored[name] = stored.get(name, 0) + 1
        refused = sum(stored.values())
        assert refused > 1000
        with raw(server.url) as client:
            client.config_set("maxmemory", "19mb")  # ended scripts may have freed memory
        for name in stored:
            with pytest.raises(Unavailable, match="OOM"):
                record = Record.of((user("y"),), id="y", time=0.0)
                await store.backend.commit(Key("default", name), Change(append=(record,)))
        for name, turns in stored.items():
            session = await store.session(name)
            assert len(session.turns) == session.info.turns == turns
            assert len(await store.load(name, last=1)) == 2
        assert len([info async for info in store.sessions()]) == 100
        with raw(server.url) as client:
            client.config_set("maxmemory", "100mb")
        name = f"s{refused % 100}"
        for _ in "ab":
            await store.append(name, [user(said), assistant(said)], turn_id=f"t{refused}", metadata={"n": refused})
        assert (await store.info(name)).turns == stored[name] + 1


# --------------------------------------------------------------------------------------------------------------- kills


async def test_a_server_that_writes_first_may_be_killed_at_any_moment(own: Callable[..., servers.Redis]) -> None:
    """In 10 kills under load, with `appendfsync always`, no acknowledged turn is lost, and the same store continues."""
    await load_and_kill(own("appendonly=yes", "appendfsync=always"), 10, "safe")


async def test_a_server_that_keeps_nothing_loses_turns(own: Callable[..., servers.Redis]) -> None:
    """With this naive setting the test above fails."""
    with pytest.raises(AssertionError, match="lost"):
        await load_and_kill(own(), 1, "unsafe")


def log_of(server: servers.Redis) -> Path:
    """Return the append-only file of the server."""
    return max((server.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)


async def told(store: RedisStore, versions: list[Version], survived: int) -> None:
    """Check that a lost version is refused, and that a surviving version continues.

    A read since a lost version raises `HistoryRegressed`.  An append with a lost version raises the same error, or
    `Conflict` if the session has more rounds by now.
    """
    key = Key("default", "s")
    there = (await store.info("s")).turns
    for seen in versions[survived:]:
        with pytest.raises(HistoryRegressed):
            await store.backend.read(key, since=seen)
        passed = seen.rounds < there
        with pytest.raises(Conflict if passed else HistoryRegressed):
            await store.append("s", [user("?")], expect=seen)
    assert (await store.backend.read(key, since=versions[survived - 1])).continues
    assert (await store.info("s")).turns == there


async def test_what_a_killed_server_has_lost_is_told(own: Callable[..., servers.Redis]) -> None:
    """With `appendfsync everysec` and a power failure, simulated by a truncated file, each lost version is refused.

    The error occurs in the store that wrote and in another one, before and after others append the same number of
    turns.
    """
    server = own("appendonly=yes", "appendfsync=everysec")
    async with at(server.url) as store, at(server.url) as fresh:
        versions = [(await store.append("s", [user(f"{turn}")])).version for turn in range(20)]
        with raw(server.url) as client:
            client.set("mark", "here")
            size = log_of(server).stat().st_size
        versions += [(await store.append("s", [user(f"{turn}")])).version for turn in range(20, 30)]
        await asyncio.to_thread(server.kill)
        os.truncate(log_of(server), size)
        server.start()
        for reader in (store, fresh):
            await told(reader, versions, 20)
            assert (await reader.info("s")).turns == 20
        for turn in range(15):
            receipt = await fresh.append("s", [user(f"other {turn}")])
            assert receipt.number == 20 + turn
            for reader in (store, fresh):
                await told(reader, versions, 20)
        texts = [message.text for message in await store.load("s")]
        assert texts == [f"{turn}" for turn in range(20)] + [f"other {turn}" for turn in range(15)]


async def test_what_a_killed_server_has_kept_is_not_called_lost(own: Callable[..., servers.Redis]) -> None:
    server = own("appendonly=yes", "appendfsync=everysec")
    async with at(server.url) as store:
        versions = [(await store.append("s", [user(f"{turn}")])).version for turn in range(20)]
        await asyncio.to_thread(server.kill)
        server.start()
        assert (await store.backend.read(Key("default", "s"), since=versions[-1])).continues
        await told(store, versions, 20)
        assert (await store.append("s", [user("on")], expect=versions[-1])).number == 20


# ---------------------------------------------------------------------------------------------------------- fail-overs


async def test_a_replica_may_take_over_under_load(own: Callable[..., servers.Redis]) -> None:
    """Appends resume within 10 s.  Versions that were not replicated are refused, and all sessions are complete."""
    master = own("repl-diskless-sync-delay=0")
    replica = own(f"replicaof=127.0.0.1 {master.port}")
    acknowledged: dict[str, list[float]] = {name: [] for name in "abcd"}
    seen: list[Version] = []

    async def write(store: RedisStore, name: str) -> None:
        for turn in count():
            said = f"{name} {turn}"
            await store.append(name, [user(said), assistant(said)], turn_id=said)
            acknowledged[name].append(time.monotonic())

    with raw(master.url) as old, raw(replica.url) as new:
        await asyncio.to_thread(until, lambda: new.info("replication").get("master_link_status") == "up")
        async with Proxy(master.url) as proxy, at(proxy.url, timeout=20) as store:
            writers = [asyncio.ensure_future(write(store, name)) for name in acknowledged]
            try:
                await until_all(lambda: all(len(times) > 50 for times in acknowledged.values()))
                seen += [(await store.append("s", [user(f"{turn}")])).version for turn in range(10)]
                old.set("marker", 1)  # replicated after all earlier writes
                await until_all(lambda: new.exists("marker"))
                new.execute_command("REPLICAOF", "127.0.0.1", "1")  # cut off: later writes are lost
                seen += [(await store.append("s", [user(f"{turn}")])).version for turn in range(10, 20)]
                await asyncio.to_thread(master.kill)
                killed = time.monotonic()
                proxy.target = replica.port
                await proxy.cut()
                await until_all(lambda: refusals(new) > 10 and time.monotonic() > killed + 0.2)
                assert not any(times[-1] > killed + 0.1 for times in acknowledged.values())
                new.execute_command("REPLICAOF", "NO", "ONE")
                await until_all(lambda: all(times[-1] > killed + 0.2 for times in acknowledged.values()))
                assert time.monotonic() - killed < 10
            finally:
                for writer in writers:
                    writer.cancel()
                await asyncio.wait(writers)
            async with at(replica.url) as other:
                for reader in (store, other):
                    await told(reader, seen, 10)
                    for name in acknowledged:
                        turns = (await reader.session(name)).turns
                        texts = [[message.text for message in turn.messages] for turn in turns]
                        assert all(said[0] == said[1] for said in texts), "torn"
                        numbers = [int(said[0].split()[1]) for said in texts]
                        assert numbers == sorted(set(numbers)), "twice, or in another order"


def until(there: Callable[[], bool]) -> None:
    """Wait until a server reaches a state."""
    end = time.monotonic() + 20
    while not there():
        assert time.monotonic() < end, "the state was not reached in 20 s"
        time.sleep(0.01)


def refusals(replica: redis.Redis) -> int:
    """Return the number of writes that a replica has refused."""
    told: dict[str, dict[str, int]] = replica.info("errorstats")
    return told.get("errorstat_READONLY", {"count": 0})["count"]


async def until_all(there: Callable[[], object]) -> None:
    """Wait until other tasks reach a state."""
    end = time.monotonic() + 20
    while not there():
        assert time.monotonic() < end, "the state was not reached in 20 s"
        await asyncio.sleep(0.01)


# --------------------------------------------------------------------------------------------------------------- loops


def test_several_event_loops_share_one_store() -> None:
    """With eight threads at once, several times, no answers are mixed up and no connection outlives its loop."""
    url = emptied()
    store = at(url)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        asyncio.run(store.open())
        for attempt in range(3):
            with ThreadPoolExecutor(8) as threads:
                works = [
                    threads.submit(asyncio.run, server_writers.use(store, f"{attempt} {name}", 5))
                    for name in "abcdefgh"
                ]
            for work in works:
                work.result()
        for number in range(50):
            asyncio.run(server_writers.use(store, f"{number}", 1))
        assert asyncio.run(store.info("shared")).turns == 3 * 8 * 5 + 50
        asyncio.run(store.close())
        gc.collect()
    assert not [str(one.message) for one in found]
    with raw(url) as client:
        until(lambda: len(client.client_list()) <= 1)


def test_a_forked_child_leaves_its_parents_connection_alone() -> None:
    """Children use and close the inherited store while the parent continues."""
    url = emptied()

    async def forks() -> None:
        async with at(url) as store:
            await store.append("shared", [user("begin")])

            def inherits(name: str) -> None:
                asyncio.run(server_writers.use(store, name, 10))
                asyncio.run(store.close())
                gc.collect()

            with raw(url) as client:
                before = client.info("stats")["total_connections_received"]
            children = [server_writers.child(lambda name=name: inherits(name)) for name in "abcd"]  # type: ignore[misc]
            await server_writers.use(store, "parent", 20)
            for pid in children:
                _, status = await asyncio.to_thread(os.waitpid, pid, 0)
                assert not status, "a child failed"
            await server_writers.use(store, "parent again", 20)
            with raw(url) as client:
                assert client.info("stats")["total_connections_received"] == before + len(children) + 1
            assert (await store.info("shared")).turns == 1 + 4 * 10 + 2 * 20

    asyncio.run(forks())


async def test_what_another_process_changes_is_seen() -> None:
    """Each write compares the known version: two stores share a session in 2,000 operations."""
    url, dice = emptied(), Random(1)
    async with at(url) as one, at(url) as other:
        turns, seen = 0, (await one.append("s", [user("0")])).version
        for _ in range(2000):
            store = one if dice.random() < 0.5 else other
            if dice.random() < 0.5:
                turns += 1
                receipt = await store.append("s", [user(f"{turns}")], expect=seen)
                assert receipt.number == turns
                seen = receipt.version
            else:
                assert [message.text for message in await store.load("s", last=1)] == [f"{turns}"]
        assert await other.backend.delete(Key("default", "s"))
        with pytest.raises(SessionNotFound):
            await one.load("s")
        assert (await one.append("s", [user("anew")])).number == 0
        assert [info.turns async for info in one.sessions()] == [1]
        assert (await other.backend.page(Query(namespace="default"))).infos[0].version != seen
