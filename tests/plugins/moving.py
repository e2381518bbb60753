"""Helpers for the tests of moving data: sessions with every feature, backends of each kind, and a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

import servers
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import Change, Key, Record, SplitsSealed, Store, assistant, user
from turnlog.limits import MAX_NUMBER
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_redis import RedisBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend
from turnlog_transfer._snapshot import contents


def _sqlite(folder: Path) -> SQLiteBackend:
    return SQLiteBackend(f"sqlite:///{folder}/turnlog.db", synchronous="NORMAL", sweep=0)


def _redis(_: Path) -> RedisBackend:
    servers.ask_redis(servers.redis(), "FLUSHDB")
    return RedisBackend(servers.redis())


BACKENDS: Final[dict[str, Callable[[Path], Any]]] = {
    "memory": lambda _: MemoryBackend(),
    "sqlite": _sqlite,
    "zstd": lambda folder: ZstdLayer(_sqlite(folder)),
    "postgresql": lambda _: PostgreSQLBackend(emptied_postgresql(), pool_size=2, sweep=0),
    "mariadb": lambda _: MySQLBackend(emptied_mariadb(), pool_size=2, sweep=0),
    "redis": _redis,
}
"""Functions that make an empty backend of each kind."""


class Step(NamedTuple):
    """One change of a session."""

    kind: str
    size: int
    time: float


STEPS: Final = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            ["turn", "rounds", "open", "close", "rewind", "retain", "describe", "bytes", "ttl", "seal", "cut"]
        ),
        st.integers(1, 4),
        st.floats(0, 2e9) | st.integers(0, 10),
    ),
    min_size=1,
    max_size=12,
)
"""Histories of one session."""

ODD: Final[dict[str, Any]] = {
    "n": MAX_NUMBER,
    "big": 2**64 - 1,
    "f": 0.1,
    "e": 1e300,
    "z": -0.0,
    "deep": [{"a": [None, True]}],
}


async def happen(store: Store, session_id: str, steps: Sequence[Step], *, name: str = "t") -> None:
    """Apply a history to a session. The ids of its turns begin with `name`."""
    key = Key(store.namespace, session_id)
    await store.merge_metadata(session_id, {"title": "Ünïcode \u2028 \x00"}, owner="ann")
    for number, (kind, size, time) in enumerate(steps):
        info = await store.info(session_id)
        texts = [
            user("q" * size, **ODD),
            *[
                assistant(f"a{place}\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"))
                for place in range(size)
            ],
        ]
        id = f"{name}{number}"
        if kind in ("turn", "retain"):
            change = Change(
                append=(Record.of(tuple(texts), id=id, time=time),), retain=size if kind == "retain" else None
            )
            await store.backend.commit(key, change)
        elif kind in ("rounds", "open", "close"):
            for part in range(size):
                more = kind == "open" or part < size - 1 or kind == "close"
                await store.append(session_id, texts, turn_id=id, part=part, open=more)
            if kind == "close":
                await store.append(session_id, [], turn_id=id, part=size)
        elif kind == "rewind" and info.turns > info.first:
            with suppress(SplitsSealed):
                await store.rewind(session_id, turns=min(size, info.turns - info.first))
        elif kind == "describe":
            await store.merge_metadata(session_id, {f"k{size}": [ODD, time]}, owner="bob" if size > 2 else "")
        elif kind == "bytes":
            held: dict[str, Any] = {"raw": b"\x00\xff" * size, "list": [b"x", {"y": b""}], "plain": size}
            change = Change(metadata=held)
            await store.backend.commit(key, change)
        elif kind == "ttl":
            await store.merge_metadata(session_id, ttl=86_400.0 * size)
        elif kind == "seal":
            records = (await store.backend.read(key)).records
            if len(records) > 2 and not records[-1].open and records[-2].next_turn <= records[-1].number:
                await store.backend.seal(key, Record.seal(records[:-1]))
        elif kind == "cut" and info.messages:
            with suppress(SplitsSealed):
                await store.rewind(session_id, messages=1)


class Moment(float):
    """A time from a clock. It equals all times that are less than a second away."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moment) and abs(self - other) < 1


async def described(store: Store) -> dict[str, Any]:
    """Return all properties of a store's sessions that a move must preserve."""
    found: dict[str, Any] = {}
    async for info in store.sessions():
        session = await store.session(info.key.session, touch=False)
        rounds = [contents(one) for record in session.records for one in record.split()]
        turns = [(turn.number, turn.id, turn.open, turn.interrupted) for turn in session.turns]
        expires = None if info.expires_in is None else Moment(store.backend.clock() + info.expires_in)
        times = (info.created, info.updated, expires)
        about = (info.first, info.turns, info.messages, info.owner, info.ttl, dict(info.metadata), times)
        found[info.key.session] = (about, rounds, turns)
    return found


def histories(count: int, seed: int = 1) -> list[list[Step]]:
    """Return random histories, the same in each run."""
    dice = Random(seed)
    kinds = ["turn", "rounds", "open", "close", "rewind", "retain", "describe", "bytes", "ttl", "seal", "cut"]
    return [
        [Step(dice.choice(kinds), dice.randint(1, 4), dice.uniform(0, 2e9)) for _ in range(dice.randint(1, 12))]
        for _ in range(count)
    ]


RICH: Final = [Step(kind, 2, 1.5) for kind in ("turn", "turn", "retain", "turn", "seal", "ttl", "bytes", "open")]
"""A history whose first turns were dropped, with a sealed record and an open turn."""


async def filled(count: int = 12) -> Store:
    """Return a store in memory with sessions of every feature."""
    store = Store(MemoryBackend())
    for number, steps in enumerate([RICH, *histories(count - 1)]):
        await happen(store, f"s{number}", steps)
    return store
