"""Contract: acknowledged turns survive the kill of their process.  For backends that declare `durable`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import ClassVar

from ..values.capability import Capability
from ._base import ContractBase
from ._children import Child
from ._material import ID, say, texts

KILLS = (1, 4, 9)
"""Number of acknowledged turns before each kill."""


class Crashing(ContractBase):
    needs: ClassVar[frozenset[Capability]] = frozenset({"shared", "processes", "durable"})

    def test_a_killed_writer(self) -> None:
        """After `kill -9` of a writer, each acknowledged turn is stored once and whole, and at most one more."""
        before: list[str] = []
        for kill, turns in enumerate(KILLS):
            child = Child(lambda report, kill=kill: self._append_until_killed(f"{kill}", report))  # type: ignore[misc]
            acknowledged = child.lines(turns)
            acknowledged += child.kill()
            assert acknowledged == [f"{kill}.{n}" for n in range(len(acknowledged))]
            before = asyncio.run(self._survived(before + acknowledged, f"{kill}.{len(acknowledged)}"))

    async def _append_until_killed(self, name: str, report: Callable[[str], None]) -> None:
        async with self.made() as store:
            for n in count():
                await store.append(ID, say(f"{name}.{n}", f"answer {name}.{n}"), turn_id=f"{name}.{n}")
                report(f"{name}.{n}")

    async def _survived(self, acknowledged: list[str], last: str) -> list[str]:
        """Check the history, and send the turn in doubt again; return the names of all turns."""
        async with self.made() as store:
            found = [texts(turn.messages) for turn in (await store.session(ID)).turns]
            stored = [name for name, *_ in found]
            assert stored in (acknowledged, [*acknowledged, last]), "an acknowledged turn was lost"
            await store.append(ID, say(last, f"answer {last}"), turn_id=last)
            found = [texts(turn.messages) for turn in (await store.session(ID)).turns]
            expected = [*acknowledged, last]
            assert found == [[name, f"answer {name}"] for name in expected], "a turn is stored in part, or twice"
            return expected
