"""Several processes sweep one database at once."""

from __future__ import annotations

import asyncio
import os

from test_sql_sweep import LONG, TABLES, Place, fill, fill_many, place

__all__ = ["place"]


def test_processes_that_sweep_at_once_count_each_session_once(place: Place) -> None:
    """Four processes sweep with two stores each, and none fails."""

    async def prepare() -> None:
        async with place.store() as store:
            await fill_many(store, 350)
            await fill(store, "alive")
        await place.pass_time(LONG)

    async def sweep_twice() -> int:
        async with place.backend() as ours, place.backend() as theirs:
            return sum(await asyncio.gather(ours.sweep(), theirs.sweep()))

    asyncio.run(prepare())
    (gate, opener), (answers, answer) = os.pipe(), os.pipe()
    started = []
    for _ in range(4):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.close(opener)
                os.read(gate, 1)  # returns once the parent has closed its end
                os.write(answer, f"{asyncio.run(sweep_twice())} ".encode())
                code = 0
            finally:
                os._exit(code)
        started.append(pid)
    for end in (gate, opener, answer):
        os.close(end)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started] == [0] * 4
    counts = [int(count) for count in os.read(answers, 1000).split()]
    os.close(answers)
    assert (len(counts), sum(counts)) == (4, 350)
    assert all(len(place.sessions(table)) == 1 for table in TABLES)
