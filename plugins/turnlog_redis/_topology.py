"""`Topology`: sends commands to the right server: the only one, the current master, or a node of a cluster."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from redis import exceptions
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot

from turnlog.runtime import REACH, why_unreachable

from ._connection import NO_MASTER, PLAIN, Command, Lost, Refused, SharedConnection, any_failed, said, shielded
from ._encrypted import EncryptedConnection
from ._location import Address, Location, written
from ._scripts import without_line

_SENTINEL: Final = 1.0  # seconds to wait for one sentinel (redis.io/docs/reference/sentinel-clients)
_REDIRECTIONS: Final = 8  # the largest number of redirections that a command follows without a pause
_ELSEWHERE: Final = ("CLUSTERDOWN", "MASTERDOWN", "READONLY")  # another server may have become the master


class Topology(ABC):
    """Sends commands to the servers of a location, in one event loop."""

    @abstractmethod
    async def ask_all(self, commands: Sequence[Command], until: float) -> list[Any]:
        """Return the answers to commands, as `SharedConnection.ask_all`; each is sent to the server of its key."""

    @abstractmethod
    async def close(self) -> None:
        """Wait for the answers to the commands so far, then close all connections."""

    @property
    @abstractmethod
    def peer(self) -> str | None:
        """The host of one of the servers, as `SharedConnection.peer`."""


def topology_of(location: Location, timeout: float) -> Topology:
    """Return the topology of a location."""
    return {"server": _Server, "sentinel": _Master, "cluster": _Cluster}[location.kind](location, timeout)


class _Server(Topology):
    def __init__(self, location: Location, timeout: float) -> None:
        self._location = location
        self._timeout = timeout
        self._connection = SharedConnection(self._connect, timeout)
        self._closing: set[asyncio.Task[None]] = set()

    async def _connect(self) -> AbstractConnection:
        return await _connected(self._location.connection((*self._location.addresses, None)[0]))

    async def ask_all(self, commands: Sequence[Command], until: float) -> list[Any]:
        connection = self._connection
        answers = await connection.ask_all(commands, until)
        # the name of the host may resolve to another server now: connect again
        if any_failed(answers) and connection is self._connection and any(map(_is_elsewhere, answers)):
            self._connection = SharedConnection(self._connect, self._timeout)
            closing = asyncio.get_running_loop().create_task(
                connection.close()
            )  # waits for the answers of other callers
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return answers

    async def close(self) -> None:
        await asyncio.gather(self._connection.close(), *self._closing)

    @property
    def peer(self) -> str | None:
        return self._connection.peer


class _Master(_Server):
    """A master that sentinels watch; each new connection asks the sentinels for its address."""

    def __init__(self, location: Location, timeout: float) -> None:
        super().__init__(location, timeout)
        self._sentinels = list(location.addresses)

    async def _connect(self) -> AbstractConnection:
        address = await self._master()
        try:
            async with asyncio.timeout(min(self._timeout, REACH)):
                connection = await _connected(self._location.connection(address))
        except exceptions.AuthenticationError:  # a ConnectionError of redis-py
            raise
        except (TimeoutError, OSError, exceptions.ConnectionError, exceptions.TimeoutError) as error:
            raise Lost(f"the master at {written(address)}: {said(error)}", sent=False) from error
        try:
            role = await _asked(connection, "ROLE")
        except exceptions.ResponseError:  # the user has no right to call ROLE; a replica refuses writes anyway
            return connection
        except BaseException:
            await _drop(connection)
            raise
        if role[0] != b"master":
            await _drop(connection)
            raise Lost("the server that the sentinels name as master is a replica", sent=False)
        return connection

    async def _master(self) -> Address:
        """Return the master's address.

        Raises:
            Lost: Not all sentinels answer, and none of them knows the master.
            Refused: All sentinels refuse: they ask for another password, or watch no master of this name.
        """
        errors: list[str] = []
        causes: list[BaseException] = []
        answered = 0
        for sentinel in list(self._sentinels):
            connection = self._location.sentinel_connection(sentinel)
            try:
                async with asyncio.timeout(min(self._timeout, _SENTINEL)):
                    await connection.connect()  # type: ignore[no-untyped-call]
                    found = await _asked(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._location.service)
            except (TimeoutError, OSError, exceptions.RedisError) as error:
                plain = False
                if isinstance(connection, EncryptedConnection) and isinstance(error, TimeoutError):
                    plain = await connection.speaks_plainly()
                if str(error).startswith("unknown command"):
                    errors.append(f"{written(sentinel)} is no sentinel")
                else:
                    errors.append(f"{written(sentinel)}: {PLAIN if plain else said(error)}")
                causes.append(error)
                answered += plain or isinstance(error, (exceptions.AuthenticationError, exceptions.ResponseError))
                continue
            finally:
                await _drop(connection)
            answered += 1
            if found is not None:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)  # the next connection asks this sentinel first
                return found[0].decode(), int(found[1])
            errors.append(f"{written(sentinel)} watches no master {self._location.service!r}")
        if answered == len(errors):
            raise Refused(f"{NO_MASTER}: {'; '.join(errors)}")
        text = f"no sentinel names a master: {'; '.join(errors)}"
        raise Lost(text, sent=False, again=answered > 0, connected=answered > 0) from _permanent(causes)


class _Cluster(Topology):
    """The nodes of a cluster (redis.io/docs/reference/cluster-spec)."""

    def __init__(self, location: Location, timeout: float) -> None:
        self._location = location
        self._timeout = timeout
        self._connections: dict[Address, SharedConnection] = {}
        self._owners: dict[int, Address] | None = None  # by slot
        self._last: Address = location.addresses[0]
        self._doubted: Address | None = None  # the node that failed last
        self._learning: asyncio.Task[dict[int, Address]] | None = None

    @property
    def peer(self) -> str | None:
        return self._connections[self._last].peer if self._last in self._connections else None

    async def ask_all(self, commands: Sequence[Command], until: float) -> list[Any]:
        answers: list[Any] = [None] * len(commands)
        left: list[tuple[int, Address | None]] = [(number, None) for number in range(len(commands))]
        for _ in range(_REDIRECTIONS):
            try:
                owners = self._owners or await self._table(until)
            except (Lost, Refused) as error:
                for number, _ in left:
                    answers[number] = error
                return answers
            groups: dict[Address, list[tuple[int, bool]]] = defaultdict(list)
            for number, named in left:
                slot = _slot(commands[number])
                groups[named or owners.get(-1 if slot is None else slot, self._last)].append(
                    (number, named is not None)
                )
            work = [self._ask(address, group, commands, until) for address, group in groups.items()]
            answered = [await work[0]] if len(work) == 1 else await asyncio.gather(*work)
            left = []
            for address, group, replies in zip(groups, groups.values(), answered, strict=True):
                for (number, _), reply in zip(group, replies, strict=True):
                    answers[number] = reply
                    if isinstance(reply, Refused) and (found := _NAMED.match(str(reply))):
                        other = (found[3] or address[0], int(found[4]))
                        if found[1] == "MOVED":
                            owners[int(found[2])] = self._last = other
                        left.append((number, other if found[1] == "ASK" else None))
                    elif self._owners is owners and (isinstance(reply, Lost) or _is_elsewhere(reply)):
                        self._owners, self._doubted = None, address
            if not left:
                break
        return answers

    async def _ask(
        self, address: Address, group: Sequence[tuple[int, bool]], commands: Sequence[Command], until: float
    ) -> list[Any]:
        """Return the answers of one node; `ASKING` precedes each command for a slot that is moving to the node."""
        if not any(asking for _, asking in group):
            answers = await self._connection_to(address).ask_all([commands[number] for number, _ in group], until)
        else:
            together: list[Command] = []
            for number, asking in group:
                together += [(b"ASKING",), without_line(commands[number])] if asking else [commands[number]]
            replies = iter(await self._connection_to(address).ask_all(together, until))
            answers = []
            for _, asking in group:
                if asking:
                    next(replies)
                answers.append(next(replies))
        for answer in answers:
            if isinstance(answer, Lost):
                answer.again = True  # another node may have taken over the slots at the next attempt
        return answers

    def _connection_to(self, address: Address) -> SharedConnection:
        connection = self._connections.get(address)
        if connection is None:
            connection = SharedConnection(lambda: self._connect(address), self._timeout)
            self._connections[address] = connection
        return connection

    async def _connect(self, address: Address) -> AbstractConnection:
        return await _connected(self._location.connection(address))

    async def _table(self, until: float) -> dict[int, Address]:
        """Return the owner of each slot; one request serves all callers."""
        if self._learning is None:
            self._learning = asyncio.get_running_loop().create_task(self._learn())
            self._learning.add_done_callback(self._learned)
        return await shielded(self._learning, until)

    def _learned(self, task: asyncio.Task[dict[int, Address]]) -> None:
        self._learning = None
        if not task.cancelled() and task.exception() is None:
            self._owners = task.result()

    async def _learn(self) -> dict[int, Address]:
        """Return the owner of each slot, from the first node that answers.

        Raises:
            Lost: No node answers.
            Refused: The server is not part of a cluster, or the user may not call `CLUSTER SLOTS`.
        """
        errors: list[str] = []
        causes: list[BaseException] = []
        known = dict.fromkeys([self._last, *self._connections, *self._location.addresses])
        for address in sorted(known, key=lambda one: one == self._doubted):
            until = monotonic() + min(self._timeout, REACH)
            (answer,) = await self._connection_to(address).ask_all([(b"CLUSTER", b"SLOTS")], until)
            if isinstance(answer, Refused) and not str(answer).startswith(("LOADING", *_ELSEWHERE)):
                raise answer
            if isinstance(answer, (Lost, Refused)):
                errors.append(f"{written(address)}: {answer}")
                causes.append(answer)
                continue
            owners: dict[int, Address] = {}
            for first, last, (host, port, *_), *_ in answer:
                owner = (host.decode() if host else address[0], int(port))
                owners.update(dict.fromkeys(range(first, last + 1), owner))
            self._last = address
            return owners
        text = f"no node of the cluster answers: {'; '.join(errors)}"
        raise Lost(text, sent=False, again=False, connected=False) from _permanent(causes)

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
        connections, self._connections = self._connections, {}
        await asyncio.gather(*(connection.close() for connection in connections.values()))


def _permanent(causes: Sequence[BaseException]) -> BaseException | None:
    """Return one of the errors, if each of them has a permanent reason, such as a certificate."""
    reasons = [why_unreachable(cause) for cause in causes]
    return causes[0] if all(reason is not None and reason.permanent for reason in reasons) else None


def _is_elsewhere(answer: object) -> bool:
    return isinstance(answer, Refused) and str(answer).startswith(_ELSEWHERE)


def _slot(command: Command) -> int | None:
    """Return the slot of a command's first key; None if it has no key."""
    index = 3 if command[0] in (b"EVALSHA", b"EVAL") else 1
    if len(command) <= index or command[0] in _KEYLESS:
        return None
    key = command[index]
    return key_slot(key) if isinstance(key, bytes) else None


_NAMED: Final = re.compile(r"(MOVED|ASK) ([0-9]+) (.*):([0-9]+)")
_KEYLESS: Final = (b"PING", b"CONFIG")


async def _connected(connection: AbstractConnection) -> AbstractConnection:
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException as error:
        await _drop(connection)
        handshake = "SSL handshake" in str(error)
        if handshake and isinstance(connection, EncryptedConnection) and await connection.speaks_plainly():
            raise Refused(PLAIN) from error
        raise
    return connection


async def _drop(connection: AbstractConnection) -> None:
    """Abort a connection: with TLS, closing it would wait for the server."""
    writer = connection._writer  # noqa: SLF001 - its transport is not public
    if writer is not None:
        writer.transport.abort()
    with suppress(Exception):
        await connection.disconnect(nowait=True)


async def _asked(connection: AbstractConnection, *command: str) -> Any:  # noqa: ANN401 - an answer of the server
    await connection.send_command(*command)
    return await connection.read_response(disable_decoding=True)
