"""The SQL store keeps the contract on MariaDB."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Unpack

import pytest

import servers
from sql_places import ServerContract, emptied_mariadb
from turnlog import SessionNotFound, TooLarge, user
from turnlog.testing import StoreOptions
from turnlog_sql.mysql import MySQLStore, _MySQL


class TestMySQLStore(ServerContract):
    """The SQL store on MariaDB."""

    def empty(self) -> str:
        return emptied_mariadb()

    def store(self, url: str, **options: Unpack[StoreOptions]) -> MySQLStore:
        return MySQLStore(url, pool_size=5, sweep=0, **options)


@pytest.fixture
def packets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many statements went in each packet."""
    sent: list[int] = []
    send = _MySQL._send

    async def noted(self: _MySQL, connection: Any, statements: list[bytes]) -> Any:
        sent.append(b";".join(statements).count(b";") + 1)
        return await send(self, connection, statements)

    monkeypatch.setattr(_MySQL, "_send", noted)
    return sent


async def test_how_many_round_trips(packets: list[int]) -> None:
    """One for a read, and for an append to a session that was seen; two for a commit that looks for it first."""
    async with MySQLStore(emptied_mariadb(), sweep=0) as store, MySQLStore(emptied_mariadb(), sweep=0) as other:

        async def trips(work: Awaitable[object]) -> int:
            packets.clear()
            await work
            return len(packets)

        await other.erase("a")  # a connection is made
        assert await trips(store.append("a", [user("x")])) == 4  # it is looked for, the time asked, made, filled
        assert await trips(store.append("a", [user("x")])) == 1
        assert await trips(store.session("a")) == 1
        assert await trips(other.append("a", [user("x")])) == 2
        assert await trips(store.append("a", [user("x")])) == 3  # it is not where it was seen
        assert await trips(store.merge_metadata("a", {"title": "x"})) == 3
        assert await trips(store.erase("a")) == 2


async def test_a_statement_over_the_limit_of_the_server() -> None:
    """`max_allowed_packet`: it is refused here, as the server would end the connection; nothing of it is stored."""
    store = MySQLStore(servers.MariaDB("max-allowed-packet=1M").url, sweep=0, pool_size=1)
    async with store:
        connection = await lent(store)
        await store.append("a", [user("x")])
        for name in ("a", "b"):  # at once, and after a look
            with pytest.raises(TooLarge, match="raise its max_allowed_packet"):
                await store.append(name, [user("x" * (1 << 20))])
        await store.append("a", [user("y" * 1_000_000)])
        assert [len(turn.messages[0].text) for turn in (await store.session("a")).turns] == [1, 1_000_000]
        with pytest.raises(SessionNotFound):
            await store.info("b")
        assert await lent(store) is connection


async def lent(store: Any) -> object:
    """The connection that a store has."""

    async def itself(connection: object) -> object:
        return connection

    found: object = await store._database.with_connection(itself)
    return found
