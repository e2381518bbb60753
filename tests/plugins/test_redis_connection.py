"""The one connection of an event loop: batches of requests, lost connections, and the meaning of each answer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from redis_writers import CUT_REPLY, CUT_REQUEST, Fate, Proxy, at, emptied, planted, raw
from turnlog import AccessError, Change, Key, OutcomeUnknown, Record, SessionNotFound, TurnlogError, Unavailable, user
from turnlog_redis import _scripts
from turnlog_redis._connection import Lost, shielded
from turnlog_redis._layout import keys_of

KEY = Key("default", "s")


def script(command: list[bytes]) -> bool:
    """Return whether a command runs a script of the store."""
    return command[0].startswith(b"EVAL")


async def test_requests_of_one_loop_iteration_share_a_round_trip() -> None:
    """100 callers share one connection and one round trip. Each receives the answer for its own session."""
    async with Proxy(emptied()) as proxy, at(proxy.url) as store:
        names = [f"s{number}" for number in range(100)]
        await asyncio.gather(*(store.append(name, [user(name)]) for name in names))
        proxy.count()
        said = await asyncio.gather(*(store.load(name, last=1) for name in names))
        assert [messages[-1].text for messages in said] == names
        assert proxy.trips <= 3  # as counted at the level of TCP
        assert proxy.connections == 1
        proxy.count()
        await asyncio.gather(*(store.append(name, [user(name)]) for name in names))
        assert proxy.trips <= 3
        assert len(proxy.commands) == 100


async def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    """A caller may be cancelled before its request is sent, or while it waits for the answer."""
    async with Proxy(emptied()) as proxy, at(proxy.url) as store:
        names = [f"s{number}" for number in range(20)]
        await asyncio.gather(*(store.append(name, [user(name)]) for name in names))
        for steps in range(8):
            tasks = [asyncio.ensure_future(store.load(name)) for name in names]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            said = await asyncio.gather(*tasks, return_exceptions=True)
            assert [answer[0].text for answer in said[1::2] if not isinstance(answer, BaseException)] == names[1::2]
        assert proxy.connections == 1


async def test_a_first_caller_that_is_cancelled_leaves_the_others_a_connection() -> None:
    async with Proxy(emptied()) as proxy, at(proxy.url) as store:
        await store.append("s", [user("x")])
        await proxy.cut()
        await asyncio.sleep(0.01)  # the store detects the closed connection
        tasks = [asyncio.ensure_future(store.load("s")) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        said = await asyncio.gather(*tasks, return_exceptions=True)
        assert [len(answer) for answer in said[1:] if not isinstance(answer, BaseException)] == [1] * 4
        assert proxy.connections == 1


async def test_a_connection_that_was_ended_meanwhile_is_no_error() -> None:
    """The store may have detected the loss or not. A batch without answers is sent again as a whole."""
    async with Proxy(emptied()) as proxy, at(proxy.url) as store, at(proxy.url) as other:
        await store.append("s", [user("0")])
        for number, wait in enumerate([0.0, 0.01] * 5, 1):
            await proxy.cut()
            await asyncio.sleep(wait)
            await asyncio.gather(store.append("s", [user(f"{number}")]), other.load("s"))
        assert [message.text for message in await store.load("s")] == [f"{number}" for number in range(11)]


ANSWERS: dict[str, tuple[bytes, type[TurnlogError]]] = {
    "refused": (b"-NOPERM this user has no permissions\r\n", AccessError),
    "no memory": (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", Unavailable),
    "disk": (b"-MISCONF Redis is configured to save RDB snapshots\r\n", Unavailable),
    "loading": (b"-LOADING Redis is loading the dataset in memory\r\n", Unavailable),
    "a replica": (b"-READONLY You can't write against a read only replica.\r\n", AccessError),
    "try again": (b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", Unavailable),
    "down": (b"-CLUSTERDOWN The cluster is down\r\n", Unavailable),
    "replicas": (b"-NOREPLICAS Not enough good replicas to write.\r\n", Unavailable),
    "busy": (b"-BUSY Redis is busy running a script.\r\n", Unavailable),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_refused_command_was_not_executed(kind: str) -> None:
    answer, error = ANSWERS[kind]
    refuses = [False]

    def fate(command: list[bytes]) -> Fate:
        return answer if refuses[0] and script(command) else None

    async with Proxy(emptied(), fate) as proxy, at(proxy.url) as store:
        await store.append("s", [user("0")])
        store.backend._server._timeout = 0.25  # from here on, because a busy machine may take longer to connect
        refuses[0] = True
        with pytest.raises(error, match=answer.decode()[1:8]):
            await store.append("s", [user("1")], turn_id="t")
        with pytest.raises((AccessError, Unavailable)):
            await store.load("s", before=1)
        refuses[0] = False
        assert (await store.append("s", [user("1")], turn_id="t")).number == 1


@pytest.mark.parametrize("kind", ["loading", "a replica", "try again", "down", "replicas", "busy"])
async def test_a_temporary_refusal_is_retried(kind: str) -> None:
    left = [0]

    def fate(command: list[bytes]) -> Fate:
        if script(command) and left[0]:
            left[0] -= 1
            return ANSWERS[kind][0]
        return None

    async with Proxy(emptied(), fate) as proxy, at(proxy.url) as store:
        await store.append("s", [user("0")])
        left[0] = 2
        assert (await store.append("s", [user("1")])).number == 1
        left[0] = 2
        assert len(await store.load("s", before=2)) == 2
        assert left == [0]


async def test_scripts_are_sent_again_to_a_server_that_lost_them() -> None:
    url = emptied()
    async with Proxy(url) as proxy, at(proxy.url) as store:
        await store.append("s", [user("0")])
        with raw(url) as client:
            client.script_flush()
        assert (await store.append("s", [user("1")])).number == 1
        proxy.count()
        assert (await store.append("s", [user("2")])).number == 2
        assert proxy.commands == [b"EVALSHA"]


async def test_turns_that_come_while_a_script_is_sent_again_are_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer for the end of the list came before that of the script, and holds elements that are not records."""
    url = emptied()
    async with at(url) as other, at(url) as store:
        await other.backend.commit(KEY, Change(metadata={"title": "T"}))
        with raw(url) as client:
            client.script_flush()
        again = store.backend._server._ask_again

        async def later(*arguments: Any, **options: Any) -> None:
            monkeypatch.setattr(store.backend._server, "_ask_again", again)
            for text in "ab":
                await other.append("s", [user(text)])
            await again(*arguments, **options)

        monkeypatch.setattr(store.backend._server, "_ask_again", later)
        assert [message.text for message in await store.load("s", last=4)] == ["a", "b"]


async def test_a_lost_answer_is_an_unknown_outcome() -> None:
    """The error carries the change to send again. Reads raise `Unavailable`, and a deletion is never sent twice."""
    lost: list[str] = []

    def fate(command: list[bytes]) -> Fate:
        return lost[0] if lost and script(command) else None

    url = emptied()
    async with at(url) as sound, Proxy(url, fate) as proxy, at(proxy.url, timeout=0.4) as store:
        await sound.append("s", [user("0")])
        await sound.backend.delete(Key("default", "other"))  # the server knows the script from here on
        await store.load("s")
        lost.append(CUT_REPLY)
        with pytest.raises(OutcomeUnknown) as caught:
            await store.append("s", [user("1")])
        with pytest.raises(Unavailable):
            await store.append("not seen", [user("1")])  # the append has only read
        with pytest.raises(Unavailable):
            await store.load("s", before=1)
        with pytest.raises(OutcomeUnknown):
            await store.backend.delete(KEY)
        with pytest.raises(SessionNotFound):
            await sound.load("s")
        await sound.append("s", [user("0")])
        proxy.count()
        lost[0] = CUT_REQUEST
        with pytest.raises(OutcomeUnknown):
            await store.backend.delete(KEY)
        assert sum(command.startswith(b"EVAL") for command in proxy.commands) == 1
        assert len(await sound.load("s")) == 1
        lost.clear()
        change = caught.value.change
        assert caught.value.key == KEY
        assert change is not None
        await store.backend.commit(KEY, change)
        await sound.backend.commit(KEY, change)
        assert [message.text for message in await sound.load("s")] == ["0", "1"]
        with pytest.raises(SessionNotFound):
            await sound.load("not seen")


async def test_a_seal_whose_answer_is_lost_is_sent_again_and_was_done() -> None:
    lost: list[str] = []

    def fate(command: list[bytes]) -> Fate:
        return lost.pop() if lost and script(command) and len(command) > 8 and command[1] == _scripts.SEAL.sha else None

    async with Proxy(emptied(), fate) as proxy, at(proxy.url) as store:
        for text in "abc":
            await store.append("s", [user(text)])
        for _ in "ab":  # the server knows the script the second time
            records = (await store.backend.read(KEY)).records
            lost.append(CUT_REPLY)
            assert await store.backend.seal(KEY, Record.seal(records))
            assert len((await store.backend.read(KEY)).records) == 1
            await store.append("s", [user("more")])
        assert not lost
        assert [message.text for message in await store.load("s")] == ["a", "b", "c", "more", "more"]


async def test_every_wait_has_a_timeout() -> None:
    """A server that never answers: reads raise Unavailable and changes OutcomeUnknown within the timeout."""

    async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1000):
                pass
        finally:
            writer.transport.abort()

    async with Proxy(emptied()) as proxy, at(proxy.url, timeout=0.3) as store:
        await store.append("s", [user("0")])
        server = await asyncio.start_server(nobody, "127.0.0.1", 0)
        sound, proxy.target = proxy.target, server.sockets[0].getsockname()[1]
        await proxy.cut()
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(store.load("s") for _ in range(5)),
            *(store.append("s", [user("1")]) for _ in range(5)),
            return_exceptions=True,
        )
        assert time.monotonic() - began < 3
        assert all(isinstance(outcome, (Unavailable, OutcomeUnknown)) for outcome in outcomes), outcomes
        proxy.target = sound
        await proxy.cut()
        server.close()
        assert (await store.load("s"))[0].text == "0"


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\1\2\3\r\n", b"*1\r\n$x\r\n"])
async def test_a_malformed_answer_ends_the_connection(nonsense: bytes) -> None:
    """Later answers on this connection might belong to other callers."""
    wrong = [False]

    def fate(command: list[bytes]) -> Fate:
        if wrong[0] and script(command):
            wrong[0] = False
            return nonsense
        return None

    async with Proxy(emptied(), fate) as proxy, at(proxy.url, timeout=1) as store:
        await asyncio.gather(*(store.append(name, [user(name)]) for name in "abcdef"))
        for number in range(1, 4):
            wrong[0] = True
            said = await asyncio.gather(*(store.load(name, before=9) for name in "abcdef"), return_exceptions=True)
            for name, answer in zip("abcdef", said, strict=True):
                if not isinstance(answer, BaseException):
                    assert [message.text for message in answer] == [name], number
            for name in "abcdef":
                assert [message.text for message in await store.load(name)] == [name]


async def test_answers_for_another_session_are_detected() -> None:
    """The answers of a connection are shifted by one. The header names the session to which it belongs."""
    held: list[bytes] = []

    async with Proxy(emptied()) as proxy, at(proxy.url) as store:
        await asyncio.gather(*(store.append(name, [user(name)]) for name in "ab"))
        theirs: Any = None

        def fate(command: list[bytes]) -> Fate:
            return theirs if theirs is not None and script(command) else None

        proxy.fate = fate
        with raw_socket(proxy.target) as asked:
            place = keys_of("default", b"b").session
            theirs = asked(b"EVAL", _scripts.READ.text, b"1", place, b"", b"0", b"", b"9", b"", b"0", b"0")
        with pytest.raises(TurnlogError, match="damaged"):
            await store.load("a", before=9)
        held.append(theirs)
    assert b"b" in held[0]


class raw_socket:  # noqa: N801 - a context manager that is used like a function
    """Sends commands to a server and returns the answers as bytes."""

    def __init__(self, port: int) -> None:
        import socket

        self.socket = socket.create_connection(("127.0.0.1", port), 5)

    def __enter__(self) -> Any:
        return self.ask

    def ask(self, *command: bytes) -> bytes:
        """Return the answer to a command."""
        import hiredis

        self.socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        return self.socket.recv(1 << 16)

    def __exit__(self, *error: object) -> None:
        self.socket.close()


async def test_an_append_that_others_always_precede_is_unavailable_at_the_deadline() -> None:
    """Another writer commits first each time. The append raises an error and stores nothing."""
    always = ("COMMIT", "if seen ~= expected or another then", "if seen ~= '' then")
    async with at(emptied(), timeout=0.2) as store:
        await store.append("s", [user("0")])
        with planted(*always), pytest.raises((Unavailable, OutcomeUnknown), match=r"other writers used|no answer"):
            await store.append("s", [user("1")])
        assert len(await store.load("s")) == 1


async def test_closing_that_is_cancelled_ends_the_connection() -> None:
    """`close` waits for an answer that does not come."""
    async with Proxy(emptied()) as proxy, at(proxy.url) as store:
        await store.append("s", [user("0")])
        with raw(emptied()) as client:
            client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
            try:
                append = asyncio.ensure_future(store.append("s", [user("1")]))
                await asyncio.sleep(0)
                closing = asyncio.ensure_future(store.close())
                for _ in range(5):
                    await asyncio.sleep(0)
                assert not closing.done()
                closing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await closing
                with pytest.raises(OutcomeUnknown, match="closed"):
                    await append
            finally:
                client.execute_command("CLIENT", "UNPAUSE")


async def test_a_connection_that_takes_too_long_names_the_time() -> None:
    with pytest.raises(Lost, match=r"^no connection within 0\.1 s$"):
        await shielded(connecting := asyncio.create_task(asyncio.Event().wait()), time.monotonic() + 0.1)
    connecting.cancel()
