"""The Redis backend meets the short contract on a cluster whose slots constantly move between nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import pytest

import servers
from further_ways import FurtherWay
from redis_places import Mover, OnCluster
from turnlog import Store, user

REDIRECTIONS = ("errorstat_ASK", "errorstat_MOVED", "errorstat_TRYAGAIN")


class OnMovingCluster(OnCluster):
    """The contract on a cluster whose slots constantly move between nodes."""

    mover: ClassVar[Mover]

    @cached_property
    def url(self) -> str:
        assert self.mover.moves_on
        with self.mover.still:
            for node in self.nodes():
                servers.ask_redis(node, "FLUSHDB")
        return self.place()

    async def advance(self, seconds: float) -> None:
        with self.mover.still:
            await super().advance(seconds)


class TestClusterWhoseSlotsMove(FurtherWay):
    below = OnMovingCluster

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def moving(cls) -> Iterator[None]:
        """Move slots until the tests of the class end."""
        mover = OnMovingCluster.mover = Mover(servers.redis_cluster().nodes)
        yield
        assert mover.moves_on
        mover.stop()

    async def test_a_store_follows_the_slots(self, store: Store) -> None:
        """Store every turn while the nodes answer with each of the three redirections."""
        mover, number = OnMovingCluster.mover, 0
        before, end = mover.redirected(), time.monotonic() + 60
        while any(mover.redirected().get(kind, 0) == before.get(kind, 0) for kind in REDIRECTIONS):
            assert time.monotonic() < end
            for name in "abcdefgh":
                assert (await store.append(name, [user(str(number))])).number == number
            number += 1
        for name in "abcdefgh":
            assert [message.text for message in await store.load(name)] == [str(turn) for turn in range(number)]
