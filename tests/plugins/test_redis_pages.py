"""Pages on Redis: the order and the cursors across buckets, also with a proxy for several servers."""

from __future__ import annotations

from random import Random

import pytest

from redis_writers import Fate, Proxy, RedisStore, at, emptied, raw
from turnlog import Change, Key, Query, Record, user
from turnlog.values import Times
from turnlog_redis._layout import keys_of
from turnlog_redis._scripts import NEWEST

_SESSIONS = 200


async def pages(store: RedisStore, owner: str | None, limit: int) -> list[str]:
    """Return the session ids of all pages, in order."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.backend.page(Query(namespace="default", owner=owner, limit=limit, cursor=cursor))
        assert len(page.infos) <= limit and not page.damaged
        found += [info.key.session for info in page.infos]
        cursor = page.cursor
        if cursor is None:
            return found


async def filled(store: RedisStore) -> dict[str, tuple[float, str]]:
    """Store sessions with few times, so that many are equal; return the time and the owner of each."""
    dice, stored = Random(1), {}
    for number in range(_SESSIONS):
        session, time, owner = f"s{number}", float(dice.choice([1, 2, 2, 2, 3, number + 4])), dice.choice(["", "ann"])
        record = Record.of((user("x"),), id="t", time=time)
        times = Times(created=time, updated=time)
        await store.backend.commit(Key("default", session), Change(append=(record,), owner=owner, times=times))
        stored[session] = time, owner
    return stored


def expected(stored: dict[str, tuple[float, str]], owner: str | None) -> list[str]:
    """Return the order of a list."""
    ours = [name for name, (_, whose) in stored.items() if owner is None or whose == owner]
    return sorted(ours, key=lambda name: (-stored[name][0], name.encode()))


async def test_every_session_is_on_one_page_in_the_right_order() -> None:
    async with at(emptied()) as store:
        stored = await filled(store)
        for owner in (None, "ann", ""):
            for limit in (2, 40, 1000):
                assert await pages(store, owner, limit) == expected(stored, owner), (owner, limit)


async def test_servers_behind_a_proxy_are_asked_for_each_bucket() -> None:
    refused = 0

    def fate(command: list[bytes]) -> Fate:
        nonlocal refused
        if len(command) > 1 and command[1] in (NEWEST.sha, NEWEST.text):
            refused += 1
            return b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
        return None

    async with Proxy(emptied(), fate) as proxy, at(proxy.url) as store:
        stored = await filled(store)
        for _ in range(2):
            assert await pages(store, None, 30) == expected(stored, None)
        assert refused == 1


async def test_a_rare_prefix_is_searched_in_the_whole_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server compares the members, also with characters that mean something in its patterns."""
    monkeypatch.setattr("turnlog_redis._pages._SCANNED", 1)
    url = emptied()
    async with Proxy(url) as proxy, at(proxy.url) as store:
        rare = ["*", "a*b", "?", "[a]", "a[b-z]", "\\", "\\*", "^", "-", "]", "a-b", "é*"]
        for name in rare:
            await store.merge_metadata(name, {"x": 1}, owner="ann")
        many = {f"s{number}": (number, "") for number in range(600)}  # more than 128 entries of a bucket are a tree
        for name in many:
            await store.merge_metadata(name, {"x": 1})
        for prefix in ("*", "a", "a*", "?", "[", "[a", "a[", "\\", "^", "-", "]", "a-", "é", "none"):
            for owner in (None, "ann"):
                proxy.count()
                page = await store.list_sessions(owner=owner, prefix=prefix, limit=9)
                expected = [name for name in reversed(rare) if name.startswith(prefix)]
                assert ([info.key.session for info in page.infos], page.cursor) == (expected, None), prefix
                assert (b"ZSCAN" in proxy.commands) == (owner is None), "the owner has few sessions"
        proxy.count()
        page = await store.list_sessions(prefix="s", limit=9)
        assert [info.key.session for info in page.infos] == [f"s{number}" for number in range(599, 590, -1)]
        assert b"ZSCAN" not in proxy.commands, "the prefix is frequent"
        page = await store.list_sessions(prefix="s1", limit=300)
        assert (len(page.infos), page.cursor) == (111, None)
        first = await store.list_sessions(prefix="a", limit=2)
        rest = await store.list_sessions(prefix="a", limit=2, cursor=first.cursor)
        assert [info.key.session for info in (*first.infos, *rest.infos)] == ["a-b", "a[b-z]", "a*b"]


@pytest.mark.parametrize("many", [99, 150])
async def test_a_session_that_has_expired_is_not_listed_and_its_entry_removed(many: int) -> None:
    """The script returns the sessions of few entries; those of more entries are read after it."""
    url = emptied()
    async with at(url) as store:
        for number in range(many):
            await store.append(f"s{number}", [user("x")])
        await store.append("expired", [user("x")])
        with raw(url) as client:
            client.delete(keys_of("default", b"expired").session)  # as the server does
            index = keys_of("default", b"expired").listing
            assert client.zscore(index, b"expired\0") is not None
            assert sorted(await pages(store, None, 1000)) == sorted(f"s{number}" for number in range(many))
            assert client.zscore(index, b"expired\0") is None
