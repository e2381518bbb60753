"""A closed backend leaves no connection in memory."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

import servers
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import open_store, user


def transports() -> int:
    """Return the number of connections in memory, open or closed."""
    gc.collect()
    return sum(issubclass(type(one), asyncio.BaseTransport) for one in gc.get_objects())


@pytest.mark.parametrize("place", [servers.redis, emptied_postgresql, emptied_mariadb])
def test_no_connection_stays_in_memory(place: Callable[[], str]) -> None:
    url = place()

    async def use() -> None:
        async with open_store(url) as store:
            await store.append("s", [user("q")])

    asyncio.run(use())
    before = transports()
    for _ in range(3):
        asyncio.run(use())
    assert transports() == before
