"""The one connection of a loop: what travels together, what becomes of it, and what each answer means."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from redis_writers import CUT_REPLY, CUT_REQUEST, Fate, Proxy, at, emptied, planted, raw
from turnlog import AccessError, Change, Key, OutcomeUnknown, Record, SessionNotFound, TurnlogError, Unavailable, user
from turnlog_redis import _scripts
from turnlog_redis._layout import keys_of

KEY = Key("default", "s")


def script(command: list[bytes]) -> bool:
    """Whether it is one of the store's."""
    return command[0].startswith(b"EVAL")


async def test_what_one_turn_of_the_loop_asks_travels_together() -> None:
    """100 callers, one connection, one round trip; each hears of its own session."""
    async with Proxy(emptied()) as proxy, at(proxy.url) as store:
        names = [f"s{number}" for number in range(100)]
        await asyncio.gather(*(store.append(name, [user(name)]) for name in names))
        proxy.count()
        said = await asyncio.gather(*(store.load(name, last=1) for name in names))
        assert [messages[-1].text for messages in said] == names
        assert proxy.trips <= 3  # by TCP's measure
        assert proxy.connections == 1
        proxy.count()
        await asyncio.gather(*(store.append(name, [user(name)]) for name in names))
        assert proxy.trips <= 3
        assert len(proxy.commands) == 100


async def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    """Before it was sent, and while the answer is awaited."""
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
        await asyncio.sleep(0.01)  # it hears of it
        tasks = [asyncio.ensure_future(store.load("s")) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        said = await asyncio.gather(*tasks, return_exceptions=True)
        assert [len(answer) for answer in said[1:] if not isinstance(answer, BaseException)] == [1] * 4
        assert proxy.connections == 1


async def test_a_connection_that_was_ended_meanwhile_is_no_error() -> None:
    """Whether the store has heard of it, or not yet; and a batch that lost its answers is asked again, as a whole."""
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
async def test_what_the_server_refuses_was_not_done(kind: str) -> None:
    answer, error = ANSWERS[kind]
    refuses = [False]

    def fate(command: list[bytes]) -> Fate:
        return answer if refuses[0] and script(command) else None

    async with Proxy(emptied(), fate) as proxy, at(proxy.url) as store:
        await store.append("s", [user("0")])
        store.backend._timeout = 0.25  # from here on: a machine that is busy may take longer to connect
        refuses[0] = True
        with pytest.raises(error, match=answer.decode()[1:8]):
            await store.append("s", [user("1")], turn_id="t")
        with pytest.raises((AccessError, Unavailable)):
            await store.load("s", before=1)
        refuses[0] = False
        assert (await store.append("s", [user("1")], turn_id="t")).number == 1


@pytest.mark.parametrize("kind", ["loading", "a replica", "try again", "down", "replicas", "busy"])
async def test_what_is_refused_for_a_moment_is_tried_again(kind: str) -> None:
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


async def test_a_server_that_forgot_the_scripts_is_told_them_again() -> None:
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
    """The end of the list was answered before the script was, and holds what is no record."""
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


async def test_an_answer_that_is_lost_for_good_is_unknown() -> None:
    """And says what to send again; of a question nothing is unknown, and a deletion is never sent twice."""
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
            await store.append("not seen", [user("1")])  # it has only looked
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


async def test_no_wait_is_without_an_end() -> None:
    """A server that hears and says nothing: Unavailable for questions, OutcomeUnknown for changes, within the bound."""

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
async def test_what_is_no_answer_ends_the_connection(nonsense: bytes) -> None:
    """Whatever comes behind it could be anybody's."""
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


async def test_answers_that_are_anothers_are_noticed() -> None:
    """T14: a connection that is off by one, whoever's fault it is: the header says whose it is."""
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


class raw_socket:  # noqa: N801 - a context manager, used as a function is
    """Asks a server in bytes."""

    def __init__(self, port: int) -> None:
        import socket

        self.socket = socket.create_connection(("127.0.0.1", port), 5)

    def __enter__(self) -> Any:
        return self.ask

    def ask(self, *command: bytes) -> bytes:
        """The answer."""
        import hiredis

        self.socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        return self.socket.recv(1 << 16)

    def __exit__(self, *error: object) -> None:
        self.socket.close()


async def test_others_may_come_first_until_the_deadline_and_then_it_is_unavailable() -> None:
    """A writer that always meets another is told so, and has stored nothing."""
    always = ("COMMIT", "if seen ~= expected or another then", "if seen ~= '' then")
    async with at(emptied(), timeout=0.2) as store:
        await store.append("s", [user("0")])
        with planted(*always), pytest.raises((Unavailable, OutcomeUnknown), match=r"others wrote|no answer"):
            await store.append("s", [user("1")])
        assert len(await store.load("s")) == 1


async def test_closing_that_is_cancelled_ends_the_connection() -> None:
    """It waits for an answer that does not come."""
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
