"""The affinity example loses no turn when an instance dies, and its figures match its page."""

from __future__ import annotations

import asyncio
from typing import Self

import pytest
from redis.asyncio import Redis

import demo
import servers
from chat import Line
from demo import MODES, Figures, Load, Service, run
from turnlog_cache import choose

SESSIONS, ROUNDS = 40, 3


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, Figures]]:
    """Return the figures by mode and part; the run itself checks that no acknowledged turn is lost."""
    server = servers.Redis()  # a separate server, because the test counts its commands
    try:
        done = [asyncio.run(run(server.url, mode, SESSIONS, ROUNDS)) for mode in MODES]
    finally:
        server.stop()
    return {mode: {one.part: one for one in parts} for mode, parts in zip(MODES, done, strict=True)}


def test_each_mode_takes_the_same_turns(figures: dict[str, dict[str, Figures]]) -> None:
    assert [[one.turns for one in parts.values()] for parts in figures.values()] == [
        [SESSIONS * rounds for rounds in (1, 1, ROUNDS, 2, ROUNDS, 2, ROUNDS)]
    ] * 3


@pytest.mark.parametrize("mode", ["validate", "trust"])
def test_with_affinity_every_read_is_a_hit_unless_the_instances_change(
    mode: str, figures: dict[str, dict[str, Figures]]
) -> None:
    parts = figures[mode]
    for quiet in ("four instances", "three instances", "four instances again"):
        assert (parts[quiet].hits, parts[quiet].misses) == (SESSIONS * ROUNDS, 0), quiet
    for change in ("one is killed", "one is added"):
        assert 0 < parts[change].misses < SESSIONS * 0.6, change
    assert sum(one.stale for one in parts.values()) == 0


@pytest.mark.parametrize("mode", ["validate", "trust"])
def test_a_cache_saves_commands_and_bytes(mode: str, figures: dict[str, dict[str, Figures]]) -> None:
    for quiet in ("four instances", "three instances", "four instances again"):
        bare, cached = figures["off"][quiet], figures[mode][quiet]
        assert cached.commands < bare.commands - 0.5
        assert cached.bytes < bare.bytes / 2
    assert figures["trust"]["four instances"].commands < figures["validate"]["four instances"].commands - 2


def test_without_a_cache_there_are_no_hits(figures: dict[str, dict[str, Figures]]) -> None:
    assert not any((one.hits, one.misses, one.stale) != (0, 0, 0) for one in figures["off"].values())


# ------------------------------------------------------------------------------------------------------ a naive service


class Naive:
    """Instances that keep histories in memory only; the class is also the connection to their router."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, list[str]]] = {"one": {}, "two": {}}

    async def at(self, _: str) -> Self:
        return self

    async def ask(self, question: Line) -> Line:
        session = question["session"]
        said = self.said[choose(session, self.said)].setdefault(session, [])
        said.append(question["text"])
        return {"said": list(said)}

    def close(self) -> None:
        pass


async def test_instances_that_keep_the_histories_themselves_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    naive, service = Naive(), Service("", "naive")
    service.router = "any"
    monkeypatch.setattr(demo, "Peer", naive)
    async with Redis.from_url(servers.redis()) as redis:
        load = Load(service, redis, SESSIONS)
        await load.talk("two instances", rounds=ROUNDS)
        del naive.said["one"]
        with pytest.raises(AssertionError, match=r"acknowledged was .* the answer was"):
            await load.talk("one is gone")
