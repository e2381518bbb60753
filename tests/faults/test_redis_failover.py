"""A replica replaces its master: writers wait, and continue there."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import redis

import servers
from turnlog import AccessError, HistoryRegressed, Store, Unavailable, user
from turnlog_redis import RedisBackend

_SECONDS = 10.0
"""The maximum duration of a fail-over for a writer, in seconds."""


async def resumes(store: Store, sessions: int, fail: Callable[[], object]) -> float:
    """Run many writers while their master fails; return the longest wait of a writer, in seconds."""
    told: dict[str, list[str]] = {f"s{number}": [] for number in range(sessions)}
    longest, ended = 0.0, False

    async def write(name: str) -> None:
        nonlocal longest
        while not ended:
            began, text = time.monotonic(), f"{len(told[name])}"
            try:
                await store.append(name, [user(text)], turn_id=text)
            except HistoryRegressed:  # the last turns were not replicated: continue from the stored ones
                told[name] = [message.text for message in await store.load(name, last=100_000)]
                continue
            told[name].append(text)
            longest = max(longest, time.monotonic() - began)

    async def on() -> None:
        """Let each writer append five more turns."""
        before = {name: len(texts) for name, texts in told.items()}
        while any(len(told[name]) < before[name] + 5 for name in told) and not any(one.done() for one in writers):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    writers = [asyncio.ensure_future(write(name)) for name in told]
    async with asyncio.timeout(60):
        await on()
        await asyncio.to_thread(fail)
        await on()
    ended = True
    await asyncio.gather(*writers)
    for name, texts in told.items():
        stored = [message.text for message in await store.load(name, last=100_000)]
        assert len(stored) == len(set(stored))  # no turn is stored twice
        assert texts[-5:] == stored[-5:]
    return longest


@pytest.mark.parametrize("way", ["killed", "told"])
async def test_sentinels_name_another_master(way: str) -> None:
    """It happens after a kill, and after the command FAILOVER, which makes the old master a read-only replica."""
    watched = servers.RedisSentinels()

    def fail() -> None:
        if way == "killed":
            watched.master.kill()
        else:
            servers.ask_redis(f"redis://127.0.0.1:{watched.ports[0]}", "SENTINEL", "FAILOVER", "mymaster")
            servers.until(promoted, watched.replica.process, "a failover")

    def promoted() -> bool:
        with contextlib.suppress(redis.ConnectionError):  # the promotion ends its connections
            return bool(watched.replica.ask("ROLE")[0] == "master")
        return False

    async with Store(RedisBackend(watched.url)) as store:
        longest = await resumes(store, 8, fail)
    assert longest < _SECONDS
    assert watched.replica.ask("ROLE")[0] == "master"


async def test_a_node_of_a_cluster_is_replaced() -> None:
    cluster = servers.RedisCluster()
    replica = cluster.replica_of(0)
    async with Store(RedisBackend(cluster.url)) as store:
        longest = await resumes(store, 30, cluster.nodes[0].kill)
        assert longest < _SECONDS
        assert replica.ask("ROLE")[0] == "master"
        assert len([info async for info in store.sessions()]) == 30


async def test_servers_that_do_not_exist_are_unavailable() -> None:
    """The error names each address, and is raised at once."""
    port = servers.free_port()
    for url in (
        f"redis://127.0.0.1:{port}",
        f"redis+cluster://127.0.0.1:{port}",
        f"redis+sentinel://127.0.0.1:{port}",
    ):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}.*nothing was done"):
            await RedisBackend(url).open()
        assert time.monotonic() - began < 5


async def test_what_is_no_cluster_says_so() -> None:
    with pytest.raises(AccessError, match=r"not part of a cluster \(ERR This instance has cluster support disabled"):
        await RedisBackend(servers.redis().replace("redis://", "redis+cluster://")).open()
    watched = servers.redis_sentinels().url
    with pytest.raises(AccessError, match="watches no master 'other'"):
        await RedisBackend(watched, service="other").open()


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
async def test_the_documented_rights_are_enough(kind: str) -> None:
    """The rights suffice on a cluster, also with redirections, and on a master with sentinels."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "databases.md"
    (command,) = re.findall("^ACL SETUSER app .*>secret .*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    place: servers.RedisCluster | servers.RedisSentinels
    if kind == "cluster":
        place = servers.redis_cluster()
        nodes = place.nodes
    else:
        place = servers.redis_sentinels()
        nodes = [place.master]
    for node in nodes:
        node.ask(*command.split())
    async with Store(RedisBackend(place.url.replace("://", "://app:secret@"))) as store:
        names = [store.new_session_id() for _ in range(20)]
        work: list[Awaitable[object]] = [store.append(name, [user("x")]) for name in names]
        await asyncio.gather(*work)
        assert {info.key.session async for info in store.sessions()} >= set(names)
