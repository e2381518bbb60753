"""The SQL backend meets the contract on MariaDB."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

import servers
from sql_places import OverMariaDB, emptied_mariadb, keeps_every_byte
from turnlog import Change, Key, Record, SessionNotFound, Store, TooLarge, assistant, user
from turnlog_sql.mysql import MySQLBackend, _MySQL


class TestMySQLStore(OverMariaDB):
    """The SQL backend on MariaDB."""

    async def test_every_byte_of_a_payload(self, store: Store) -> None:
        await keeps_every_byte(store)


@pytest.fixture
def packets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of statements in each packet."""
    sent: list[int] = []
    send = _MySQL._send

    async def noted(self: _MySQL, connection: Any, statements: list[bytes]) -> Any:
        sent.append(b";".join(statements).count(b";") + 1)
        return await send(self, connection, statements)

    monkeypatch.setattr(_MySQL, "_send", noted)
    return sent


def at(url: str, **options: Any) -> Store:
    """Return a store at this URL that does not sweep."""
    return Store(MySQLBackend(url, sweep=0, **options))


async def test_how_many_round_trips(packets: list[int]) -> None:
    """A read takes one, as does an append to a known session; a commit that looks the session up takes two."""
    async with at(emptied_mariadb()) as store, at(emptied_mariadb()) as other:

        async def trips(work: Awaitable[object]) -> int:
            packets.clear()
            await work
            return len(packets)

        await other.erase("a")  # connect
        assert await trips(store.append("a", [user("x")])) == 4  # find, ask the time, create, fill
        assert await trips(store.append("a", [user("x")])) == 1
        assert await trips(store.session("a")) == 1
        assert await trips(other.append("a", [user("x")])) == 2
        assert await trips(store.append("a", [user("x")])) == 3  # the version is no longer the known one
        assert await trips(store.merge_metadata("a", {"title": "x"})) == 3
        assert await trips(store.erase("a")) == 2


async def test_what_is_looked_at_does_not_grow_with_the_history() -> None:
    """The server reads equally many rows and keys for a short and for a long session."""
    async with at(emptied_mariadb(), pool_size=1) as store:
        looked_at = []
        for turns in (60, 600):
            key = Key("default", f"s{turns}")
            said = (Record.of((user("x"), assistant("y")), id=f"t{number}", time=0.0) for number in range(turns))
            version = (await store.backend.commit(key, Change(append=tuple(said)))).version
            await store.append(key.session, [user("x")])
            works: list[Callable[[], Awaitable[object]]] = [
                partial(store.backend.read, key, last=20),
                partial(store.backend.read, key, last=20, before=40),
                partial(store.backend.read, key, last=20, since=version),
                partial(store.append, key.session, [user("x")]),
            ]
            looked_at.append([await rows_read(store, work) for work in works])
        assert looked_at[0] == looked_at[1]


async def rows_read(store: Any, work: Callable[[], Awaitable[object]]) -> int:
    """Return the number of rows and keys that the server reads for the work."""

    async def asked(sql: str) -> Any:
        database = store.backend._database
        return await database.with_connection(lambda connection: database.fetch(connection, sql, ()))

    await asked("FLUSH STATUS")
    await work()
    return sum(int(count) for _, count in await asked("SHOW SESSION STATUS LIKE 'Handler_read_%'"))


async def test_a_statement_over_the_limit_of_the_server() -> None:
    """The client refuses a statement over `max_allowed_packet`, because the server would close the connection."""
    async with at(servers.MariaDB("max-allowed-packet=1M").url, pool_size=1) as store:
        connection = await lent(store)
        await store.append("a", [user("x")])
        for name in ("a", "b"):  # known session, unknown session
            with pytest.raises(TooLarge, match="increase max_allowed_packet on the server"):
                await store.append(name, [user("x" * (1 << 20))])
        await store.append("a", [user("y" * 1_000_000)])
        assert [len(turn.messages[0].text) for turn in (await store.session("a")).turns] == [1, 1_000_000]
        with pytest.raises(SessionNotFound):
            await store.info("b")
        assert await lent(store) is connection


async def lent(store: Any) -> object:
    """Return the only connection of a store."""

    async def itself(connection: object) -> object:
        return connection

    found: object = await store.backend._database.with_connection(itself)
    return found
