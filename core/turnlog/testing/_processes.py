"""Contract: several processes may use one location at once.  For backends that declare `processes`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import ClassVar

from ..errors import Conflict, SessionNotFound
from ..values.capability import Capability
from ._base import ContractBase
from ._children import Child, Gate
from ._material import ID, history, say

NAMES = "ab"
"""The processes."""

TURNS = 12


class Processes(ContractBase):
    needs: ClassVar[frozenset[Capability]] = frozenset({"shared", "processes"})

    def test_appends_of_processes(self) -> None:
        """No append is lost if several processes write to one session at once, each process in its order."""
        self._in_children([partial(self._append_all, name) for name in NAMES])
        found = asyncio.run(self._history())
        assert sorted(found) == sorted(f"{name}{n}" for name in NAMES for n in range(TURNS))
        for name in NAMES:
            assert [text for text in found if text[0] == name] == [f"{name}{n}" for n in range(TURNS)]

    def test_compare_and_set_of_processes(self) -> None:
        """No update is lost if several processes compare a version and set a value."""
        self._in_children([self._count for _ in NAMES])
        assert asyncio.run(self._counted()) == len(NAMES) * TURNS

    def _in_children(self, works: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Run functions in processes that begin at the same moment, and wait for their end."""
        gate = Gate()
        children = []
        for work in works:

            async def begin(_: Callable[[str], None], work: Callable[[], Awaitable[None]] = work) -> None:
                gate.wait()
                await work()

            children.append(Child(begin))
        gate.open()
        for child in children:
            child.join()

    async def _append_all(self, name: str) -> None:
        async with self.made() as store:
            for n in range(TURNS):
                await store.append(ID, say(f"{name}{n}"))

    async def _count(self) -> None:
        async with self.made() as store:
            for _ in range(TURNS):
                while True:
                    try:
                        info = await store.info(ID)
                        value = info.metadata.get("n", 0)
                        assert isinstance(value, int)
                        await store.merge_metadata(ID, {"n": value + 1}, expect=info.version.exact)
                    except SessionNotFound:
                        await store.append(ID, say("begin"))
                    except Conflict:
                        continue
                    else:
                        break

    async def _history(self) -> list[str]:
        async with self.made() as store:
            return await history(store)

    async def _counted(self) -> object:
        async with self.made() as store:
            return (await store.info(ID)).metadata["n"]
