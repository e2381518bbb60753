"""A user of Redis that lacks one command of a change: the store is refused when it is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import servers
from test_read_only import READER
from turnlog import AccessError, open_store, user
from turnlog_redis import RedisBackend, _scripts

_NEEDED = sorted(_scripts._WITH_CHANGES)
_ALL = "on >pw resetkeys ~turnlog:* resetchannels -@all +eval +evalsha +ping"
_USER = "//partial:pw@"


@pytest.fixture
def url() -> Iterator[str]:
    """Return the URL of a user that each test gives its rights."""
    server = servers.redis()
    yield server.replace("//", _USER)
    servers.ask_redis(server, "ACL", "DELUSER", "partial")


def may(*names: str) -> None:
    """Allow the user to call these commands, and no others."""
    servers.ask_redis(servers.redis(), "ACL", "SETUSER", "partial", *_ALL.split(), *(f"+{name}" for name in names))


def test_the_check_knows_the_commands_of_all_scripts() -> None:
    called = {name for text in _scripts.TEXTS.values() for name in re.findall(rb"redis.p?call\('(\w+)'", text)}
    called |= {name for text in _scripts.TEXTS.values() for name in re.findall(rb"\bcall\('(\w+)'", text)}
    assert {name.decode() for name in called} - {"MEMORY"} == set(_NEEDED)


async def test_all_commands_together_suffice(url: str) -> None:
    may(*_NEEDED)
    async with open_store(url) as store:
        name = store.new_session_id()
        await store.append(name, [user("a")], owner="ann", metadata={"title": "x"})
        await store.merge_metadata(name, ttl=60.0, owner="bob")
        await store.rewind(name, turns=1)
        assert await store.erase(name)


@pytest.mark.parametrize("lacking", _NEEDED)
async def test_a_user_without_one_command(lacking: str, url: str) -> None:
    may(*(name for name in _NEEDED if name != lacking))
    with pytest.raises(AccessError) as caught:
        await RedisBackend(url).open()
    if lacking == "EXISTS":  # the first command of each opening
        assert "the server denies permission (NOPERM" in str(caught.value)
        return
    assert str(caught.value) == (
        f"redis {servers.place(url)}: the user may write, but may not call {lacking.lower()}, which changes need "
        f"as well: nothing was done; grant it to the user in the URL: +{lacking.lower()}"
    )


async def test_every_denied_command_is_named_at_once(url: str) -> None:
    may(*(name for name in _NEEDED if name not in ("LSET", "LTRIM")))
    with pytest.raises(AccessError, match=r"may not call lset, ltrim, .*URL: \+lset \+ltrim$"):
        await RedisBackend(url).open()


async def test_a_user_that_only_reads_is_accepted(url: str) -> None:
    servers.ask_redis(servers.redis(), "ACL", "SETUSER", "partial", "on", ">pw", *READER.split())
    async with open_store(url) as store:
        with pytest.raises(AccessError, match="denies permission"):
            await store.append(store.new_session_id(), [user("a")])


async def test_one_node_of_a_cluster_denies_a_command() -> None:
    cluster = servers.redis_cluster()
    try:
        for node in cluster.nodes:
            rights = [f"+{name}" for name in _NEEDED if node is not cluster.nodes[1] or name != "LREM"]
            node.ask("ACL", "SETUSER", "partial", *_ALL.split(), "+cluster|slots", "+asking", *rights)
        with pytest.raises(AccessError, match="may not call lrem, "):
            await RedisBackend(cluster.url.replace("//", _USER)).open()
    finally:
        for node in cluster.nodes:
            node.ask("ACL", "DELUSER", "partial")


async def test_a_renamed_command() -> None:
    settings = servers.folder_for("renamed") / "settings"
    settings.write_text("rename-command LTRIM other\n")
    server = servers.Redis(f"include={settings}")
    with pytest.raises(AccessError, match="may not call ltrim, "):
        await RedisBackend(server.url).open()
