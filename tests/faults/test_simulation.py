"""The simulation finds nothing in turnlog, and finds each planted bug."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace

from simulated import STACKS, InMemory, InMemoryCached
from turnlog import OutcomeUnknown, Store, Unavailable, Version, user
from turnlog.errors import InvalidInput
from turnlog.rules import Header, SessionState
from turnlog.rules import state as state_module
from turnlog.testing.crowd import crowd
from turnlog.testing.faulty import FAULTS, FaultyBackend
from turnlog.testing.machine import machine
from turnlog.testing.simulation import Simulation, simulate
from turnlog.values.version import ExactVersion
from turnlog_cache._entry import Entry
from turnlog_memory import MemoryBackend

SEEDS = 1_000
"""Number of seeds within which each planted bug must be found."""


@pytest.mark.parametrize("kind", STACKS)
def test_stacks_agree_with_the_small_model(kind: type[Simulation]) -> None:
    for seed in range(25):
        simulate(kind, seed)


@pytest.mark.parametrize("kind", STACKS)
def test_a_crowd_loses_nothing(kind: type[Simulation]) -> None:
    for seed in range(8):
        crowd(kind, seed)


def test_hypothesis_can_drive_the_simulation() -> None:
    run_state_machine_as_test(machine(InMemoryCached), settings=settings(max_examples=8, stateful_step_count=40))


def found(run: Callable[[type[Simulation], int], None], kind: type[Simulation]) -> BaseException:
    """Return the failure of the first seed that fails."""
    for seed in range(SEEDS):
        try:
            run(kind, seed)
        except BaseException as error:  # noqa: BLE001 - a failure of the model, an error of the backend, or a group of these
            return error
    pytest.fail(f"no seed below {SEEDS} found the bug")


def no_version_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Version, "met_by", lambda *_: True)


def no_exact_version_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ExactVersion, "met_by", lambda self, now: self.version.met_by(now))


def no_change_id_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state_module._Ring, "find", lambda *_: None)


def seals_whatever_is_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state_module, "fits", lambda *_, **__: True)


def an_endless_life(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Header, "alive", lambda *_: True)


def a_life_that_use_does_not_extend(patch: pytest.MonkeyPatch) -> None:
    slide = Header.slide
    patch.setattr(Header, "slide", lambda self, *to: self if self.expires is not None else slide(self, *to))


def no_owner_check(patch: pytest.MonkeyPatch) -> None:
    apply = SessionState.apply

    def anybody(self: SessionState, change: Any, *more: Any, **options: Any) -> Any:
        owner = self.header.owner if self.header is not None else change.for_owner
        return apply(self, replace(change, for_owner=owner or None), *more, **options)

    patch.setattr(SessionState, "apply", anybody)


def a_cache_that_forgets_a_record(patch: pytest.MonkeyPatch) -> None:
    grown = Entry.grown

    def forgets(self: Entry, info: Any, records: Any, seen: float) -> Entry | None:
        return grown(self, info, records[:-1], seen)

    patch.setattr(Entry, "grown", forgets)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (no_version_check, InMemory),
        (no_exact_version_check, InMemory),
        (no_change_id_check, InMemory),
        (seals_whatever_is_stored, InMemory),
        (an_endless_life, InMemory),
        (a_life_that_use_does_not_extend, InMemory),
        (no_owner_check, InMemory),
        (a_cache_that_forgets_a_record, InMemoryCached),
    ],
)
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], kind: type[Simulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    error = found(simulate, kind)
    assert f"To repeat: simulate({kind.__name__}, seed=" in error.__notes__[-1]


@pytest.mark.parametrize("plant", [no_exact_version_check, no_change_id_check])
def test_a_crowd_finds_a_planted_bug(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert "To repeat: crowd(InMemory, seed=" in found(crowd, InMemory).__notes__[-1]


def test_a_seed_repeats_its_run() -> None:
    logs = []
    for _ in range(2):
        run = InMemory(Random(5))

        async def steps(run: Simulation = run) -> None:
            await run.open()
            for _ in range(40):
                await run.step()
            await run.close()

        asyncio.run(steps())
        logs.append(list(run.log))
    assert logs[0] == logs[1] != []


# ----------------------------------------------------------------------------------------------------- faults on demand


async def test_a_lost_request_stores_nothing_and_a_lost_reply_does() -> None:
    faulty = FaultyBackend(MemoryBackend())
    store = Store(faulty)
    faulty.fail_next("lose_request", "lose_reply")
    for expected in (0, 1):
        with pytest.raises(OutcomeUnknown) as caught:
            await store.append("s", [user("Hello")], turn_id="t")
        assert len(await texts(faulty)) == expected
    await store.resend(caught.value)
    assert await texts(faulty) == ["Hello"]


async def test_a_late_write_arrives_when_it_is_delivered() -> None:
    faulty = FaultyBackend(MemoryBackend())
    faulty.fail_next("late")
    with pytest.raises(OutcomeUnknown):
        await Store(faulty).append("s", [user("late")])
    await Store(faulty).append("s", [user("first")])
    await faulty.deliver()
    assert await texts(faulty) == ["first", "late"]


async def test_a_crashed_backend_refuses_calls_until_it_restarts() -> None:
    faulty = FaultyBackend(MemoryBackend())
    faulty.fail_next("crash")
    for error in (Unavailable, Unavailable):
        with pytest.raises(error):
            await Store(faulty).load("s")
    faulty.restart()
    await Store(faulty).append("s", [user("Hello")])


async def test_a_read_that_is_lost_is_unavailable() -> None:
    faulty = FaultyBackend(MemoryBackend())
    await Store(faulty).append("s", [user("Hello")])
    faulty.fail_next("lose_reply")
    with pytest.raises(Unavailable):
        await Store(faulty).load("s")
    assert len(await Store(faulty).load("s")) == 1


@pytest.mark.parametrize("rates", [{"lose": 0.1}, {"late": 2}, {"late": 0.6, "repeat": 0.6}])
def test_wrong_rates_are_refused(rates: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        FaultyBackend(MemoryBackend(), dice=None, **rates)


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(InvalidInput, match="lose_request"):
        FaultyBackend(MemoryBackend()).fail_next("explode")  # type: ignore[arg-type]
    assert "crash" in FAULTS


async def texts(faulty: FaultyBackend) -> list[str]:
    """Return the stored texts."""
    store = Store(faulty.inner)
    return [message.text for message in await store.load("s")] if await has(store) else []


async def has(store: Store) -> bool:
    return bool([info async for info in store.sessions()])
