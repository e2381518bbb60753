"""A Redis store and its servers: repeated commands, unknown outcomes, warnings, event loops and forks."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import servers
from turnlog import AccessError, Closed, CorruptRecord, Key, OutcomeUnknown, Store, TurnlogError, Unavailable, user
from turnlog_redis import RedisBackend
from turnlog_redis._connection import Command, Lost, Refused
from turnlog_redis._layout import keys_of
from turnlog_redis._location import location_of_url
from turnlog_redis._retry import RetryingServer
from turnlog_redis._scripts import DAMAGED, TOP
from turnlog_redis._topology import Topology

# ------------------------------------------------------------------------------------------------------------- answers


class Scripted(Topology):
    """Returns the given answers, one batch after the other, and then `well` for each command."""

    def __init__(self, *answers: list[Any]) -> None:
        self.answers = list(answers)
        self.asked: list[list[Command]] = []

    async def ask_all(self, commands: Sequence[Command], until: float) -> list[Any]:
        self.asked.append(list(commands))
        return self.answers.pop(0) if self.answers else ["well"] * len(commands)

    async def close(self) -> None:
        pass

    @property
    def peer(self) -> str | None:
        return None


def server(topology: Topology, *, timeout: float = 5.0) -> RetryingServer:
    """Return a server with this topology."""
    location = location_of_url("redis://h", service="", db=None, mode=None, root=None)
    made = RetryingServer(location, timeout)
    made.open()
    made._topology._make = lambda: topology
    return made


SENT = partial(Lost, "gone", sent=True)
UNSENT = partial(Lost, "gone", sent=False)
ABSENT = partial(Lost, "refused", sent=False, again=False)
FOR_NOW = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down",
    "MASTERDOWN Link with MASTER is down",
    "ASK 1 h:1",
    "BUSY Redis is busy running a script.",
    "NOREPLICAS Not enough good replicas to write.",
]


@pytest.mark.parametrize("refusal", FOR_NOW)
async def test_a_temporary_refusal_is_retried(refusal: str) -> None:
    topology = Scripted([Refused(refusal)])
    assert await server(topology).ask_all([(b"X",)], writes=True, again=False) == ["well"]
    error = AccessError if refusal.startswith("READONLY") else Unavailable
    with pytest.raises(error, match="nothing was done") as caught:
        await server(Scripted([Refused(refusal)]), timeout=0.01).ask_all([(b"X",)], writes=True)
    assert refusal.rstrip(".") in str(caught.value) and "h:6379/0" in str(caught.value)


@pytest.mark.parametrize("refusal", ["NOPERM no", "MOVED 1 h:1", "OOM command not allowed", "ERR what?"])
async def test_a_permanent_refusal_is_raised_at_once(refusal: str) -> None:
    topology = Scripted([Refused(refusal)])
    with pytest.raises((AccessError, Unavailable), match="nothing was done") as caught:
        await server(topology).ask_all([(b"X",)], writes=True)
    assert isinstance(caught.value, AccessError) == refusal.startswith(("NOPERM", "MOVED"))
    assert len(topology.asked) == 1


async def test_a_key_of_another_type_is_reported_with_its_session() -> None:
    key = Key("shop", "alice")
    place = keys_of(key.namespace, b"alice").session
    with pytest.raises(CorruptRecord, match="another type of value") as caught:
        await server(Scripted(["well", Refused("WRONGTYPE")])).ask_all([(b"X",), TOP.call((place,), ())])
    assert caught.value.key == key


async def test_only_refused_commands_are_sent_again() -> None:
    topology = Scripted(["a", Refused(FOR_NOW[0]), SENT(), "d"], [Refused(FOR_NOW[1]), "c"])
    assert await server(topology).ask_all([(b"A",), (b"B",), (b"C",), (b"D",)]) == ["a", "well", "c", "d"]
    assert topology.asked[1:] == [[(b"B",), (b"C",)], [(b"B",)]]


async def test_a_script_that_the_server_does_not_know_is_sent_whole() -> None:
    topology = Scripted([Refused("NOSCRIPT No matching script.")])
    assert await server(topology).ask_all([(b"EVALSHA", TOP.sha, 1, b"k")]) == ["well"]
    assert topology.asked[1] == [(b"EVAL", TOP.text, 1, b"k")]


_NO_RIGHT = "ERR The user executing the script can't run this command or subcommand"


@pytest.mark.parametrize(
    ("answers", "writes", "again", "outcome"),
    [
        ([SENT], False, True, None),
        ([SENT], True, True, None),
        ([SENT], True, False, OutcomeUnknown),  # the command may have run, and would run twice
        ([UNSENT], True, False, None),
        ([ABSENT], True, True, Unavailable),  # no server accepts connections: nothing was sent, and waiting is useless
        ([SENT, ABSENT], False, True, Unavailable),
        ([SENT, ABSENT], True, True, None),  # retried until the outcome is known
        ([SENT, lambda: Refused("NOPERM")], True, True, OutcomeUnknown),
        ([lambda: Refused("TRYAGAIN"), SENT], True, False, OutcomeUnknown),
        ([lambda: Refused(f"{_NO_RIGHT} script: 1, on @user_script:9.")], True, True, OutcomeUnknown),  # after a write
        ([lambda: Refused(f"{_NO_RIGHT} script: 1, on @user_script:9.")], False, True, AccessError),
        (
            [lambda: Refused("OOM no memory. script: 1, on @user_script:9.")],
            True,
            True,
            Unavailable,
        ),  # before any write
        ([lambda: Refused(f"ERR @user_script:9: {DAMAGED} script: 1, on @user_script:9.")], True, True, CorruptRecord),
    ],
)
async def test_a_lost_answer(
    answers: list[Callable[[], Any]], writes: bool, again: bool, outcome: type[TurnlogError] | None
) -> None:
    topology = Scripted(*([answer()] for answer in answers))
    asked = server(topology).ask_all([(b"X",)], writes=writes, again=again)
    if outcome is None:
        assert await asked == ["well"]
        return
    with pytest.raises(outcome) as caught:
        await asked
    assert ("nothing was done" in str(caught.value)) == (outcome in (AccessError, Unavailable))


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_closing_the_store_while_it_connects_raises_unavailable(scheme: str) -> None:
    """The error is `Unavailable`, because nobody cancelled the task."""
    came: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set_result(writer)

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        store = RedisBackend(f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        opening = asyncio.ensure_future(store.open())
        writer = await came
        await store.close()
        with pytest.raises(Unavailable, match="the store was closed: nothing was done"):
            await opening
        writer.close()


async def test_nothing_is_asked_again_of_a_store_that_was_closed() -> None:
    topology = Scripted(*([Refused(FOR_NOW[0])] for _ in range(100)))
    asked = server(topology)
    asking = asyncio.ensure_future(asked.ask_all([(b"X",)]))
    await asyncio.wait([asking], timeout=0)
    await asked.close()
    with pytest.raises(Closed):
        await asking
    assert len(topology.asked) == 1


# ------------------------------------------------------------------------------------------------------------ warnings


async def warned(store: RedisBackend, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Open a store and return its warnings."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        async with store:
            pass
    assert all(record.name == "turnlog.redis" for record in caplog.records)
    return [record.getMessage().partition(": ")[0].split(" ", 2)[2] for record in caplog.records]


async def test_a_server_without_persistence_causes_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    server = servers.Redis()
    assert await warned(RedisBackend(server.url), caplog) == ["stores nothing on disk"]
    server.ask("CONFIG", "SET", "save", "60 1000")
    assert await warned(RedisBackend(server.url), caplog) == []
    server.ask("CONFIG", "SET", "save", "")
    server.ask("CONFIG", "SET", "appendonly", "yes")
    assert await warned(RedisBackend(server.url), caplog) == []
    server.ask("CONFIG", "SET", "appendonly", "no")
    server.ask("ACL", "SETUSER", "default", "-config")
    assert await warned(RedisBackend(server.url), caplog) == []


@pytest.mark.parametrize("policy", ["noeviction", "volatile-ttl", "allkeys-lru", "allkeys-random"])
async def test_a_server_that_evicts_sessions_causes_a_warning(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    server = servers.Redis(f"maxmemory-policy={policy}", "appendonly=yes")
    evicts = ["evicts sessions when its memory is full"] if policy.startswith("allkeys") else []
    assert await warned(RedisBackend(server.url), caplog) == evicts


@pytest.mark.parametrize("peer", ["10.0.0.1", "fe80::1%eth0", "127.0.0.1", "::1", None])
async def test_a_server_without_a_password_causes_a_warning(
    peer: str | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning is for connections from other hosts without a password."""

    async def other(_: RetryingServer) -> str | None:
        return peer

    server = servers.Redis("appendonly=yes")
    assert await warned(RedisBackend(server.url), caplog) == []
    monkeypatch.setattr(RetryingServer, "peer", other)
    far = peer in {"10.0.0.1", "fe80::1%eth0"}
    assert await warned(RedisBackend(server.url), caplog) == (["requires no password"] if far else [])
    server.ask("CONFIG", "SET", "requirepass", "x")
    assert await warned(RedisBackend(server.url.replace("//", "//:x@")), caplog) == []


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("", "nothing was done; set it in the URL, as in redis://:password@host"),
        (":hunter2@", "set the right user and password in the URL"),
    ],
)
async def test_a_missing_or_wrong_password_is_an_error_without_the_password(user: str, said: str) -> None:
    server = servers.Redis()
    server.ask("CONFIG", "SET", "requirepass", "secret")
    with pytest.raises(AccessError) as caught:
        async with Store(RedisBackend(server.url.replace("//", f"//{user}"))) as store:
            await store.append("s", [{"role": "user", "content": "x"}])
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert ".:" not in str(caught.value)


async def test_the_peer_is_the_other_end_of_the_connection() -> None:
    server = servers.Redis(f"unixsocket={servers.folder_for('socket') / 's'}", "unixsocketperm=777")
    async with RedisBackend(server.url) as store:
        assert await store._server.peer() == "127.0.0.1"
    socket = server.settings[0].partition("=")[2]
    async with RedisBackend(f"unix://{socket}") as store:
        assert await store._server.peer() is None
        await Store(store).append("a", [user("x")])
    async with RedisBackend(servers.redis_cluster().url) as store:
        assert await store._server.peer() == "127.0.0.1"


# ---------------------------------------------------------------------------------------------------- loops and forks


def connected(url: str) -> set[str]:
    """Return the addresses of the connections to a server, except the one that asks."""
    lines = str(servers.ask_redis(url, "CLIENT", "LIST", "TYPE", "normal")).splitlines()
    return {line.split()[0] for line in lines if "cmd=client" not in line}


def connections(url: str) -> int:
    """Return the number of connections to a server."""
    return len(connected(url))


def eventually(there: Callable[[], bool]) -> None:
    """Wait until a condition holds. A server detects a closed connection a moment later."""
    end = time.monotonic() + 10
    while not there():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def alone() -> servers.Redis:
    """Start a server for one test alone."""
    return servers.Redis()


async def use(store: Store, name: str, turns: int) -> None:
    """Write to a session with this name and to a shared one."""
    for turn in range(turns):
        await asyncio.gather(store.append(name, [user(f"{turn}")]), store.append("shared", [user(name)]))
    assert [message.text for message in await store.load(name)] == [f"{turn}" for turn in range(turns)]


def test_several_event_loops_share_one_store(alone: servers.Redis) -> None:
    """Eight threads run at once, several times. No data is mixed up, and no connection outlives its loop."""
    store = Store(RedisBackend(alone.url))
    asyncio.run(store.open())
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for attempt in range(3):
            with ThreadPoolExecutor(8) as threads:
                works = [threads.submit(asyncio.run, use(store, f"{attempt} {name}", 5)) for name in "abcdefgh"]
            for work in works:
                work.result()
    finally:
        sys.setswitchinterval(interval)
    eventually(lambda: connections(alone.url) == 0)
    assert asyncio.run(store.info("shared")).turns == 3 * 8 * 5
    asyncio.run(store.close())


@pytest.mark.parametrize("kind", ["server", "cluster", "sentinel"])
def test_a_loop_that_ends_leaves_no_connection_open(kind: str, alone: servers.Redis) -> None:
    """The loop may end during an operation, with its tasks still pending."""
    url, nodes = alone.url, [alone.url]
    if kind == "cluster":
        url, nodes = servers.redis_cluster().url, [node.url for node in servers.redis_cluster().nodes]
    elif kind == "sentinel":
        url, nodes = servers.redis_sentinels().url, [servers.redis_sentinels().master.url]
    store = Store(RedisBackend(url))
    before = [connections(node) for node in nodes]  # sentinels hold connections of their own

    def ended() -> bool:
        return [connections(node) for node in nodes] == before

    async def work(name: str) -> None:
        await asyncio.gather(*(store.append(f"{name}{number}", [user("hello")]) for number in range(30)))
        asyncio.ensure_future(store.append("left", [user("?")]))  # noqa: RUF006 - the task is meant to stay pending
        await asyncio.sleep(0)

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        asyncio.run(store.open())
        for name in "abc":
            asyncio.run(work(name))
            gc.collect()
        eventually(ended)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(store.append("plain", [user("x")]))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        asyncio.run(store.close())
        gc.collect()
    assert not [str(one.message) for one in found]
    eventually(ended)


def test_a_forked_child_leaves_its_parents_connections_alone(alone: servers.Redis) -> None:
    """Children use, close or drop the inherited store in a loop of their own while the parent continues."""
    held = [Store(RedisBackend(alone.url))]
    with asyncio.Runner() as runner:
        runner.run(held[0].open())
        runner.run(held[0].append("shared", [user("first")]))
        for number, way in enumerate(("use", "close", "drop")):
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    if way == "use":
                        asyncio.run(use(held[0], "child", 3))
                    elif way == "close":
                        asyncio.run(held[0].close())
                    else:
                        held.clear()
                        gc.collect()
                    code = 0
                except BaseException:  # noqa: BLE001 - the process ends here
                    traceback.print_exc()
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, way
            assert connections(alone.url) == 1
            runner.run(held[0].append("shared", [user(way)]))
            assert runner.run(held[0].info("shared")).turns == number + 5
        runner.run(held[0].close())


@pytest.mark.parametrize("naive", [False, True])
def test_a_child_in_the_same_loop_leaves_its_parents_connections_alone(naive: bool, alone: servers.Redis) -> None:
    """A naive child closes the inherited connections. Both processes share an epoll set, so the parent never wakes."""
    backend = RedisBackend(alone.url, timeout=0.5 if naive else 30)
    store = Store(backend)
    with asyncio.Runner() as runner:
        runner.run(store.open())
        inherited = backend._server._topology._made
        pid = os.fork()
        if not pid:
            code = 1
            try:
                if naive:
                    for topology, _ in inherited.values():
                        runner.run(topology.close())
                runner.run(store.close())
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert len(connected(alone.url)) == 1
        (before,) = connected(alone.url)
        runner.run(store.append("a", [user("x")]))
        assert (before in connected(alone.url)) != naive
        runner.run(store.close())
