"""The kit itself: the code of an author, and the report of a failing test."""

from __future__ import annotations

import asyncio
import inspect
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Unpack

import pytest

from naive import failed_by
from naive.changes import LastWriteWins
from turnlog import (
    Backend,
    Change,
    Closed,
    Conflict,
    Key,
    Layer,
    Message,
    MessageLayer,
    Receipt,
    Record,
    Store,
    user,
)
from turnlog.testing import BackendContract, BackendOptions, Clock, ContractBroken, LayerContract, MessageLayerContract
from turnlog.testing import _base as base_module
from turnlog_memory import MemoryBackend
from turnlog_redis import RedisBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend

TESTS = [name for name in dir(BackendContract) if name.startswith("test_")]


class Kit(BackendContract):
    """The code of an author, with additional tests."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return MemoryBackend(**options)

    async def test_of_my_own(self, store: Store) -> None:
        """My backend works."""
        self.seen = (store, asyncio.get_running_loop())
        await store.load("nobody")

    async def test_that_waits(self) -> None:
        """It ends."""
        await asyncio.Event().wait()

    def test_that_writes(self) -> None:
        """A file is written."""
        (self.folder / "file").write_text("x")


def run(kit: Kit, name: str) -> None:
    """Run a test of the kit as pytest does."""
    getattr(kit, f"test_{name}")()


def test_each_test_says_a_sentence() -> None:
    for name in TESTS:
        assert len(getattr(BackendContract, name).__doc__ or "") > 20, name


def test_no_chapter_hides_a_test_of_another() -> None:
    found = Counter(name for chapter in BackendContract.__mro__ for name in vars(chapter) if name.startswith("test_"))
    assert set(found.values()) == {1}
    assert sorted(found) == TESTS


def test_no_plugin_takes_a_test_for_its_own() -> None:
    """pytest sees plain methods without fixtures, so no plugin that runs coroutines interferes."""
    for name in TESTS:
        test = getattr(BackendContract, name)
        assert not inspect.iscoroutinefunction(test), name
        assert list(inspect.signature(test).parameters) == ["self"], name


def test_make_is_the_one_method_to_implement() -> None:
    with pytest.raises(TypeError, match="make"):
        BackendContract()  # type: ignore[abstract]


def test_a_failing_test_tells_the_sentence_and_the_values() -> None:
    (failed,) = failed_by(LastWriteWins, ["a_version_of_another_session"]).values()
    assert str(failed).startswith("the contract says: The version of another session is refused.\n")
    assert "DID NOT RAISE" in str(failed)


def test_asserts_show_their_values() -> None:
    """pytest rewrites the asserts of the kit as those of a test module."""

    class OneTurn(Kit):
        def made(self, **options: Any) -> Store:
            return super().made(**{**options, "retain": 1})

    with pytest.raises(AssertionError, match=r"assert \['y'\] == \['x', 'y'\]"):
        run(OneTurn(), "save_with_a_mark")


def test_own_tests_run_like_those_of_the_kit() -> None:
    kit = Kit()
    with pytest.raises(ContractBroken, match="My backend works") as error:
        run(kit, "of_my_own")
    assert isinstance(error.value.__cause__, LookupError)
    store, loop = kit.seen
    assert store.backend.clock is kit.clock
    assert loop.is_closed()
    with pytest.raises(Closed):
        asyncio.run(store.load("nobody"))


def test_a_test_that_waits_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "SECONDS", 0)
    with pytest.raises(ContractBroken, match="within 0 s: it waited in test_that_waits, at "):
        run(Kit(), "that_waits")


def test_an_error_without_a_text_shows_its_line() -> None:
    error = AssertionError()
    try:
        raise error
    except AssertionError:
        assert str(ContractBroken("It works.", error)).endswith("\nAssertionError: raise error")


def test_a_folder_goes_with_its_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run(Kit(), "that_writes")
    assert list(tmp_path.iterdir()) == []


def test_the_clock_stands_still_until_it_is_moved() -> None:
    clock = Clock(100.0)
    assert clock() == clock() == 100.0
    clock.advance(5)
    clock.advance(-10)
    assert clock() == 95.0


def test_simple_tests_run_first() -> None:
    """pytest runs the tests of the last base class first, and each class in the order of its body."""
    order = [name for base in reversed(BackendContract.__mro__) for name in vars(base) if name.startswith("test_")]
    assert (order[0], order[-1]) == ("test_append_stores_one_turn", "test_walks")
    assert order.index("test_what_makes_a_session") < order.index("test_no_two_ids_share_a_place")
    assert order.index("test_another_event_loop") < order.index("test_nothing_is_lost") < order.index("test_walks")


def test_a_layer_contract_uses_the_backend_below() -> None:
    class Shared(Kit):
        def make(self, **options: Any) -> Backend:
            backend = super().make(**options)
            backend.capabilities = frozenset({"shared"})
            return backend

        async def advance(self, seconds: float) -> None:
            self.clock.advance(2 * seconds)

    class OverKit(LayerContract):
        below = Shared

        def layer(self, inner: Backend) -> Backend:
            self.inner = inner
            return Layer(inner)

    kit = OverKit()
    backend = kit.make(clock=kit.clock)
    asyncio.run(kit.advance(5))
    assert isinstance(backend, Layer)
    assert backend.inner is kit.inner
    assert kit.shared
    assert kit.clock() - Clock()() == 10
    assert {name for name in dir(LayerContract) if name.startswith("test_")} < set(TESTS)


def test_a_backend_need_not_support_seals() -> None:
    class NoSeals(MemoryBackend):
        async def seal(self, key: Key, record: Record) -> None:  # type: ignore[override]
            """Not supported."""

    assert failed_by(NoSeals, [name.removeprefix("test_") for name in TESTS]) == {}


class Marking(MessageLayer):
    """Marks each message before it is stored, but never twice."""

    def write_message(self, message: Message) -> Message:
        return message if message.text.endswith("!") else user(f"{message.text}!")


class Repeatedly(Marking):
    """Marks a message again when it is written again."""

    def write_message(self, message: Message) -> Message:
        return user(f"{message.text}!")


class Counting(MessageLayer):
    """Marks each message with a number."""

    count = 0

    def write_message(self, message: Message) -> Message:
        self.count += 1
        return user(f"{message.text}{self.count}")


class OnlyWhenRead(Marking):
    """Stores messages as they are, and marks them when they are read."""

    def read_message(self, message: Message) -> Message:
        return self.write_message(message)

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await self.inner.commit(key, change)


class Shown(Marking):
    """Compares the given message on save, not the message that would be read back."""

    def as_read(self, message: Message) -> Message:
        return message


@pytest.mark.parametrize(
    ("layer", "failed"),
    [
        (Marking, set()),
        (Repeatedly, {"what_was_read_is_written_as_it_was_stored", "it_keeps_nothing_that_it_changes"}),
        (Counting, {"it_is_deterministic", "load_extend_save", "it_keeps_nothing_that_it_changes"}),
        (OnlyWhenRead, {"it_keeps_nothing_that_it_changes"}),
        (Shown, {"load_extend_save"}),
    ],
)
def test_the_laws_of_message_layers(layer: type[MessageLayer], failed: set[str]) -> None:
    class Laws(MessageLayerContract):
        messages = (user("a"), user("b!"))

        def make(self, **options: Unpack[BackendOptions]) -> MessageLayer:
            return layer(MemoryBackend(**options))

    found = set()
    for name in dir(Laws):
        if name.startswith("test_"):
            try:
                getattr(Laws(), name)()
            except (AssertionError, Conflict):
                found.add(name.removeprefix("test_"))
    assert found >= failed
    assert bool(found) is bool(failed)


@pytest.mark.parametrize("kind", [MemoryBackend, SQLiteBackend, PostgreSQLBackend, MySQLBackend, RedisBackend])
def test_our_backends_list_their_namespaces(kind: type[Backend]) -> None:
    """The kit skips its tests of namespaces only for the default of the contract, which raises `Unsupported`."""
    assert kind.namespaces is not Backend.namespaces
