"""Contract: an `open` that fails."""

from __future__ import annotations

import asyncio

import pytest

from ..backend import Backend
from ..errors import TurnlogError
from ..store import Store
from ._base import ContractBase
from ._material import ID, say
from ._open_files import open_files


class Opening(ContractBase):
    def unopenable(self) -> Backend | None:
        """Return a backend whose `open` fails, such as a backend at a path that is a folder; None: none is known."""
        return None

    async def test_an_open_that_fails(self) -> None:
        """If `open` fails, it raises a `TurnlogError`, leaves nothing open, and may be called again."""
        if (backend := self.unopenable()) is None:
            pytest.skip("the test class does not override `unopenable`")
        store, tasks = Store(backend), asyncio.all_tasks()
        for _ in range(2):  # the first one may load modules
            await _refused(store)
            files = open_files()
        for _ in range(3):
            await _refused(store)
        assert open_files() <= files, "files or connections stay open"
        assert asyncio.all_tasks() == tasks, "tasks go on"


async def _refused(store: Store) -> None:
    async def use() -> None:
        async with store:
            await store.append(ID, say("a"))  # a backend may connect at the first call

    with pytest.raises(TurnlogError):
        await use()
    await store.close()
