"""`export` and `import_file` preserve everything on every backend; an export is consistent while others write."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from moving import BACKENDS, STEPS, Step, described, filled, happen
from turnlog import Key, Page, Query, Record, Session, Store, Version, user
from turnlog.errors import Conflict, CorruptRecord, InvalidInput, SessionNotFound
from turnlog.testing import Clock
from turnlog_memory import MemoryBackend
from turnlog_transfer import Exported, Imported, _export, _snapshot, export, import_file


async def exported(store: Store, **options: Any) -> bytes:
    return b"".join([line async for line in export(store, **options)])


async def imported(store: Store, data: bytes, **options: Any) -> Imported:
    return await import_file(store, io.BytesIO(data), **options)


def parsed(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize("kind", BACKENDS)
async def test_export_and_import_is_the_identity(kind: str, tmp_path: Path) -> None:
    # Seen failing without `first`, without `ttl`, and without `open`.
    source = await filled()
    before = await described(source)
    data = await exported(source)
    async with Store(BACKENDS[kind](tmp_path)) as there:
        totals = await imported(there, data)
        assert (totals.stored, totals.complete) == (len(before), True)
        assert await described(there) == before
        again = await exported(there)
        assert await imported(source, again) == Imported(unchanged=len(before))
        assert await imported(there, data) == Imported(unchanged=len(before))
    back = Store(MemoryBackend())
    await imported(back, again)
    assert await described(back) == before


@given(STEPS)
def test_every_history_comes_back(steps: list[Step]) -> None:
    async def run() -> None:
        source, target = Store(MemoryBackend()), Store(MemoryBackend())
        await happen(source, "s", steps)
        assert (await imported(target, await exported(source))).stored == 1
        assert await described(target) == await described(source)

    asyncio.run(run())


@settings(max_examples=20)
@given(STEPS)
def test_a_history_that_is_read_and_written_in_small_parts_comes_back(steps: list[Step]) -> None:
    # Seen failing with windows that leave out the turns before the last window.
    async def run() -> None:
        source, target = Store(MemoryBackend()), Store(MemoryBackend())
        await happen(source, "s", steps)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_snapshot, "_MESSAGES", 2)
            patch.setattr(_snapshot, "MAX_MESSAGES", 1)
            patch.setattr("turnlog_transfer._export_reader._MESSAGES", 1)
            await imported(target, await exported(source))
        assert await described(target) == await described(source)

    asyncio.run(run())


async def test_real_conversations_come_back(shared_data: list[dict[str, Any]]) -> None:
    source, target = Store(MemoryBackend()), Store(MemoryBackend())
    for one in shared_data[:40]:
        await source.save(
            one["session_id"],
            one["messages"],
        )
    seen: list[Exported] = []
    data = await exported(source, progress=seen.append)
    assert (await imported(target, data)).messages == seen[-1].messages
    assert (seen[-1].sessions, seen[-1].bytes) == (40, len(data))
    assert await described(target) == await described(source)


async def test_an_import_is_listed_in_the_order_of_its_export() -> None:
    # Seen failing with the times of the import.
    clock = Clock()
    source, target = (Store(MemoryBackend(clock=clock)) for _ in range(2))
    for name in ("a", "b", "c"):
        await source.append(name, [user(name)])
        clock.advance(10)
    await source.append("a", [user("more")])
    await source.merge_metadata("b", {"title": "renamed"}, ttl=800.0)
    clock.advance(10)
    data = await exported(source)
    clock.advance(400)
    await imported(target, data)
    assert [info.key.session async for info in target.sessions()] == ["a", "c", "b"]
    assert (await target.info("b")).expires_in == 390
    assert await described(target) == await described(source)


async def test_a_session_that_has_expired_since_its_export_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    # Seen failing with a session whose time to live restarted, and with one whose second part was refused.
    monkeypatch.setattr("turnlog_transfer._export_reader._MESSAGES", 1)
    clock = Clock()
    source, target = (Store(MemoryBackend(ttl=ttl, clock=clock)) for ttl in (100.0, None))
    for _ in range(3):
        await source.append("s", [user("hi"), user("hi")])
    data = await exported(source)
    clock.advance(99)
    await imported(alive := Store(MemoryBackend(clock=clock)), data)
    assert (await alive.info("s")).expires_in == 1
    clock.advance(1)
    totals = await imported(target, data)
    assert (totals, totals.complete) == (Imported(expired=1), True)
    assert await described(target) == {}
    never = b"".join(line for line in _without(data, "expires"))  # as the documentation suggests
    assert (await imported(target, never)).stored == 1
    assert (await target.info("s")).expires_in is None


def _without(data: bytes, *names: str) -> list[bytes]:
    lines = parsed(data)
    for line in lines:
        for name in names:
            line.pop(name, None)
    return [json.dumps(line).encode() + b"\n" for line in lines]


async def test_an_extended_session_expires_no_earlier() -> None:
    # Seen failing with the times of the export: a session in use expired early.
    clock = Clock()
    source, target = (Store(MemoryBackend(ttl=4_000.0, clock=clock)) for _ in range(2))
    await source.append("s", [user("1")])
    made = (await source.info("s")).created
    await imported(target, await exported(source))
    clock.advance(100)
    await source.append("s", [user("2")])
    updated = (await source.info("s")).updated
    data = await exported(source)
    clock.advance(3_000)
    await target.touch("s")
    await target.append("other", [user("1")])
    assert (await imported(target, data)).extended == 1
    info = await target.info("s")
    assert (info.created, info.updated, info.expires_in) == (made, updated, 4_000)
    assert await imported(target, data) == Imported(unchanged=1)


async def test_an_export_without_times_has_those_of_its_import() -> None:
    """Earlier exports state the seconds until the expiry, not its time."""
    clock = Clock()
    source, target = (Store(MemoryBackend(ttl=4_000.0, clock=clock)) for _ in range(2))
    await source.append("s", [user("1")])
    clock.advance(100)
    await imported(target, b"".join(_without(await exported(source), "created", "expires")))
    info = await target.info("s")
    assert (info.created, info.updated, info.expires_in) == (clock.now, clock.now, 4_000)


@pytest.mark.parametrize("time", [0, -1.5, 1e300, "soon"])
@pytest.mark.parametrize("name", ["created", "updated", "expires"])
async def test_times_out_of_bounds_fail_their_session(name: str, time: object) -> None:
    source, target = Store(MemoryBackend(ttl=4_000.0)), Store(MemoryBackend())
    await source.append("s", [user("1")])
    lines = parsed(await exported(source))
    lines[1][name] = time
    totals = await imported(target, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert totals.stored == 0
    assert not totals.complete


async def test_an_export_begins_with_the_format_and_ends_with_a_count() -> None:
    store = Store(MemoryBackend())
    await store.append("s", [user("hi")], owner="ann", turn_id="t")
    first, session, one, end = parsed(await exported(store))
    assert first == {"format": "turnlog-export", "version": 1}
    assert (session["kind"], session["session"], session["owner"], session["turns"]) == ("session", "s", "ann", 1)
    assert "namespace" not in session
    assert one == {"kind": "round", "turn": 0, "id": "t", "time": one["time"], "messages": [user("hi").to_dict()]}
    assert end == {"kind": "end", "sessions": 1}


async def test_one_session_or_those_of_an_owner() -> None:
    store = Store(MemoryBackend())
    for name, owner in (("a", "ann"), ("b", "bob"), ("c", "ann")):
        await store.append(name, [user(name)], owner=owner)

    async def ids(**options: Any) -> set[str]:
        return {line["session"] for line in parsed(await exported(store, **options)) if line.get("kind") == "session"}

    assert await ids() == {"a", "b", "c"}
    assert await ids(owner="ann") == {"a", "c"}
    assert await ids(session="b") == {"b"}
    for options in ({"session": "none"}, {"session": "b", "owner": "ann"}):
        with pytest.raises(SessionNotFound):
            await exported(store, **options)
    with pytest.raises(InvalidInput, match="leave out one of them"):
        await exported(store, session="a", all_namespaces=True)


class Naming(Store):
    """A store that knows its namespaces."""

    damage: CorruptRecord | None = None

    async def namespaces(self) -> AsyncIterator[str]:
        for name in ("a", "a/b"):
            yield name
        if self.damage is not None:
            raise self.damage


async def test_all_namespaces_go_into_namespaces_of_the_same_name() -> None:
    source, target = Naming(MemoryBackend()), Store(MemoryBackend())
    await source.within("a").append("s", [user("1")])
    await source.within("a").within("b").append("s", [user("2")])
    data = await exported(source, all_namespaces=True)
    assert (await imported(target, data)).stored == 2
    for name in ("a", "a/b"):
        assert await described(target.within(name)) == await described(source.within(name))
    # Seen failing with the whole name: a file must not reach outside the namespace of a view.
    assert (await imported(target.within("x"), data)).stored == 2
    assert await described(target.within("x/a%2Fb")) == await described(source.within("a/b"))
    owned = parsed(await exported(source, all_namespaces=True, owner="ann"))
    assert [line.get("sessions") for line in owned] == [None, 0]
    source.damage = CorruptRecord("a namespace cannot be read")
    lines = []
    with pytest.raises(CorruptRecord, match="a namespace cannot be read"):
        async for line in export(source, all_namespaces=True):
            lines.append(line)  # noqa: PERF401 - the lines before the error count
    assert parsed(lines[-1]) == [{"kind": "end", "sessions": 2, "damaged": 1}]
    # without names of namespaces, they are imported into the namespace of the target
    await imported(target, await exported(source.within("a")))
    assert await described(target) == await described(source.within("a"))


class Moving(MemoryBackend):
    """Lets others write after a part of a session was read."""

    meanwhile: Any = None

    async def read(self, key: Key, **options: Any) -> Session:
        session = await super().read(key, **options)
        if self.meanwhile is not None and options.get("before") is not None:
            work, self.meanwhile = self.meanwhile, None
            await work()
        return session


async def test_a_long_session_is_as_it_was_when_its_export_began(monkeypatch: pytest.MonkeyPatch) -> None:
    # Seen failing without the filter on later rounds, and without the comparison of versions.
    monkeypatch.setattr(_snapshot, "_MESSAGES", 3)
    backend = Moving()
    store = Store(backend)
    for number in range(20):
        await store.append("s", [user(str(number))])
    await store.append("s", [user("open")], turn_id="o", open=True)
    before = await described(store)

    async def grow() -> None:
        await store.append("s", [user("more")], turn_id="o", part=1)
        await store.append("s", [user("last")])

    backend.meanwhile = grow
    data = await exported(store)
    assert backend.meanwhile is None
    target = Store(MemoryBackend())
    assert (await imported(target, data)).complete
    assert await described(target) == before

    async def cut() -> None:
        await store.rewind("s", turns=5)
        await store.append("s", [user("instead")])

    backend.meanwhile = cut
    after = Store(MemoryBackend())
    assert (await imported(after, await exported(store))).complete
    assert await described(after) == await described(store)


@pytest.mark.parametrize("how", ["rewind", "erase and make anew", "retain"])
async def test_a_session_that_is_always_changing_is_a_conflict(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_snapshot, "_MESSAGES", 2)
    monkeypatch.setattr(_export, "_TRIES", 3)
    backend = Moving()
    store = Store(backend, retain=10 if how == "retain" else None)

    async def grow() -> None:
        for _ in range(12):
            await store.append("s", [user("x")])

    await grow()

    async def change() -> None:
        if how == "rewind":
            await store.rewind("s", turns=1)
            await store.append("s", [user("y")])
        elif how == "retain":
            await grow()
        else:
            await store.erase("s")
            await grow()
        backend.meanwhile = change

    backend.meanwhile = change
    with pytest.raises(Conflict, match="export it again"):
        await exported(store)


class InSmallPages(MemoryBackend):
    """Returns pages of two sessions, whatever the query asks for."""

    async def page(self, query: Query) -> Page:
        return await super().page(replace(query, limit=2))


async def test_a_session_that_changes_or_goes_while_others_are_exported() -> None:
    # Seen failing with one pass over the list, and with an error for the deleted session.
    store = Store(InSmallPages())
    for number in range(6):
        await store.append(f"s{number}", [user("x")])
    lines: list[bytes] = []
    async for line in export(store):
        lines.append(line)
        if len(lines) == 2:  # the first session of the list is being exported: the last one moves to the front
            await store.append("s0", [user("y")])
            await store.erase("s4")
    target = Store(MemoryBackend())
    totals = await imported(target, b"".join(lines))
    assert (totals.stored, totals.complete) == (5, True)
    assert await described(target) == await described(store)


async def test_values_that_json_lacks_have_their_json_form() -> None:
    store = Store(MemoryBackend())
    values: dict[str, Any] = {"a": 1, "b": b"\xff", "c": [{"d": 2**64}], "e": float("inf"), "f": {"$turnlog": "\udfff"}}
    await store.append("s", [values, {}, {"\ud800": -(2**90)}], metadata=values)
    _, session, one, _ = parsed(await exported(store))
    assert session["metadata"] == one["messages"][0]
    assert session["metadata"]["a"] == 1
    assert session["metadata"]["b"] == {"$turnlog": "xAH/"}
    await imported(target := Store(MemoryBackend()), await exported(store))
    assert dict((await target.info("s")).metadata) == values
    assert [one.to_dict() for one in await target.load("s")] == [values, {}, {"\ud800": -(2**90)}]
    bad = (await exported(store)).replace(b"xAH/", b"wQ==", 1)  # 0xc1 is not MessagePack
    assert (await imported(Store(MemoryBackend()), bad)).failed == 1


async def test_a_damaged_session_is_left_out_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(MemoryBackend())
    await store.append("good", [user("a")])
    key = Key("default", "bad")
    await store.append("bad", [user("b")])
    state = store.backend._states[key]  # type: ignore[attr-defined]
    state._log[0] = state._log[0].damaged("broken")
    lines: list[bytes] = []
    with pytest.raises(CorruptRecord, match="broken"):
        async for line in export(store):
            lines.append(line)  # noqa: PERF401 - the lines before the error count
    assert parsed(lines[-1])[0] == {"kind": "end", "sessions": 1, "damaged": 1}
    totals = await imported(target := Store(MemoryBackend()), b"".join(lines))
    assert (totals.stored, totals.failed) == (1, 1)
    assert [*await described(target)] == ["good"]


async def test_versions_are_never_exported() -> None:
    store = Store(MemoryBackend())
    version = (await store.append("s", [user("a")])).version
    assert isinstance(version, Version)
    assert str(version).encode() not in await exported(store)


def test_records_of_a_few_bytes_are_written_together() -> None:
    records = [
        Record.of((user("x" * size),), id=str(size), time=0.0) for size in (1, 2, 3 * 2**20, 2**20, 5 * 2**20, 1)
    ]
    assert [len(batch) for batch in _snapshot.batches(records)] == [3, 1, 1, 1]
    assert [*_snapshot.batches([])] == []
