"""Shared tools of plugins: a resource per event loop, queues, a bounded map, keepalive, TLS, keys and errors."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from turnlog.errors import AccessError, ConfigError, InvalidInput, Unavailable
from turnlog.runtime import (
    BoundedMap,
    Gate,
    KeyedLocks,
    PerLoop,
    check_api_key,
    check_installed,
    keep_alive,
    tls_context,
    why_unreachable,
)

forks = pytest.mark.only_where(hasattr(os, "fork"), "forks", "this system cannot fork")

# --------------------------------------------------------------------------------------------------------------- locks


async def acquire(locks: KeyedLocks[str, str, str], key: str = "k", *, until: float | None = None) -> str | bool:
    """Acquire the lock of a key, or wait for it; return the result."""
    return locks.try_acquire(key) or await locks.wait(key, until, f"work on {key}")


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_tasks_acquire_a_lock_in_the_order_of_their_calls() -> None:
    locks: KeyedLocks[str, str, str] = KeyedLocks("here")
    order: list[int] = []

    async def work(number: int) -> None:
        assert await acquire(locks) is True
        await asyncio.sleep(0)
        order.append(number)
        locks.release("k")

    await asyncio.gather(*(work(number) for number in range(50)))
    assert order == list(range(50))
    assert locks._held == {}, "a free lock is still stored"


async def test_other_keys_are_free() -> None:
    locks: KeyedLocks[str, str, str] = KeyedLocks("here")
    assert locks.try_acquire("a")
    assert locks.try_acquire("b")
    assert not locks.try_acquire("a")


@pytest.mark.parametrize("given", [True, False])
async def test_a_task_that_is_cancelled_while_it_waits_passes_the_lock_on(given: bool) -> None:
    """The same if it has just received the lock."""
    locks: KeyedLocks[str, str, str] = KeyedLocks("here")
    assert locks.try_acquire("k")
    first, second = (asyncio.ensure_future(acquire(locks)) for _ in "ab")
    await settle()
    if given:
        locks.release("k")
        first.cancel()
    else:
        first.cancel()
        await settle()
        locks.release("k")
    assert await second is True
    assert first.cancelled()
    locks.release("k")
    assert locks._held == {}


async def test_a_wait_for_a_lock_has_an_end() -> None:
    locks: KeyedLocks[str, str, str] = KeyedLocks("here")
    assert locks.try_acquire("k")
    with pytest.raises(Unavailable, match="here: other tasks write to session k all the time: nothing was stored"):
        await acquire(locks, until=time.monotonic() + 0.01)
    locks.release("k")
    assert locks._held == {}


async def test_a_task_stops_waiting_while_time_for_an_answer_is_left() -> None:
    """A request that is sent at the last moment would have an unknown outcome."""
    locks: KeyedLocks[str, str, str] = KeyedLocks("here")
    assert locks.try_acquire("k")
    late = asyncio.ensure_future(acquire(locks, until=time.monotonic() + 0.009))
    await settle()
    locks.release("k")
    with pytest.raises(Unavailable):
        await late
    assert locks._held == {}


async def test_a_task_may_do_the_work_of_those_that_wait() -> None:
    """The waiting tasks receive the result, except the cancelled one.  The others wait for the lock."""
    locks: KeyedLocks[str, str, str] = KeyedLocks("here")
    assert locks.try_acquire("k")
    tasks = [asyncio.ensure_future(acquire(locks)) for _ in range(4)]
    await settle()
    tasks[1].cancel()
    await settle()
    assert [work for _, work in locks.waiting("k")] == ["work on k"] * 3
    for number, (future, _) in enumerate(locks.waiting("k")[:2]):
        future.set_result(f"done {number}")
    locks.release("k")
    answers: list[object] = list(await asyncio.gather(tasks[0], tasks[2], tasks[3]))
    assert answers == ["done 0", "done 1", True]
    locks.release("k")
    assert locks.waiting("k") == []


async def test_a_lock_can_be_held_for_several_operations() -> None:
    """The holder may await an operation in another task.  The waiting tasks follow in their order."""
    locks: KeyedLocks[str, str, str] = KeyedLocks("here")
    ready, order = asyncio.Event(), []

    async def other(number: int) -> None:
        await ready.wait()
        assert await acquire(locks) is True
        order.append(number)
        locks.release("k")

    others = [asyncio.ensure_future(other(number)) for number in range(3)]
    async with locks.alone("k", None, ""):
        ready.set()
        await settle()
        assert await acquire(locks) is False
        assert await asyncio.ensure_future(acquire(locks)) is False
        async with locks.alone("k", None, ""):
            pass
        assert await acquire(locks, "another") is True
        locks.release("another")
        await settle()
        assert order == []
    await asyncio.gather(*others)
    assert order == [0, 1, 2]
    assert locks._held == {}


async def test_a_gate_is_closed_while_a_task_is_alone() -> None:
    gate: Gate[str] = Gate("here")
    ready, passed = asyncio.Event(), []

    async def work(key: str) -> None:
        await ready.wait()
        await gate.wait(key, None)
        passed.append(key)

    tasks = [asyncio.ensure_future(work(key)) for key in "aabb"]
    async with gate.alone("a"):
        ready.set()
        await gate.wait("a")
        await settle()
        assert passed == ["b", "b"]
    await asyncio.gather(*tasks)
    assert passed == ["b", "b", "a", "a"]


def test_a_gate_keeps_no_loop() -> None:
    gate: Gate[str] = Gate("here")

    async def alone() -> None:
        async with gate.alone("a"):
            pass

    asyncio.run(alone())
    gc.collect()
    assert not gate._locks
    asyncio.run(alone())


# ----------------------------------------------------------------------------------------------------------- keepalive


async def test_only_connections_over_tcp_are_kept_alive(tmp_path: Path) -> None:
    """A closed connection, or one over a socket in the file system, is not changed."""
    keep_alive(None)

    def nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(nothing, tmp_path / "s"):
        _, writer = await asyncio.open_unix_connection(tmp_path / "s")
        keep_alive(writer.transport)
        found = writer.transport.get_extra_info("socket")
        assert not found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        writer.close()
        await writer.wait_closed()
        keep_alive(writer.transport)


async def test_a_lost_peer_is_detected_over_tcp() -> None:
    def nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(nothing, "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        found = writer.transport.get_extra_info("socket")
        assert not found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        keep_alive(writer.transport)
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            options = [found.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
            assert options == [30, 5, 3, 5_000]
        writer.close()
        await writer.wait_closed()


# -------------------------------------------------------------------------------------------------- one resource a loop


class Resource:
    """A resource that must be closed once, in the loop that created it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = 0
        self.end = asyncio.Event()

    async def close(self) -> None:
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is self.loop
        self.closed += 1
        self.end.set()


class Made(PerLoop[Resource]):
    """Records the resources that it has created."""

    def __init__(self) -> None:
        self.all: list[Resource] = []
        super().__init__(self._new, Resource.close)

    def _new(self) -> Resource:
        self.all.append(Resource())
        return self.all[-1]


async def test_a_loop_has_one_resource() -> None:
    made = Made()
    first, second = await asyncio.gather(made.get(), made.get())
    assert first is second is await made.get()
    assert len(made.all) == 1
    await made.close()
    assert first.closed == 1
    assert await made.get() is not first
    await made.close()
    assert [one.closed for one in made.all] == [1, 1]


def test_a_loop_closes_its_resource_at_its_end() -> None:
    made = Made()
    asyncio.run(made.get())
    asyncio.run(made.get())
    assert [one.closed for one in made.all] == [1, 1]
    assert made.all[0].loop is not made.all[1].loop


def test_a_resource_whose_loop_was_closed_is_forgotten() -> None:
    made = Made()
    asyncio.run(made.get())
    gone = weakref.ref(made.all.pop())
    asyncio.run(made.get())
    gc.collect()
    assert gone() is None


def test_a_stopped_loop_closes_its_resource_when_it_shuts_down() -> None:
    """A loop that was closed has done so already."""
    made = Made()
    asyncio.run(made.get())
    asyncio.run(made.close())
    assert made.all.pop().closed == 1
    with asyncio.Runner() as stopped:
        stopped.run(made.get())
        asyncio.run(made.close())
        assert made.all[0].closed == 0
    assert made.all[0].closed == 1


def test_a_resource_that_cannot_be_made_is_not_kept() -> None:
    answers = iter([OSError("no"), "yes"])

    def make() -> object:
        if isinstance(answer := next(answers), OSError):
            raise answer
        return answer

    async def close(_: object) -> None:
        pass

    async def twice() -> object:
        per_loop = PerLoop(make, close)
        with pytest.raises(OSError, match="no"):
            await per_loop.get()
        return await per_loop.get()

    assert asyncio.run(twice()) == "yes"


async def test_close_reaches_the_loop_of_another_thread() -> None:
    made, loop, ready = Made(), asyncio.get_running_loop(), asyncio.Event()

    async def elsewhere() -> int:
        resource = await made.get()
        loop.call_soon_threadsafe(ready.set)
        await asyncio.wait_for(resource.end.wait(), 30)
        return resource.closed

    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
    here = await made.get()
    await ready.wait()
    held = list(made._made.values())  # keeps the garbage collector from closing them
    assert len(held) == len(made.all) == 2
    await made.close()
    assert here.closed == 1
    assert await thread == 1


async def test_loops_of_other_threads_come_and_go_during_the_search_for_closed_ones() -> None:
    made: Any = Made()

    class Loop:
        def is_closed(self) -> bool:
            made._made[object()] = made._made.pop(self)
            return True

    made._made[Loop()] = made._made[Loop()] = None
    assert await made.get() is made.all[0]


def in_child(work: Callable[[], None]) -> None:
    """Run a function in a forked child, which must not raise."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@forks
@pytest.mark.parametrize("ending", ["close", "shutdown"])
def test_a_forked_child_drops_its_parents_resource_and_leaves_it_open(ending: str) -> None:
    """The same loop in the child uses another resource, also when the child shuts the loop down."""
    made = Made()
    with asyncio.Runner() as runner:
        inherited = runner.run(made.get())

        def child() -> None:
            own = runner.run(made.get())
            assert own is not inherited
            if ending == "close":
                runner.run(made.close())
            else:
                runner.close()
            assert (own.closed, inherited.closed) == (1, 0)

        in_child(child)
        assert runner.run(made.get()) is inherited
    assert inherited.closed == 1


@forks
def test_a_forked_child_never_frees_its_parents_resource() -> None:
    """Its destruction would close the parent's sockets."""
    made = [Made()]
    with asyncio.Runner() as runner:
        runner.run(made[0].get())
        freed: list[object] = []
        weakref.finalize(made[0].all.pop(), freed.append, "freed").atexit = False

        def child() -> None:
            made.clear()
            runner.run(asyncio.sleep(0))  # runs finalizers of asynchronous generators
            gc.collect()
            assert freed == []

        in_child(child)


# -------------------------------------------------------------------------------------------------------- a bounded map


def bounded(maximum: int, *keys: str) -> BoundedMap[str, str]:
    found: BoundedMap[str, str] = BoundedMap(maximum)
    for key in keys:
        found[key] = key.upper()
    return found


def kept(found: BoundedMap[str, str], keys: str) -> str:
    return "".join(key for key in keys if key in found)


def test_the_least_recently_set_entry_is_dropped() -> None:
    found = bounded(3, "a", "b", "c", "d")
    assert (kept(found, "abcd"), len(found)) == ("bcd", 3)
    assert (found.get("a"), found.get("d")) == (None, "D")


def test_setting_an_entry_again_uses_it() -> None:
    found = bounded(2, "a", "b", "a", "c")
    assert kept(found, "abc") == "ac"
    found["a"] = "new"
    assert (len(found), found.get("a")) == (2, "new")


def test_getting_an_entry_uses_it() -> None:
    found = bounded(2, "a", "b")
    found.get("a")
    found["c"] = "C"
    assert kept(found, "abc") == "ac"


def test_entries_are_removed() -> None:
    found = bounded(3, "a", "b")
    assert (found.pop("a"), found.pop("a"), found.pop("a", "none")) == ("A", None, "none")
    assert kept(found, "ab") == "b"
    found.clear()
    assert len(found) == 0


@pytest.mark.parametrize("step", ["get", "set"])
def test_another_thread_may_drop_an_entry_between_two_steps(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller sees no error."""
    found: Any = bounded(2, "a")

    class Interrupted(type(found._entries)):  # type: ignore[misc]
        def move_to_end(self, key: str, last: bool = True) -> None:
            self.clear()
            super().move_to_end(key, last)

    found._entries = Interrupted(found._entries)
    if step == "get":
        assert found.get("a") == "A"
    else:
        found["b"] = "B"
    assert len(found) == 0


def test_threads_share_a_map() -> None:
    found: BoundedMap[int, int] = BoundedMap(8)

    def work(seed: int) -> None:
        for number in range(20_000):
            key = (number * 7 + seed * 13) % 32
            match number % 5:
                case 0 | 1:
                    found[key] = key
                case 2 | 3:
                    assert found.get(key) in {None, key}
                case _:
                    found.pop(key)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    found[0] = 0
    assert len(found) <= 9 + 4  # each of four threads may hold one more between its two steps


# ------------------------------------------------------------------------------------------------------------------ TLS


def test_disable_needs_no_context() -> None:
    assert tls_context("disable", None) is None


ROOT = """\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUOD97qzaa4YlbiBLZNN1uYanimjUwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEcm9vdDAgFw0yNjExMzAwMDMyMjdaGA8yMTI2MTEwNjAwMzIy
N1owDzENMAsGA1UEAwwEcm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABK22
ofyEsR0ezK/hlvX6zPgW5cSJyRBXCyUolVMTQXWZGQYnNqY3gCU+8Vk820C4etHd
Cvyuz7Vl9rC8nA5/RcmjUzBRMB0GA1UdDgQWBBS9Dn4bCk3p0qxmJkEpOG1G6zXs
RjAfBgNVHSMEGDAWgBS9Dn4bCk3p0qxmJkEpOG1G6zXsRjAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIQC+5X6cX2vdgkCwNsf5QlSLTHvYiTI3U0FJ
DN4BVTXdhwIgUkt7NAB3DfWKCDBLimsIBrZMPsUxsai+xQ+owbfCi0Y=
-----END CERTIFICATE-----
"""
"""A self-signed certificate authority whose private key was deleted."""


@pytest.mark.parametrize(
    ("mode", "root", "verifies", "names"),
    [
        ("prefer", None, False, False),
        ("require", None, False, False),
        ("verify-ca", None, True, False),
        ("verify-full", None, True, True),
        ("verify-full", "system", True, True),
    ],
)
def test_which_modes_check_the_certificate_and_the_name(
    mode: Any, root: str | None, verifies: bool, names: bool
) -> None:
    context = tls_context(mode, root)
    assert context is not None
    assert context.check_hostname == names
    assert (context.verify_mode is ssl.CERT_REQUIRED) == verifies


def test_a_root_replaces_the_systems_authorities(tmp_path: Path) -> None:
    (tmp_path / "root.crt").write_text(ROOT)
    context = tls_context("verify-full", str(tmp_path / "root.crt"))
    assert context is not None
    assert [ca["subject"] for ca in context.get_ca_certs()] == [((("commonName", "root"),),)]


@pytest.mark.parametrize(
    ("mode", "root", "says"),
    [
        ("allow", None, "sslmode must be disable, prefer, require, verify-ca or verify-full, not 'allow'"),
        ("prefer", "none.crt", "sslrootcert has no effect with sslmode prefer"),
        ("disable", "none.crt", "sslrootcert has no effect with sslmode disable, the default"),
        ("require", "none.crt", "sslrootcert has no effect with sslmode require"),
        ("verify-full", "none.crt", "none.crt', which cannot be read"),
        ("verify-full", "nowhere.crt", "nowhere.crt', which cannot be read"),
    ],
)
def test_options_that_contradict_or_cannot_be_read_are_refused(
    mode: Any, root: str | None, says: str, tmp_path: Path
) -> None:
    (tmp_path / "none.crt").write_text("no certificate")
    with pytest.raises(InvalidInput, match=r"^ssl") as caught:
        tls_context(mode, None if root is None else str(tmp_path / root))
    assert says in str(caught.value)


# ------------------------------------------------------------------------------------------------- drivers and API keys


def test_a_driver_is_found_without_its_import() -> None:
    name = "turtledemo"  # a package of the standard library that nothing imports
    check_installed(name)
    assert name not in sys.modules
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'acme_driver'$") as caught:
        check_installed("acme_driver")
    assert caught.value.name == "acme_driver"


def test_the_first_key_that_is_set_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_KEY", raising=False)
    monkeypatch.setenv("OTHER_KEY", "")
    variables = ("ACME_KEY", "OTHER_KEY")
    with pytest.raises(ConfigError, match=r"^set a key$"):
        check_api_key(variables, "set a key")
    monkeypatch.setenv("OTHER_KEY", "sk-1234")
    check_api_key(variables, "set a key")
    for wrong in ("sk-1234\n", "sk 1234", "sk-é", "\x7f"):
        monkeypatch.setenv("ACME_KEY", wrong)
        with pytest.raises(ConfigError, match="the variable ACME_KEY holds more than a key") as caught:
            check_api_key(variables, "set a key")
        assert wrong not in str(caught.value)


# ------------------------------------------------------------------------------------------------- failed connections


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "it is not valid"
    return error


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("cause", "why", "remedy", "permanent"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its host name is not known", "check the host", False),
        (ConnectionRefusedError(111, "refused"), "no server accepts connections there", "the host and the port", False),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] Connect call failed"),
            "no server accepts connections there",
            "the host and the port",
            False,
        ),
        (FileNotFoundError(2, "no such file"), "there is no such socket", "check the path", False),
        (PermissionError(13, "denied"), "the system denies access", "allow this process", True),
        (certificate_error(10), "its certificate is not accepted (it is not valid)", "renew it", True),
        (certificate_error(99), "its certificate is not accepted (it is not valid)", "set sslrootcert to", True),
        (tls_error("WRONG_VERSION_NUMBER"), "it does not use TLS on this port", "set the port for TLS", True),
    ],
)
@pytest.mark.parametrize("chained", ["itself", "cause", "context"])
def test_the_reason_of_a_failed_connection(
    cause: Exception, why: str, remedy: str, permanent: bool, chained: str
) -> None:
    error: Exception = cause
    if chained != "itself":
        error = RuntimeError("the driver failed")
        setattr(error, f"__{chained}__", cause)
    reason = why_unreachable(error)
    assert reason is not None
    assert (reason.why, reason.permanent) == (why, permanent)
    assert remedy in reason.remedy
    raised = reason.error("acme h:1")
    assert type(raised) is (AccessError if permanent else Unavailable)
    assert str(raised) == f"acme h:1 cannot be reached: {why}: nothing was done; {reason.remedy}"
    assert str(reason.error("acme h:1", "go away")).startswith(f"acme h:1: {why} (go away): nothing was done; ")


def test_the_reason_of_another_error_is_unknown() -> None:
    assert why_unreachable(OSError(5, "I/O error")) is None
    assert why_unreachable(tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE")) is None
    deep: Exception = ConnectionRefusedError(111, "refused")
    for _ in range(8):
        outer = RuntimeError("the driver failed")
        outer.__cause__ = deep
        deep = outer
    assert why_unreachable(deep) is None, "more causes than are examined"
