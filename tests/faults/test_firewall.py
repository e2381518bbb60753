"""Connections that a firewall drops silently: an operation ends within its timeout."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import servers
from firewall import Firewall
from redis_writers import emptied as emptied_redis
from server_writers import server_of, store_at
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import OutcomeUnknown, Store, Unavailable, user
from turnlog_redis import RedisBackend, _connection
from turnlog_sql import _pool, _server
from turnlog_sql._server import Server
from turnlog_sql.mysql import MySQLBackend

TIMEOUT = 1.0  # seconds: a firewall is detected after half of it
LATE = 1.3  # factor of the timeout, for a busy machine

PLACES: dict[str, Callable[[], str]] = {
    "redis": emptied_redis,
    "postgresql": emptied_postgresql,
    "mariadb": emptied_mariadb,
}


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of each server, without sessions."""
    return PLACES[request.param]()


async def seconds(work: Awaitable[object]) -> float:
    """Return the duration of some work."""
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def test_what_a_firewall_has_forgotten_is_replaced_within_the_timeout(url: str) -> None:
    """A read and a write are repeated on another connection in the same call, and the write is stored once."""
    async with Firewall(url) as firewall, store_at(firewall.url, timeout=TIMEOUT) as store:
        await store.append("s", [user("0")])
        for number, (requests, replies) in enumerate([(True, True), (False, True), (True, False)], 1):
            firewall.forget(requests=requests, replies=replies)  # the second time, only the answer is lost
            assert await seconds(store.append("s", [user(f"{number}")])) < TIMEOUT * LATE
            firewall.forget()
            assert await seconds(store.load("s")) < TIMEOUT * LATE
        assert [message.text for message in await store.load("s")] == ["0", "1", "2", "3"]


async def test_a_transaction_that_is_forgotten_is_done_again_within_the_timeout(url: str) -> None:
    """A change of metadata runs in a transaction.  Its locks are released."""
    timeout = 3.2 if url.startswith("mysql") else TIMEOUT  # MariaDB ends a lost transaction after 1 s at the earliest
    async with Firewall(url) as firewall, store_at(firewall.url, timeout=timeout) as store:
        await store.append("s", [user("0")])
        firewall.forget(requests=False)
        assert await seconds(store.merge_metadata("s", {"a": 1})) < timeout * LATE
        assert (await store.info("s")).metadata["a"] == 1


async def test_no_operation_takes_longer_than_its_timeout(url: str) -> None:
    """The limit holds for many concurrent operations and without new connections.

    Each error states whether anything may have been stored.
    """
    async with Firewall(url) as firewall, store_at(firewall.url, timeout=TIMEOUT) as store:
        await store.append("s", [user("0")])
        firewall.forget(new=True)

        async def call(number: int) -> None:
            work: Awaitable[object] = store.load("s") if number % 2 else store.append("s", [user("1")])
            with pytest.raises((Unavailable, OutcomeUnknown)):
                await work

        assert max(await asyncio.gather(*(seconds(call(number)) for number in range(20)))) < TIMEOUT * LATE
        assert await seconds(call(1)) < TIMEOUT * LATE
        firewall.forget(new=False)
        assert (await store.load("s"))[0].text == "0"


async def test_connecting_ends_in_time_whenever_the_time_is_over() -> None:
    """The time may end just after a silent server has accepted, where asyncmy ignores a cancellation."""

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)

    accepted: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(accept, "127.0.0.1", 0)
    url = f"mysql://nobody:secret@127.0.0.1:{silent.sockets[0].getsockname()[1]}/turnlog"
    server = MySQLBackend(url)._database
    assert isinstance(server, Server)
    for step in range(100):
        connecting = asyncio.ensure_future(server._connected(time.monotonic() + step * 1e-5))
        await asyncio.wait([connecting], timeout=5)
        assert connecting.done(), f"after {step * 10} µs"
        assert isinstance(connecting.exception(), Unavailable)
    silent.close()
    for writer in accepted:
        writer.transport.abort()


async def test_a_connection_that_was_idle_for_long_is_probed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe takes its own short timeout, not half of the operation's.  A working connection is kept."""
    for module in (_connection, _pool):
        monkeypatch.setattr(module, "IDLE", 0.05)
    for module in (_connection, _server):
        monkeypatch.setattr(module, "PROBE", 0.2)
    async with Firewall(url) as firewall, store_at(firewall.url, timeout=20.0) as store:
        await store.append("s", [user("0")])
        await asyncio.sleep(0.06)
        made = firewall.made
        await store.append("s", [user("1")])
        assert firewall.made == made
        await asyncio.sleep(0.06)
        firewall.forget()
        assert await seconds(asyncio.gather(store.load("s"), store.load("s"))) < 5
        assert [message.text for message in await store.load("s")] == ["0", "1"]


@pytest.mark.only_where(sys.platform == "linux", "linux", "other systems have other socket options")
@pytest.mark.parametrize("kind", [*PLACES, "redis cluster", "redis sentinels"])
async def test_the_system_looks_after_every_connection(kind: str) -> None:
    """It probes the peers of idle connections, and ends a connection whose peer acknowledges nothing for 5 seconds."""
    made = {"redis cluster": servers.redis_cluster, "redis sentinels": servers.redis_sentinels}
    async with store_at(made[kind]().url if kind in made else PLACES[kind]()) as store:  # type: ignore[attr-defined]
        await store.append("s", [user("0")])
        found = await transports(store)
        assert found
        for transport in found:
            one = transport.get_extra_info("socket")
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT]
            assert [one.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [30, 5, 3, 5000]


async def transports(store: Store) -> list[Any]:
    """Return the transports of a store's connections."""
    if isinstance(store.backend, RedisBackend):
        topology: Any = await store.backend._server._topology.get()
        shared = [topology._connection] if hasattr(topology, "_connection") else topology._connections.values()
        return [one._transport for one in shared]
    pool = await server_of(store)._pools.get()
    return [getattr(one, "driver", one)._transport for one, _ in pool._idle]
