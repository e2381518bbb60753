"""Where commands go, in one event loop: over one link, or over one to each node of a cluster."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from redis import exceptions
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot

from ._connection import Command, Link, Lost, Refused, any_failed, said, shielded
from ._location import Address, Place, written

_SENTINEL: Final = (
    1.0  # seconds for a sentinel to answer; then the next is asked (redis.io/docs/reference/sentinel-clients)
)
_CONNECT: Final = 5.0  # seconds at most to connect where there is another to ask
_HOPS: Final = 8  # so often a command is sent on at once
_ELSEWHERE: Final = ("CLUSTERDOWN", "MASTERDOWN", "READONLY")  # another may be what this one was


class Route(ABC):
    """Where commands go."""

    @abstractmethod
    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """As `Link.ask_all`; what has keys goes to whoever has them."""

    @abstractmethod
    async def close(self) -> None:
        """As `Link.close`."""

    @property
    @abstractmethod
    def peer(self) -> str | None:
        """As `Link.peer`, of one of them."""


def route_to(place: Place, timeout: float) -> Route:
    """The one to a place."""
    return {"server": _Server, "sentinel": _Master, "cluster": _Cluster}[place.kind](place, timeout)


class _Server(Route):
    def __init__(self, place: Place, timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._link = Link(self._connect, timeout)
        self._leaving: set[asyncio.Task[None]] = set()

    async def _connect(self) -> AbstractConnection:
        return await _connected(self._place.connection((*self._place.addresses, None)[0]))

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        link = self._link
        answers = await link.ask_all(commands)
        # the name may be another's by now
        if any_failed(answers) and link is self._link and any(map(_is_elsewhere, answers)):
            self._link = Link(self._connect, self._timeout)
            leaving = asyncio.get_running_loop().create_task(link.close())  # others wait for answers of it
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        return answers

    async def close(self) -> None:
        await asyncio.gather(self._link.close(), *self._leaving)

    @property
    def peer(self) -> str | None:
        return self._link.peer


class _Master(_Server):
    """Whoever the sentinels say is the master; they are asked again for each connection."""

    def __init__(self, place: Place, timeout: float) -> None:
        super().__init__(place, timeout)
        self._sentinels = list(place.addresses)

    async def _connect(self) -> AbstractConnection:
        address = await self._master()
        try:
            async with asyncio.timeout(min(self._timeout, _CONNECT)):
                connection = await _connected(self._place.connection(address))
        except (TimeoutError, OSError, exceptions.ConnectionError, exceptions.TimeoutError) as error:
            raise Lost(f"the master at {written(address)}: {said(error)}", sent=False) from error
        try:
            role = await _asked(connection, "ROLE")
        except exceptions.ResponseError:  # it is not allowed to ask: what is written to a replica is refused anyway
            return connection
        except BaseException:
            await _drop(connection)
            raise
        if role[0] != b"master":
            await _drop(connection)
            raise Lost("whoever the sentinels call the master is a replica", sent=False)
        return connection

    async def _master(self) -> Address:
        """The master's address.

        Raises:
            Lost: No sentinel answers, or none knows of a master.
        """
        errors, answered = [], False
        for sentinel in list(self._sentinels):
            connection = self._place.to_sentinel(sentinel)
            try:
                async with asyncio.timeout(min(self._timeout, _SENTINEL)):
                    await connection.connect()  # type: ignore[no-untyped-call]
                    found = await _asked(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._place.service)
            except (TimeoutError, OSError, exceptions.RedisError) as error:
                errors.append(f"{written(sentinel)}: {said(error)}")
                continue
            finally:
                await _drop(connection)
            answered = True
            if found is not None:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)  # it is the first to be asked next time
                return found[0].decode(), int(found[1])
            errors.append(f"{written(sentinel)}: it knows no master {self._place.service!r}")
        raise Lost(f"no sentinel names a master: {'; '.join(errors)}", sent=False, again=answered)


class _Cluster(Route):
    """The nodes of a cluster (redis.io/docs/reference/cluster-spec)."""

    def __init__(self, place: Place, timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._links: dict[Address, Link] = {}
        self._owners: dict[int, Address] | None = None  # of slots
        self._last: Address = place.addresses[0]
        self._doubted: Address | None = None
        self._learning: asyncio.Task[dict[int, Address]] | None = None

    @property
    def peer(self) -> str | None:
        return self._links[self._last].peer if self._last in self._links else None

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = [None] * len(commands)
        left: list[tuple[int, Address | None]] = [(number, None) for number in range(len(commands))]
        for _ in range(_HOPS):
            try:
                owners = self._owners or await self._table()
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
            work = [self._ask(address, group, commands) for address, group in groups.items()]
            told = [await work[0]] if len(work) == 1 else await asyncio.gather(*work)
            left = []
            for address, group, replies in zip(groups, groups.values(), told, strict=True):
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

    async def _ask(self, address: Address, group: Sequence[tuple[int, bool]], commands: Sequence[Command]) -> list[Any]:
        """The answers of one node; what it is only about to have is told it with a word before each command."""
        if not any(asking for _, asking in group):
            answers = await self._link(address).ask_all([commands[number] for number, _ in group])
        else:
            together: list[Command] = []
            for number, asking in group:
                together += [(b"ASKING",), commands[number]] if asking else [commands[number]]
            replies = iter(await self._link(address).ask_all(together))
            answers = []
            for _, asking in group:
                if asking:
                    next(replies)
                answers.append(next(replies))
        for answer in answers:
            if isinstance(answer, Lost):
                answer.again = True  # another may be in its place by then
        return answers

    def _link(self, address: Address) -> Link:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = Link(lambda: self._connect(address), self._timeout)
        return link

    async def _connect(self, address: Address) -> AbstractConnection:
        async with asyncio.timeout(min(self._timeout, _CONNECT)):
            return await _connected(self._place.connection(address))

    async def _table(self) -> dict[int, Address]:
        """Who has which slot, asked once for all who wait for it."""
        if self._learning is None:
            self._learning = asyncio.get_running_loop().create_task(self._learn())
            self._learning.add_done_callback(self._learned)
        return await shielded(self._learning)

    def _learned(self, task: asyncio.Task[dict[int, Address]]) -> None:
        self._learning = None
        if not task.cancelled() and task.exception() is None:
            self._owners = task.result()

    async def _learn(self) -> dict[int, Address]:
        """Who has which slot, from the first node that answers.

        Raises:
            Lost: None does.
            Refused: They are no cluster, or do not let us ask.
        """
        errors = []
        known = dict.fromkeys([self._last, *self._links, *self._place.addresses])
        for address in sorted(known, key=lambda one: one == self._doubted):
            answer: Any = Lost(f"no answer within {min(self._timeout, _CONNECT):g} s", sent=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._timeout, _CONNECT)):
                    (answer,) = await self._link(address).ask_all([(b"CLUSTER", b"SLOTS")])
            if isinstance(answer, Refused) and not str(answer).startswith(("LOADING", *_ELSEWHERE)):
                raise answer
            if isinstance(answer, (Lost, Refused)):
                errors.append(f"{written(address)}: {answer}")
                continue
            owners: dict[int, Address] = {}
            for first, last, (host, port, *_), *_ in answer:
                owner = (host.decode() if host else address[0], int(port))
                owners.update(dict.fromkeys(range(first, last + 1), owner))
            self._last = address
            return owners
        raise Lost(f"no node of the cluster answers: {'; '.join(errors)}", sent=False, again=False)

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
        links, self._links = self._links, {}
        await asyncio.gather(*(link.close() for link in links.values()))


def _is_elsewhere(answer: object) -> bool:
    return isinstance(answer, Refused) and str(answer).startswith(_ELSEWHERE)


def _slot(command: Command) -> int | None:
    """Where its first key is."""
    place = 3 if command[0] in (b"EVALSHA", b"EVAL") else 1
    if len(command) <= place or command[0] in _KEYLESS:
        return None
    key = command[place]
    return key_slot(key) if isinstance(key, bytes) else None


_NAMED: Final = re.compile(r"(MOVED|ASK) ([0-9]+) (.*):([0-9]+)")
_KEYLESS: Final = (b"PING", b"CONFIG")


async def _connected(connection: AbstractConnection) -> AbstractConnection:
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await _drop(connection)
        raise
    return connection


async def _drop(connection: AbstractConnection) -> None:
    """End a connection now: with TLS, a farewell would wait for the other side."""
    writer = connection._writer  # noqa: SLF001 - there is no other door to its transport
    with suppress(Exception):
        await connection.disconnect(nowait=True)
    if writer is not None:
        writer.transport.abort()


async def _asked(connection: AbstractConnection, *command: str) -> Any:  # noqa: ANN401 - what a server answers
    await connection.send_command(*command)
    return await connection.read_response(disable_decoding=True)
