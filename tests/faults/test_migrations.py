"""Migrations by many processes at once, and by processes that are killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Iterator

import pytest
from sqlalchemy import Dialect

from test_sql_migrations import LATER, NOW, Place, fill, fork, go_on, place, turnlog_of
from turnlog import Store
from turnlog_sql import _migrations

__all__ = ["place"]


def open_and_close(store: Store) -> None:
    """Open and close a store."""
    asyncio.run(store.open())
    asyncio.run(store.close())


def ended(pid: int) -> int:
    """Return the exit code of a process, or minus the number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def prepare(place: Place, *, filled: bool) -> None:
    """Empty a place, and fill the current tables if `filled`."""
    place.empty()
    if filled:
        asyncio.run(fill(place.store()))


@pytest.mark.parametrize("filled", [False, True])
def test_eight_processes_at_once_do_each_step_once(place: Place, filled: bool) -> None:
    """The processes start from an empty database, or from the current tables with a session."""
    prepare(place, filled=filled)
    gate, opener = os.pipe()

    def start() -> None:
        os.close(opener)
        os.read(gate, 1)  # returns once the parent has closed its end
        open_and_close(place.store())

    with turnlog_of(LATER):
        started = [fork(start) for _ in range(8)]
        os.close(gate)
        os.close(opener)
        assert [ended(pid) for pid in started] == [0] * 8
        asyncio.run(go_on(place.store(migrate="check"), filled=filled))
    assert place.versions() == list(range(NOW if filled else 1, LATER + 1))
    assert place.numbers("SELECT step FROM planted ORDER BY step") == [2, 3]
    assert not filled or place.numbers("SELECT extra FROM turnlog_sessions") == [7]


def die_at(at: int) -> None:
    """Kill this process before one statement of the steps, after the last one of a step, or at the end.

    The process cannot run anything else afterwards, so it must be a forked one.
    """
    count = itertools.count()
    found_missing = _migrations.missing

    def live_or_die() -> None:
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(step: list[str]) -> Iterator[str]:
        for statement in step:
            live_or_die()
            yield statement
        live_or_die()

    def missing(found: int | None, dialect: Dialect) -> Iterator[tuple[int, Iterator[str]]]:
        for version, step in found_missing(found, dialect):
            yield version, counted(step)
        live_or_die()

    _migrations.missing = missing  # type: ignore[assignment]


@pytest.mark.parametrize("filled", [False, True])
def test_the_next_process_finishes_an_interrupted_migration(place: Place, filled: bool) -> None:
    """The process is killed at each statement. The data is unchanged."""
    kills = 0
    for at in itertools.count():
        prepare(place, filled=filled)

        def start(at: int = at) -> None:
            die_at(at)
            open_and_close(place.store())

        with turnlog_of(LATER):
            code = ended(fork(start))
            kills += code == -signal.SIGKILL
            asyncio.run(go_on(place.store(), filled=filled))
        assert place.versions()[-1] == LATER
        assert sorted(set(place.numbers("SELECT step FROM planted"))) == [2, 3]
        if not code:
            break
    assert kills == at
    assert kills >= (8 if filled else 17)
