"""The layout of sessions in Redis: their keys, their damage, and the same answers as `SessionState`."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from functools import reduce
from itertools import combinations, count
from operator import xor
from typing import Any, TypeVar

import msgspec
import pytest
import redis
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.crc import key_slot

from redis_writers import FORGETFUL, UNCHECKED, RedisStore, at, emptied, place_of, planted, raw
from turnlog import (
    ABSENT,
    PRESENT,
    Change,
    CorruptRecord,
    Expect,
    Key,
    Query,
    Record,
    Session,
    SessionInfo,
    SessionNotFound,
    Version,
    assistant,
    user,
)
from turnlog.errors import InvalidInput, TurnlogError
from turnlog.limits import REMEMBERED_CHANGES
from turnlog.rules import SessionState
from turnlog_redis import RedisBackend, _layout
from turnlog_redis._layout import BUCKETS, CHANGES, RECORD, RECORDS, index_of, keys_of

T = TypeVar("T")

HOSTILE = ["s", "*", "a[b-z]", "%", "_", "{", "}", "{}", "{0}", "x}{y", "1:s", ":", "::", "s:meta", "a:1:b", "5:s:1:a"]
HOSTILE += ["é", "e\u0301", "日本", "a b", "s ", "\\", "?", '"', "\U0001f600", "a" * 255]


# ---------------------------------------------------------------------------------------------------------------- keys

ids = st.text(st.sampled_from("ab:{}*%[é1 ") | st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
pairs = st.tuples(ids, ids)


def decoded(place: bytes) -> tuple[str, str]:
    """Return the namespace and the session id of a key. Both can be decoded, so no two sessions share a key."""
    _, _, rest = place.partition(b"}:s:")
    length, _, rest = rest.partition(b":")
    return rest[: int(length)].decode(), rest[int(length) + 1 :].decode()


@given(pairs)
@example(("a:1:b", "c"))
@example(("{1}", "{2}"))
def test_a_key_names_its_session_and_its_hash_tag_is_its_bucket(pair: tuple[str, str]) -> None:
    namespace, session = pair
    keys = keys_of(namespace, session.encode())
    assert decoded(keys.session) == pair
    assert 0 <= keys.bucket < BUCKETS
    assert keys.prefix + keys.member == keys.session
    slot = key_slot(b"%d" % keys.bucket)
    assert key_slot(keys.session) == key_slot(keys.listing) == slot
    assert key_slot(index_of(keys.bucket, namespace, session)) == slot


@given(st.lists(pairs, min_size=2, max_size=6, unique=True), st.integers(0, BUCKETS - 1))
@example([("a", "b:c"), ("a:b", "c"), ("a", "1:b"), ("1:a", "b")], 0)
def test_no_two_keys_or_indexes_share_a_place(found: list[tuple[str, str]], bucket: int) -> None:
    places = [keys_of(namespace, session.encode()).session for namespace, session in found]
    places += {index_of(bucket, namespace, None) for namespace, _ in found}
    places += [index_of(bucket, namespace, owner) for namespace, owner in found]
    assert len(set(places)) == len(places)


def test_a_key_that_is_only_joined_would_collide() -> None:
    """The naive key joins the parts. The example of the test above detects the collision."""
    found = [("a", "b:c"), ("a:b", "c")]
    assert len({":".join(pair) for pair in found}) < len(
        {keys_of(*pair) for pair in ((n, s.encode()) for n, s in found)}
    )


@pytest.mark.parametrize("bad", ["", "a\nb", "a\0b", "\x7f", " ", "a" * 256, "\ud800"])
def test_an_invalid_name_is_refused_before_it_is_a_key(bad: str) -> None:
    for names in ((bad, "s"), ("n", bad)):
        with pytest.raises(InvalidInput):
            Key(*names)


def test_buckets_spread_over_three_nodes() -> None:
    """Each node has a third of the buckets within 12 %, for the slots that redis-cli assigns to three nodes."""
    nodes = [0, 0, 0]
    for bucket in range(BUCKETS):
        nodes[min(2, key_slot(b"%d" % bucket) * 3 // 16384)] += 1
    assert all(abs(node * 3 / BUCKETS - 1) <= 0.12 for node in nodes), nodes


def every(client: redis.Redis, kind: bytes) -> list[bytes]:
    """Return all keys of one kind: s for sessions, i for indexes of a namespace, o for indexes of an owner."""
    keys: list[Any] = list(client.keys("turnlog:*"))
    return [key for key in keys if key.partition(b"}")[2].startswith(b":%b:" % kind)]


async def test_hostile_names_are_sessions_of_their_own() -> None:
    """Each returns its own text. A deletion removes one session, and a namespace lists its own sessions."""
    url = emptied()
    async with at(url) as store:
        for namespace in HOSTILE:
            tenant = store.within(namespace)
            await asyncio.gather(*(tenant.append(name, [user(f"{namespace}|{name}")]) for name in HOSTILE))
        for namespace in HOSTILE:
            tenant = store.within(namespace)
            said = await asyncio.gather(*(tenant.load(name) for name in HOSTILE))
            assert [messages[0].text for messages in said] == [f"{namespace}|{name}" for name in HOSTILE]
            assert sorted([info.key.session async for info in tenant.sessions()]) == sorted(HOSTILE)
        for deleted, name in enumerate(HOSTILE, 1):
            assert await store.backend.delete(Key("*", name))
            with raw(url) as client:
                assert len(every(client, b"s")) == len(HOSTILE) ** 2 - deleted


# -------------------------------------------------------------------------------------------------------------- damage

TURNS = 6
KEY = Key("default", "alice")
ALICE = place_of("alice")


async def kept(store: RedisStore, name: str = "alice") -> Version:
    """Write a session of a few turns with an owner and metadata; return the version after the third turn."""
    versions = []
    for turn in range(TURNS):
        said = [user(f"question {turn}"), assistant(f"answer {turn}")]
        receipt = await store.append(name, said, turn_id=f"t{turn}", owner="ann", metadata={"title": "T"})
        versions.append(receipt.version)
    return versions[2]


async def looked(store: RedisStore, version: Version) -> None:
    """Call every operation on a session. Each answers, or raises a known error that names this session."""
    append = Record.of((user("more"),), id="more", time=0.0)
    asked: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: store.load("alice"),
        lambda: store.load("alice", last=3),
        lambda: store.load("alice", last=3, before=4),
        lambda: store.backend.read(KEY, since=version),
        lambda: store.backend.read(KEY, since=version, last=2),
        lambda: store.info("alice"),
        lambda: store.touch("alice"),
        lambda: store.rewind("alice", turns=1),
        lambda: store.merge_metadata("alice", {"a": 1}),
        lambda: store.append("alice", [user("question 5"), assistant("answer 5")], turn_id="t5"),
        lambda: store.backend.commit(KEY, Change(append=(append,), retain=2)),
        lambda: store.fork("alice", "carol"),
        lambda: store.backend.commit(KEY, Change(append=(append,), expect=version)),
        lambda: store.for_owner("ben").append("alice", [user("more")]),
        lambda: store.for_owner("ann").append("alice", [user("question 5"), assistant("answer 5")], turn_id="t5"),
    ]
    for ask in asked:
        try:
            await ask()
        except CorruptRecord as error:
            assert error.key == KEY
        except TurnlogError as error:
            assert type(error).__name__ in ("Conflict", "HistoryRegressed", "IdReused", "SessionNotFound")


ELEMENTS = {"header": 0, "metadata": 1, "hashes": 2, "change": CHANGES + TURNS - 1, "record": RECORDS + 2}
VALUES = [b"", b"text", b"\xc1", b"\xff" * 79, b"\xff" * 200, b"\0" * 80, b"\0" * 400]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
async def test_a_wrong_element_is_damage_and_no_crash(element: str, value: bytes) -> None:
    """Each reader gets an error that names this session. Other sessions are unaffected."""
    url = emptied()
    async with at(url) as store, at(url) as other:
        version = await kept(store)
        await kept(store, "bob")
        with raw(url) as client:
            sound = client.lrange(ALICE, 0, -1)
            client.lset(ALICE, ELEMENTS[element], value)
            with pytest.raises(CorruptRecord, match="alice") if element not in ("hashes", "change") else nothing():
                _ = (await other.session("alice")).messages
            assert (await other.backend.page(Query(namespace="default"))).infos[0].key.session == "bob"
            damaged = client.dump(ALICE)
            await looked(store, version)
            client.restore(ALICE, 0, damaged, replace=True)
            await looked(other, version)
            assert len(await other.load("bob")) == 2 * TURNS
            client.delete(ALICE)
            client.rpush(ALICE, *sound)
        assert len(await other.load("alice")) == 2 * TURNS


NUMBERS = [float("nan"), float("inf"), float("-inf"), -1.0, 1e308, 2.0**53, 2.0**64]


@pytest.mark.parametrize("field", ["updated", "first", "start", "bytes", "changes", "created"])
async def test_a_forged_number_with_a_right_sum_is_corrupt(field: str) -> None:
    url = emptied()
    async with at(url) as store:
        version = await kept(store)
        with raw(url) as client:
            data = client.lindex(ALICE, 0)
            place = _layout.HEADER[field] - 1
            for number in NUMBERS:
                if number == -1.0 and field in ("bytes", "created"):
                    continue  # sizes are estimates, and a turn may be older than 1970
                forged = data[:place] + struct.pack(">d", number) + data[place + 8 :]
                total = reduce(xor, struct.unpack_from(f">{_layout.WORDS}I", forged)).to_bytes(4)
                forged = forged[: _layout.WORDS * 4] + total + forged[_layout.WORDS * 4 + 4 :]
                client.lset(ALICE, 0, forged)
                async with at(url) as other:
                    for ask in (other.load, other.info, other.pop):
                        with pytest.raises(CorruptRecord) as caught:
                            await ask("alice")
                        assert caught.value.key == KEY
                    await looked(other, version)


@pytest.mark.parametrize("name", [b"\xff", b"a\nb", b"x" * 256], ids=repr)
async def test_an_entry_of_the_index_that_is_no_session_id_is_corrupt(name: bytes) -> None:
    url = emptied()
    async with at(url) as store:
        await kept(store)
        keys = keys_of("default", name)
        with raw(url) as client:
            client.restore(keys.session, 0, client.dump(ALICE))
            client.zadd(keys.listing, {name: 5e9})
        page = await store.backend.page(Query(namespace="default"))
        assert [info.key.session for info in page.infos] == ["alice"]
        assert ["damaged id" in str(error) for error in page.damaged] == [True]


def nothing() -> AbstractContextManager[None]:
    """Return a context that expects no error."""
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize("element", ["header", "metadata", "record"])
async def test_no_flipped_bit_is_silently_wrong(element: str) -> None:
    """A read raises an error that names the session, or returns the right contents."""
    url, place = emptied(), ELEMENTS[element]
    async with at(url) as store:
        await kept(store)

        async def all_of_it() -> Any:
            session = await store.session("alice", touch=False)
            return session.info, [message.to_dict() for message in session.messages], session.turns

        wanted = await all_of_it()
        with raw(url) as client:
            data = client.lindex(ALICE, place)
            for bit in range(0, len(data) * 8, 3):  # each byte, and each bit position
                damaged = bytearray(data)
                damaged[bit // 8] ^= 1 << bit % 8
                client.lset(ALICE, place, bytes(damaged))
                try:
                    found = await all_of_it()
                except CorruptRecord as error:
                    assert error.key == KEY
                else:
                    assert found == wanted, f"bit {bit}"


async def test_a_seal_that_saves_no_byte_is_noticed() -> None:
    """The seal changes the header, so a writer that saw the session before cannot cut at a record that was removed."""
    url = emptied()
    async with at(url) as store:
        client = raw(url)
        for number in range(3):
            await store.append("alice", [user(f"{number}")], turn_id=f"t{number}")
        key = Key("default", "alice")
        records = (await store.backend.read(key)).records
        before = client.lindex(place_of("alice"), 0)
        size = sum(record.size for record in records)
        assert await store.backend.seal(key, Record.seal(records).sealed_at(records[-1], size))
        assert (await store.info("alice")).bytes == size
        assert client.llen(place_of("alice")) == RECORDS + 1
        assert client.lindex(place_of("alice"), 0) != before
        receipt = await store.append("alice", [user("2")], turn_id="t2")
        assert (receipt.number, receipt.previous) == (2, receipt.version), "the change is remembered"
        client.close()


async def test_a_session_under_another_key_is_detected() -> None:
    """The key was renamed. Every checksum covers the session's key."""
    url = emptied()
    async with at(url) as store, at(url) as other:
        version = await kept(store)
        await kept(store, "bob")
        with raw(url) as client:
            client.rename(place_of("bob"), ALICE)
        for fresh in (other, store):
            for asked in ({}, {"last": 1}, {"since": version}, {"last": 0}):
                with pytest.raises(CorruptRecord, match="header is damaged") as caught:
                    await fresh.backend.read(KEY, **asked)
                assert caught.value.key == KEY
            with pytest.raises(CorruptRecord, match="header is damaged"):
                await fresh.append("alice", [user("?")])
            with pytest.raises(SessionNotFound):
                await fresh.load("bob")
        with raw(url) as client:
            assert client.llen(ALICE) == RECORDS + TURNS


async def test_a_key_that_is_no_list_is_damage_and_hides_no_other_session() -> None:
    url = emptied()
    async with at(url) as store:
        version = await kept(store)
        await kept(store, "bob")
        with raw(url) as client:
            client.set(ALICE, "text")
        with pytest.raises(CorruptRecord, match="alice"):
            await store.load("alice")
        with pytest.raises(CorruptRecord, match="alice"):
            await store.append("alice", [user("?")])
        await looked(store, version)
        assert [info.key.session for info in (await store.backend.page(Query(namespace="default"))).infos] == ["bob"]


@pytest.mark.parametrize("turn", range(TURNS))
async def test_each_read_of_a_lost_record_detects_the_loss(turn: int) -> None:
    url = emptied()
    async with at(url) as store, at(url) as other:
        await kept(store)
        version = (await store.info("alice")).version
        with raw(url) as client:
            client.lrem(ALICE, 1, client.lindex(ALICE, RECORDS + turn))
        for reader in (store, other):
            with pytest.raises(CorruptRecord, match="missing"):
                await reader.load("alice")
            for last in range(1, 2 * TURNS + 1):
                asked = range(max(0, TURNS - (last + 1) // 2), TURNS)
                try:
                    found = await reader.session("alice", last=last)
                except CorruptRecord:
                    assert turn in asked or turn - 1 in asked
                else:
                    assert turn not in asked
                    assert [one.number for one in found.turns] == list(asked)
            for before in range(TURNS + 1):
                try:
                    found = await reader.backend.read(KEY, before=before)
                except CorruptRecord:
                    assert turn < before
                else:
                    assert turn >= before
            assert (await reader.backend.read(KEY, since=version)).continues
        await looked(store, version)


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, -2), (0, RECORDS), (0, RECORDS - 1), (0, 9), (0, 2), (0, 1), (0, 0), (1, -1), (3, -1), (-1, -1)],
)
async def test_missing_elements_are_detected(start: int, stop: int) -> None:
    """Elements are missing at the end or at the beginning. No write makes the damage worse."""
    url = emptied()
    async with at(url) as store, at(url) as other:
        version = await kept(store)
        with raw(url) as client:
            client.ltrim(ALICE, start, stop)
            left = client.lrange(ALICE, 0, -1)
        for reader in (store, other):
            with pytest.raises(CorruptRecord, match="alice"):
                await reader.load("alice")
            with pytest.raises(CorruptRecord, match="alice"):
                await reader.load("alice", last=20)
        if len(left) < RECORDS or start:
            for writer in (store, other):
                with pytest.raises(CorruptRecord, match="alice"):
                    await writer.append("alice", [user("?")])
            with raw(url) as client:
                assert client.lrange(ALICE, 0, -1) == left
        await looked(store, version)


async def test_a_damaged_session_is_on_its_page_and_can_be_deleted() -> None:
    url = emptied()
    async with at(url) as store, at(url) as other:
        for name in "abc":
            await store.append(name, [user("x")], owner="ann")
        with raw(url) as client:
            client.lset(place_of("b"), 0, b"\xc1")
        for owner in (None, "ann"):
            for limit in (1, 2, 100):
                found, damaged, cursor = [], [], None
                while True:
                    query = Query(namespace="default", owner=owner, limit=limit, cursor=cursor)
                    page = await other.backend.page(query)
                    found += [info.key.session for info in page.infos]
                    damaged += [error.key for error in page.damaged]
                    cursor = page.cursor
                    if cursor is None:
                        break
                assert (found, damaged) == (["c", "a"], [Key("default", "b")])
        assert len(await other.load("a")) == 1
        assert await other.backend.delete(Key("default", "b"))
        page = await other.backend.page(Query(namespace="default"))
        assert ([info.key.session for info in page.infos], page.damaged) == (["c", "a"], ())


async def test_a_damaged_session_is_deleted_for_its_owner_alone() -> None:
    """The owner is taken from the element. If its two copies of the owner differ, no owner is trusted."""
    url = emptied()
    async with at(url) as store:
        for sound in (True, False):
            await store.append("alice", [user("x")], owner="ann")
            with raw(url) as client:
                data = client.lindex(ALICE, 0)
                client.lset(ALICE, 0, data[:-1] if sound else data.replace(b"ann", b"bob", 1))
            if sound:
                assert not await store.backend.delete(KEY, for_owner="bob")
                assert await store.backend.delete(KEY, for_owner="ann")
            else:
                for owner in ("ann", "bob"):
                    with pytest.raises(CorruptRecord, match="alice"):
                        await store.backend.delete(KEY, for_owner=owner)
                assert await store.backend.delete(KEY)


async def test_metadata_that_are_older_are_noticed() -> None:
    url = emptied()
    async with at(url) as store, at(url) as other:
        await kept(store)
        with raw(url) as client:
            old = client.lindex(ALICE, 1)
            await store.merge_metadata("alice", {"title": "new"})
            client.lset(ALICE, 1, old)
        for last in (None, 0, 1):
            with pytest.raises(CorruptRecord, match="metadata"):
                await other.backend.read(KEY, last=last)
        page = await other.backend.page(Query(namespace="default"))
        assert [error.key for error in page.damaged] == [KEY]


@pytest.mark.parametrize("owner", [None, "ann"])
async def test_a_wrong_time_in_the_index_is_reported_and_put_right(owner: str | None) -> None:
    """A listing reports the session instead of omitting it."""
    url = emptied()
    async with at(url) as store:
        await store.append("alice", [user("x")], owner="ann")
        index = _layout.index_of(keys_of("default", b"alice").bucket, "default", owner)
        with raw(url) as client:
            member = b"alice" if owner else b"alice\0ann"
            client.zadd(index, {member: client.zscore(index, member) - 1e6})
        query = Query(namespace="default", owner=owner)
        page = await store.backend.page(query)
        assert (page.infos, [error.key for error in page.damaged]) == ((), [KEY])
        page = await store.backend.page(query)
        assert ([info.key for info in page.infos], page.damaged) == ([KEY], ())


@pytest.mark.parametrize("field", ["number", "turns", "count", "messages_until"])
async def test_a_damaged_number_of_a_record_drops_no_turn_that_is_retained(field: str) -> None:
    url = emptied()
    async with at(url) as store:
        await kept(store)
        with raw(url) as client:
            data = client.lindex(ALICE, RECORDS + 1)
            place = RECORD[field] - 1
            (number,) = struct.unpack_from(">d", data, place)
            client.lset(ALICE, RECORDS + 1, data[:place] + struct.pack(">d", number + 2) + data[place + 8 :])
            before = client.lrange(ALICE, 0, -1)
            with pytest.raises(CorruptRecord, match="alice"):
                await store.backend.commit(KEY, Change(append=(Record.of((user("x"),), id="x", time=0.0),), retain=3))
            assert client.lrange(ALICE, 0, -1) == before


# --------------------------------------------------------------------------------------------------------------- index


def places(client: redis.Redis) -> int:
    """Return the number of entries in all indexes."""
    return sum(client.zcard(key) for kind in (b"i", b"o") for key in every(client, kind))


def expire(client: redis.Redis, names: list[str]) -> None:
    """Expire sessions, and wait until the server has removed them."""
    for name in names:
        client.pexpire(place_of(name), 1)
    while any(client.exists(place_of(name)) for name in names):
        pass


async def test_expired_sessions_leave_the_index() -> None:
    """Commits remove expired entries, without any listing. No index outlives its sessions."""
    url = emptied()
    async with at(url, ttl=3600) as store:
        dead = [f"dead {number}" for number in range(1000)]
        await asyncio.gather(*(store.append(name, [user("x")], owner=f"owner {name}") for name in dead))
        with raw(url) as client:
            expire(client, dead)
            assert places(client) == 2000
            for number in range(20):
                await asyncio.gather(*(store.append(f"s{place}", [user(str(number))]) for place in range(200)))
            assert places(client) <= 2 * 200


async def test_a_page_omits_expired_sessions_and_removes_their_entries() -> None:
    url = emptied()
    async with at(url) as store:
        names = [f"s{number:03}" for number in range(300)]
        for name in names:
            await store.append(name, [user("x")], owner="ann")
        with raw(url) as client:
            expire(client, names[::2])
            found = [info.key.session async for info in store.sessions()]
            assert found == names[::-2]
            assert [info.key.session async for info in store.sessions(owner="ann")] == found
            assert places(client) == 2 * 150
            await store.erase_owner("ann")
            assert not client.keys("*")


async def test_a_namespace_without_an_index_leaves_the_list() -> None:
    """The server may evict an index, or a page may have removed its expired sessions."""
    url = emptied()
    async with at(url) as store:
        for name in ("a", "b"):
            await store.within(name).append("s", [user("x")])
        with raw(url) as client:
            client.delete(*every(client, b"i"))
            assert await store.backend.namespaces() == []
            assert every(client, b"n") == []


@pytest.mark.parametrize("entry", [b"\xff", b"", b"x" * 256])
async def test_a_damaged_entry_in_the_list_of_namespaces_is_reported(entry: bytes) -> None:
    url = emptied()
    async with at(url) as store:
        await store.append("alice", [user("x")])
        with raw(url) as client:
            client.zadd("turnlog:{0}:n", {entry: 0})
            client.zadd(b"turnlog:{0}:i:" + entry, {"s": 0})
        with pytest.raises(CorruptRecord, match="damaged entry"):
            await store.backend.namespaces()


async def test_pages_while_others_insert_show_each_once() -> None:
    """Sessions that existed before and do not change are shown once. New sessions do not move them."""
    url = emptied()
    async with at(url) as store:
        names = [f"s{number:03}" for number in range(100)]
        for name in names:
            await store.append(name, [user("x")])
        shown, cursor = [], None
        for number in count():
            page = await store.backend.page(Query(namespace="default", limit=7, cursor=cursor))
            shown += [info.key.session for info in page.infos]
            for more in range(10):
                await store.append(f"new {number} {more}", [user("x")])
            cursor = page.cursor
            if cursor is None:
                break
        assert shown == names[::-1]


async def test_a_change_of_owner_moves_the_entry_of_the_index() -> None:
    url = emptied()
    async with at(url) as store, at(url) as other:

        async def of(owner: str) -> list[str]:
            return [info.key.session async for info in other.sessions(owner=owner)]

        for owner in ("ann", "ben", "", "ann", "cid:1:x"):
            await store.merge_metadata("a", owner=owner)
            assert await of(owner) == ["a"]
            for nobody in {"ann", "ben", "cid:1:x"} - {owner}:
                assert await of(nobody) == []
            with raw(url) as client:
                assert places(client) == 1 + bool(owner)
        await store.append("b", [user("x")], owner="ann")
        with raw(url) as client:
            client.delete(place_of("a"))
        await other.append("a", [user("anew")], owner="ben")  # nothing removed the expired session from its index
        assert await of("cid:1:x") == []
        assert await of("ben") == ["a"]
        assert sorted([info.key.session async for info in other.sessions()]) == ["a", "b"]
        with raw(url) as client:
            assert places(client) == 4
        assert await store.backend.delete(Key("default", "a"))
        with raw(url) as client:
            assert places(client) == 2


# ------------------------------------------------------------------------------------------------------- the machine

small = st.integers(0, 7)
versions = st.tuples(small, st.sampled_from(["session", "turns", "exact"]))
conditions = st.none() | st.sampled_from([None, ABSENT, PRESENT]) | versions
owners = st.none() | st.sampled_from([None, None, "ann", "ben"])
_runner: list[asyncio.Runner] = []


@pytest.fixture(scope="module")
def runner() -> Iterator[None]:
    """Return one event loop for all machines."""
    with asyncio.Runner() as made:
        _runner.append(made)
        yield
        _runner.pop()


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its result."""
    return _runner[0].run(work)


class Side:
    """The answer of one side: a value, or the type of the error."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: type[TurnlogError] | None = None
        try:
            self.value = call()
        except TurnlogError as error:
            self.error = type(error)


def same(found: Any, wanted: Any) -> None:
    """Compare all fields except times, which are those of the server. Expiries may differ by half a second."""
    for name in wanted.__struct_fields__:
        one, other = getattr(found, name), getattr(wanted, name)
        if name == "expires_in" and other is not None:
            assert abs(one - other) < 0.5
        elif name not in ("created", "updated"):
            assert one == other, name


class Machine(RuleBasedStateMachine):
    """Two sessions, each as a state and in Redis. Each step runs on both sides, and the answers are compared.

    Two stores take part. Each may or may not have seen the changes of the other.
    """

    keys = (Key("shop", "alice"), Key("shop", "Alice"))

    def __init__(self) -> None:
        super().__init__()
        self.client = raw(emptied())
        self.began, self.passed = time.monotonic(), 1_000.0
        self.names = count()
        self.changes: list[tuple[Key, Change]] = []
        self.versions: list[Version] = []
        self.stores: list[RedisBackend] = []

    @initialize(ttl=st.sampled_from([None, 80.0]))
    def configure(self, ttl: float | None) -> None:
        """Open the stores with a time to live."""
        self.states = {key: SessionState.absent(key, ttl=ttl) for key in self.keys}
        self.stores = [RedisBackend(emptied(), ttl=ttl) for _ in "ab"]
        for store in self.stores:
            wait(store.open())

    @property
    def now(self) -> float:
        """Return the time of a clock that advances as the server's clock does."""
        return self.passed + time.monotonic() - self.began

    def teardown(self) -> None:
        for store in self.stores:
            wait(store.close())
        self.client.close()

    # -------------------------------------------------------------------------------------------------- the operations

    def commit(self, key: Key, change: Change, by: int) -> None:
        """Commit on both sides."""
        store = self.stores[by % 2]
        rows = Side(lambda: wait(store.commit(key, change)))
        epoch = b"?" * 16 if rows.error else rows.value.version.epoch
        state = Side(lambda: self.states[key].apply(change, self.now, nonce=lambda _: epoch))
        assert rows.error is state.error
        if state.error is None:
            self.states[key], receipt = state.value
            same(rows.value, receipt)
            self.versions = [*self.versions, receipt.version][-8:]
        self.changes = [*self.changes, (key, change)][-8:]

    def condition(self, expect: Any) -> Expect:
        """Return the condition for the drawn number of a version and its strength."""
        if not isinstance(expect, tuple):
            return expect  # type: ignore[no-any-return]
        if not self.versions:
            return None
        version = self.versions[expect[0] % len(self.versions)]
        strengths: dict[str, Expect] = {"session": version.session, "turns": version, "exact": version.exact}
        return strengths[expect[1]]

    def record(self, id: str, part: int, *, open: bool, texts: int) -> Record:
        """Return a round of a few messages."""
        said = tuple(user(f"{id}.{part}.{place}") for place in range(texts))
        return Record.of(said, id=id, part=part, open=open, time=self.now)

    @rule(
        key=st.sampled_from(keys),
        by=small,
        turns=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), max_size=3),
        keep=st.none() | small,
        retain=st.none() | st.integers(1, 4),
        expect=conditions,
        for_owner=owners,
        metadata=st.none() | st.dictionaries(st.sampled_from("ab"), st.none() | st.integers(0, 3)),
        owner=st.none() | st.sampled_from(["", "ann", "ben"]),
        ttl=st.none() | st.none() | st.sampled_from([0, 40, 200]),
        limit=st.none() | st.integers(50, 300),
    )
    def change(
        self, key: Key, by: int, turns: Any, expect: Any, for_owner: str | None, limit: int | None, **parts: Any
    ) -> None:
        """Combine all parts of a change at random."""
        rounds = []
        for how_many, texts, open in turns:
            name = f"t{next(self.names)}"
            for part in range(how_many):
                goes_on = part < how_many - 1 or open
                rounds.append(self.record(name, part, open=goes_on, texts=texts))
        if rounds or any(part is not None for part in parts.values()):
            id = f"c{next(self.names)}"
            asked: Any = {"expect": self.condition(expect), "for_owner": for_owner, "max_bytes": limit, **parts}
            self.commit(key, Change(id=id, append=tuple(rounds), **asked), by)

    @rule(key=st.sampled_from(keys), by=small, turns=st.integers(1, 4), retain=st.none() | st.integers(1, 4))
    def append(self, key: Key, by: int, turns: int, retain: int | None) -> None:
        """Append turns, as applications usually do."""
        said = tuple(self.record(f"t{next(self.names)}", 0, open=False, texts=1 + place % 3) for place in range(turns))
        self.commit(key, Change(id=f"c{next(self.names)}", append=said, retain=retain), by)

    @rule(key=st.sampled_from(keys), by=small, retain=st.integers(1, 6))
    def retain(self, key: Key, by: int, retain: int) -> None:
        """Drop the first turns."""
        self.commit(key, Change(id=f"c{next(self.names)}", retain=retain), by)

    @rule(key=st.sampled_from(keys), by=small, texts=st.integers(1, 2), open=st.booleans())
    def go_on(self, key: Key, by: int, texts: int, open: bool) -> None:
        """Append the next round of the last turn, which may be open or closed."""
        header = self.states[key].header
        if header is not None and header.tail is not None:
            round = self.record(header.tail[0], header.tail[1] + 1, open=open, texts=texts)
            self.commit(key, Change(id=f"c{next(self.names)}", append=(round,)), by)

    @precondition(lambda self: self.changes)
    @rule(key=st.none() | st.sampled_from(keys), by=small, which=small, other=st.booleans(), for_owner=owners)
    def repeat(self, key: Key | None, by: int, which: int, other: bool, for_owner: str | None) -> None:
        """Repeat a change or reuse its id for another one, on any session and for any owner."""
        its, change = self.changes[which % len(self.changes)]
        change = Change(id=change.id, owner="someone else") if other else change
        self.commit(key or its, msgspec.structs.replace(change, for_owner=for_owner), by)

    @rule(key=st.sampled_from(keys), by=small, start=small, length=st.integers(1, 5))
    def seal(self, key: Key, by: int, start: int, length: int) -> None:
        """Seal some of the current records."""
        records = self.states[key].records
        run = records[start % max(1, len(records)) :][:length]
        try:
            sealed = Record.seal(run)
        except TurnlogError:
            return
        rows = Side(lambda: wait(self.stores[by % 2].seal(key, sealed)))
        state = Side(lambda: self.states[key].seal(sealed, self.now))
        assert rows.error is state.error
        if state.error is None:
            self.states[key], done = state.value
            assert rows.value is done

    @rule(key=st.sampled_from(keys), by=small, expect=conditions, for_owner=owners, dice=st.integers(0, 3))
    def delete(self, key: Key, by: int, expect: Any, for_owner: str | None, dice: int) -> None:
        """Delete the session, in a quarter of the calls."""
        if dice:
            return
        wanted = self.condition(expect)
        state = Side(lambda: self.states[key].check_delete(wanted, for_owner, self.now))
        rows = Side(lambda: wait(self.stores[by % 2].delete(key, expect=wanted, for_owner=for_owner)))
        assert (rows.error, rows.value) == (state.error, state.value)
        if state.value:
            self.states[key] = SessionState.absent(key, ttl=self.stores[0].ttl)

    @rule(seconds=st.sampled_from([1.1, 5.3, 15.7, 50.9]))
    def time_passes(self, seconds: float) -> None:
        """Move the deadlines on the server. No sum of these durations is close to a time to live."""
        self.passed += seconds
        for key in self.keys:
            place = place_of(key.session, key.namespace)
            left = self.client.pttl(place)
            if left >= 0:
                self.client.pexpire(place, max(0, left - int(seconds * 1000)))

    @rule(
        key=st.sampled_from(keys),
        by=small,
        last=st.none() | small,
        before=st.none() | small,
        since=st.none() | small,
        touch=st.booleans(),
    )
    def read(self, key: Key, by: int, last: int | None, before: int | None, since: int | None, touch: bool) -> None:
        """Read any part of a session."""
        seen = self.versions[since % len(self.versions)] if since is not None and self.versions else None
        asked: Any = {"last": last, "before": None if seen else before, "since": seen, "touch": touch}
        state = Side(lambda: self.states[key].read(self.now, **asked))
        rows = Side(lambda: wait(self.stores[by % 2].read(key, **asked)))
        assert rows.error is state.error
        if state.error is None:
            self.states[key], session = state.value
            found: Session = rows.value
            assert found.continues == session.continues
            assert found.records == session.records
            same(found.info, session.info)

    @rule(key=st.sampled_from(keys), by=small)
    def load(self, key: Key, by: int) -> None:
        """Read the whole session, as an application does."""
        Machine.read.__wrapped__(self, key, by, None, None, None, touch=True)  # type: ignore[attr-defined]

    # --------------------------------------------------------------------------------------------------- the invariants

    @rule(by=small)
    def pages_show_the_same(self, by: int) -> None:
        """List all sessions and those of an owner, page by page."""
        headers = [state.header for state in self.states.values()]
        alive = [header.info(self.now) for header in headers if header is not None and header.alive(self.now)]
        alive.sort(key=lambda info: -info.updated)
        for owner in (None, "", "ann"):
            found: list[SessionInfo] = []
            cursor = None
            for _ in range(3):
                page = wait(self.stores[by % 2].page(Query(namespace="shop", owner=owner, limit=1, cursor=cursor)))
                found += page.infos
                cursor = page.cursor
                if cursor is None:
                    break
            assert [info.key for info in found] == [i.key for i in alive if owner is None or i.owner == owner]

    @invariant()
    def nothing_is_left_over(self) -> None:
        """Check the number of elements, the bound of remembered changes and the sum of bytes."""
        if not self.stores:
            return
        for key, state in self.states.items():
            place = place_of(key.session, key.namespace)
            alive = state.header is not None and state.header.alive(self.now)
            assert self.client.llen(place) == (RECORDS + len(state.records) if alive else 0)
            if alive:
                listed: list[Any] = self.client.lrange(place, 0, -1)
                data, metadata, hashes, *records = listed
                del records[:REMEMBERED_CHANGES]
                assert len(hashes) <= 4 * REMEMBERED_CHANGES
                header = _layout.header_from(key, data, metadata, -1)
                sizes: list[int] = [record.size for record in _layout.records_from(key, records)]
                assert header.bytes == sum(sizes)


@pytest.mark.usefixtures("runner")
def test_the_store_agrees_with_the_state() -> None:
    chosen = settings(
        max_examples=settings().max_examples // 4,  # a step takes several round trips
        stateful_step_count=20,
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(Machine, settings=chosen)


PLANTED = {
    "another's change is not noticed": UNCHECKED,
    "a change is not remembered": FORGETFUL,
    "retention keeps a turn too many": ("COMMIT", "expected_turn > wanted", "expected_turn >= wanted"),
    "what is before a turn holds it": ("READ", "before) - 1 end", "before) end"),
    "a seal saves no byte": ("SEAL", "bytes = bytes - number(run[i], ", "local n = number(run[i], "),
}


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("fault", PLANTED)
def test_the_machine_finds_planted_faults(fault: str) -> None:
    chosen = settings(max_examples=1000, stateful_step_count=30, phases=[Phase.generate], report_multiple_bugs=False)
    with planted(*PLANTED[fault]), pytest.raises((AssertionError, TurnlogError)):
        run_state_machine_as_test(Machine, settings=chosen)


def test_all_hostile_names_are_different() -> None:
    """No two hostile names are equal."""
    assert all(one != other for one, other in combinations(HOSTILE, 2))
