"""`RedisBackend.sweep`: it removes the ids and owners of expired sessions from the indexes of all namespaces."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import redis

import servers
from turnlog import Store, user
from turnlog.errors import Closed
from turnlog_cli import main
from turnlog_redis import RedisBackend, _sweep
from turnlog_redis._layout import keys_of


@pytest.fixture
def client() -> Any:
    with redis.Redis.from_url(servers.redis()) as client:
        client.flushdb()
        yield client


def entries(client: Any) -> int:
    """Return the number of entries in all indexes."""
    return sum(client.zcard(key) for kind in ("i", "o") for key in client.keys(f"turnlog:{{*}}:{kind}:*"))


async def swept(store: Store, **options: bool) -> int:
    """Sweep, and return the number of expired sessions."""
    assert isinstance(store.backend, RedisBackend)
    return await store.backend.sweep(**options)


def place_of(session: str, namespace: str = "default") -> bytes:
    return keys_of(namespace, session.encode()).session


async def test_a_sweep_forgets_expired_sessions_in_all_namespaces(client: Any) -> None:
    async with Store(RedisBackend(servers.redis())) as store:
        assert await swept(store) == 0
        for name in ("default", "shop", "a:b/c"):
            for number in range(10):
                await store.within(name).append(f"s{number}", [user("x")], owner="ann" if number % 2 else None)
            for number in range(7):
                client.delete(place_of(f"s{number}", name))
        assert await swept(store) == 21
        assert entries(client) == 3 * (3 + 2)
        assert await swept(store, now=True) == 0
        assert len([info async for info in store.within("shop").sessions()]) == 3
        for name in ("default", "shop", "a:b/c"):
            await store.within(name).erase_owner("ann")
            client.delete(place_of("s8", name))
        assert await swept(store) == 3
        assert not client.keys("*")


@pytest.mark.parametrize("at_once", [1, 3, 100])
async def test_large_indexes_and_many_namespaces_are_swept_in_parts(
    at_once: int, client: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_sweep, "_SWEPT", at_once)
    async with Store(RedisBackend(servers.redis())) as store:
        for name in ("default", "b", "c", "d", "e"):
            await store.within(name).append("s0", [user("x")])
        keys = keys_of("default", b"s0")
        client.zadd(keys.listing, {f"gone{number}\0ann": number for number in range(700)})
        client.zadd(keys.owners + b"ann", {f"gone{number}": number for number in range(700)})
        assert await swept(store) == 700
        assert entries(client) == 5


async def test_a_sweep_forgets_the_former_owner_of_a_recreated_session(client: Any) -> None:
    async with Store(RedisBackend(servers.redis())) as store:
        await store.append("s", [user("x")], owner="ann")
        client.delete(place_of("s"))
        async with Store(RedisBackend(servers.redis())) as other:
            await other.append("s", [user("anew")], owner="ben")
        assert entries(client) == 4
        assert await swept(store) == 1
        assert entries(client) == 2
        assert [info.owner async for info in store.sessions()] == ["ben"]


async def test_a_sweep_keeps_damaged_sessions_in_the_index(client: Any) -> None:
    """A listing reports the damage only while the index has the entry."""
    async with Store(RedisBackend(servers.redis())) as store:
        for name, value in (("header", b"damaged"), ("kind", None)):
            await store.append(name, [user("x")], owner="ann")
            if value is None:
                client.delete(place_of(name))
                client.set(place_of(name), "no list")
            else:
                client.lset(place_of(name), 0, value)
        assert await swept(store) == 0
        assert entries(client) == 4


@pytest.mark.parametrize("owner", [None, "ann"])
async def test_a_page_forgets_a_session_in_both_indexes(owner: str | None, client: Any) -> None:
    """Without this, an entry could remain that only the listing of the owner, or only the main listing, would find."""
    async with Store(RedisBackend(servers.redis())) as store:
        await store.append("s", [user("x")], owner="ann")
        client.delete(place_of("s"))
        assert [info async for info in store.sessions(owner=owner)] == []
        assert not client.keys("*")


async def test_a_closed_backend_sweeps_nothing() -> None:
    backend = RedisBackend(servers.redis())
    await backend.open()
    await backend.close()
    with pytest.raises(Closed):
        await backend.sweep()


def test_erase_and_sweep_leave_no_name_of_an_expired_session(client: Any, capsys: Any) -> None:
    async def fill() -> None:
        async with Store(RedisBackend(servers.redis())) as store:
            for name in ("private chat", "other"):
                await store.append(name, [user("x")], owner="alice@example.com")

    url = f"--store={servers.redis()}"
    for command in (["erase", "--owner=alice@example.com", "--yes", "--json"], ["sweep"]):
        asyncio.run(fill())
        client.delete(place_of("private chat"))
        assert main([*command, url]) == 0
        out = capsys.readouterr().out
        if command == ["sweep"]:
            assert out == "1 expired session removed\n"
            assert not any(
                b"private chat" in member for key in client.keys("*:i:*") for member in client.zrange(key, 0, -1)
            )
        else:
            assert json.loads(out)["sessions"] == 1
            assert not client.keys("*")
