"""Totals on Redis: large indexes in parts, entries without a session, forged numbers and missing rights."""

from __future__ import annotations

import struct
from functools import reduce
from operator import xor
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

import servers
from turnlog import Store, Totals, user
from turnlog_redis import RedisBackend, _layout, _totals
from turnlog_redis._layout import keys_of
from turnlog_redis._retry import RetryingServer

SESSIONS = 40


@pytest.fixture
def client() -> Any:
    with redis.Redis.from_url(servers.redis()) as client:
        client.flushdb()
        yield client


async def totals() -> Totals:
    async with RedisBackend(servers.redis()) as backend:
        return await backend.totals("default")


async def fill(*names: str) -> None:
    async with Store(RedisBackend(servers.redis())) as store:
        for name in names:
            await store.append(name, [user("x"), user("y")])


async def one_bucket() -> list[str]:
    """Fill one bucket; return the session ids."""
    bucket = keys_of("default", b"s0").bucket
    names = [name for n in range(200 * SESSIONS) if keys_of("default", (name := f"s{n}").encode()).bucket == bucket]
    await fill(*names[:SESSIONS])
    return names[:SESSIONS]


@pytest.mark.parametrize("at_once", [1, 2, 7, SESSIONS, SESSIONS + 1])
async def test_a_bucket_is_counted_in_parts(at_once: int, client: Any, monkeypatch: Any) -> None:
    """Many entries have the same time, and some of their sessions no longer exist."""
    names = await one_bucket()
    keys = keys_of("default", names[0].encode())
    times = [time for _, time in client.zrange(keys.listing, 0, -1, withscores=True)]
    for number, time in enumerate(times[::10]):
        client.zadd(keys.listing, {f"gone{number}{place}\0": time for place in range(5)})
    expected = await totals()
    monkeypatch.setattr(_totals, "_AT_ONCE", at_once)
    monkeypatch.setattr(_totals, "_EVERY", 1)
    found = await totals()
    assert found == expected
    assert (found.sessions, found.messages) == (SESSIONS, 2 * SESSIONS)


async def test_small_buckets_are_counted_together(client: Any, monkeypatch: Any) -> None:
    """Two round trips count the entries and then read them."""
    await fill(*(f"s{number}" for number in range(SESSIONS)))
    trips, ask = [], RetryingServer.ask_all

    async def counted(self: RetryingServer, commands: Any, until: float, **how: Any) -> Any:
        trips.append(len(commands))
        return await ask(self, commands, until, **how)

    async with RedisBackend(servers.redis()) as backend:
        monkeypatch.setattr(RetryingServer, "ask_all", counted)
        assert (await backend.totals("default")).sessions == SESSIONS
        assert trips[0] == _layout.BUCKETS
        assert (len(trips), trips[1] <= SESSIONS) == (2, True)
        monkeypatch.setattr(_totals, "_AT_ONCE", 10)
        await backend.totals("default")
        assert 4 <= len(trips[3:]) <= SESSIONS


async def test_damaged_entries_hide_no_session(client: Any) -> None:
    names = await one_bucket()
    keys = [keys_of("default", name.encode()).session for name in names[:4]]
    client.delete(keys[0], keys[1])
    client.set(keys[0], "no list")
    client.rpush(keys[1], b"short")
    client.zadd(keys_of("default", names[0].encode()).listing, {b"no entry": 5e9})
    for key, field, number in ((keys[2], "bytes", float("nan")), (keys[3], "messages_until", 2.0**60)):
        data, place = client.lindex(key, 0), _layout.HEADER[field] - 1
        forged = data[:place] + struct.pack(">d", number) + data[place + 8 :]
        total = reduce(xor, struct.unpack_from(f">{_layout.WORDS}I", forged)).to_bytes(4)
        client.lset(key, 0, forged[: _layout.WORDS * 4] + total + forged[_layout.WORDS * 4 + 4 :])
    found = await totals()
    assert (found.sessions, found.messages) == (SESSIONS - 4, 2 * (SESSIONS - 4))


async def test_the_memory_is_about_what_the_server_says(client: Any) -> None:
    await fill(*(f"s{number}" for number in range(SESSIONS)))
    exact = sum(client.memory_usage(key, samples=0) for key in client.keys("turnlog:*"))
    found = await totals()
    assert found.stored == pytest.approx(exact, rel=0.2)
    assert (found.stored or 0) > found.bytes


async def test_a_user_who_may_not_ask_for_the_memory(client: Any) -> None:
    await fill("a")
    rights = "on nopass resetkeys ~turnlog:* -@all +@list +@sortedset +eval +evalsha +del +exists +persist +pexpire"
    try:
        client.execute_command("ACL", "SETUSER", "frugal", *rights.split(), "+pttl", "+time", "+ping")
    except ResponseError as error:
        servers.leave_out("rights of users of Redis", str(error))
    async with RedisBackend(servers.redis().replace("redis://", "redis://frugal:x@")) as backend:
        found = await backend.totals("default")
    client.execute_command("ACL", "DELUSER", "frugal")
    assert (found.sessions, found.messages, found.stored) == (1, 2, None)
