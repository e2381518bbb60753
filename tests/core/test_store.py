"""`Store`: views of namespaces and owners, `find` and `resend`.

Each test has failed with a bug in `turnlog.store` or `turnlog.values.ids`, which a comment names.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnlog import (
    ABSENT,
    ANY,
    PRESENT,
    Backend,
    Change,
    Closed,
    Conflict,
    IdReused,
    InvalidInput,
    Key,
    Layer,
    OutcomeUnknown,
    Page,
    PayloadLayer,
    Receipt,
    Record,
    SessionNotFound,
    Store,
    TurnlogError,
    Unavailable,
    Version,
    encode_id,
    user,
)
from turnlog.errors import CorruptRecord
from turnlog.layers import Position
from turnlog.testing import Clock
from turnlog.values.ids import check_id
from turnlog_cache import CacheLayer
from turnlog_memory import MemoryBackend

signs = st.sampled_from(["a", "/", "%", "2F", "25"])
names = st.lists(signs, min_size=1, max_size=3).map("".join)
paths = st.lists(names, min_size=1, max_size=3)


def store(**options: Any) -> Store:
    return Store(MemoryBackend(**options))


parts = st.lists(
    st.text(st.sampled_from(["a", "b", "/", "%", "2", "F", " ", "\0", "\ud800", "\u2028", "\u3000", "é"]), max_size=4),
    min_size=1,
    max_size=3,
)


@given(parts, parts)
@example([""], ["%empty"])
@example(["a/b"], ["a", "b"])
@example(["", ""], ["/"])
@example(["%2F"], ["/"])
def test_different_parts_have_different_ids(one: list[str], other: list[str]) -> None:
    """An id that did not escape `%`, or not `/`, would fail."""
    assert (encode_id(*one) == encode_id(*other)) == (one == other)
    assert check_id(encode_id(*one), "session id")


def test_long_parts_have_different_ids() -> None:
    ids = {
        encode_id(*found) for found in (["é" * 200], ["é" * 201], ["é" * 200, ""], ["a" * 255], ["a" * 256], ["%" * 90])
    }
    assert len(ids) == 6
    assert encode_id("a" * 255) == "a" * 255
    assert max(len(id.encode()) for id in ids) <= 255
    assert encode_id("app", "ann", "7") == "app/ann/7"
    assert encode_id("x" * 300).startswith("x" * 100)
    wrongs: list[tuple[Any, ...]] = [(), (7,), ("a", None)]
    for wrong in wrongs:
        with pytest.raises(InvalidInput, match="part"):
            encode_id(*wrong)


def nested(path: Sequence[str]) -> str:
    view = store().within("tenant")
    for name in path:
        view = view.within(name)
    return view.namespace


# ----------------------------------------------------------------------------------------------------------- namespaces


@example([["a/b"], ["a", "b"]])
@example([["a%2Fb"], ["a/b"]])
@example([["a%2Fb"], ["a", "b"]])
@given(st.lists(paths, min_size=2, max_size=30, unique_by=tuple))
def test_no_two_nested_names_share_a_namespace(paths: list[list[str]]) -> None:
    # Fails if `nested_namespace` escapes `/` only, `%` only, or both in the other order.
    assert len({nested(path) for path in paths}) == len(paths)


@given(paths)
def test_a_nested_namespace_can_be_taken_apart(path: list[str]) -> None:
    assert [unquote(name) for name in nested(path).split("/")] == ["tenant", *path]


def test_within_replaces_on_a_store_and_nests_on_a_view_of_it() -> None:
    # Fails if `within` always nests, never nests, or ignores `_is_tenant`.
    shop = Store(MemoryBackend(), namespace="shop")
    view = shop.within("a")
    assert [one.namespace for one in (view, view.within("b"), view.within("b").within("c"))] == ["a", "a/b", "a/b/c"]
    assert shop.within("a/b").namespace == view.within("b").namespace
    assert (view.within("b/c").namespace, view.within("50%").namespace) == ("a/b%2Fc", "a/50%25")
    assert (shop.namespace, view.namespace) == ("shop", "a")  # the stores themselves do not change


def test_an_owners_view_keeps_its_owner_in_another_namespace() -> None:
    shop = Store(MemoryBackend(), namespace="shop", retain=3, max_session_bytes=500)
    one = shop.for_owner("ann").within("a")
    other = shop.within("a").for_owner("ann")
    for view in (one, other, one.for_owner("ann")):
        assert (view.namespace, view.owner, view.retain, view.max_session_bytes) == ("a", "ann", 3, 500)
        assert view.backend is shop.backend
        assert view.within("b").namespace == "a/b" and view.within("b").owner == "ann"


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "a\n", "turnlog:x", None, 5, "\ud800"], ids=ascii)
def test_a_namespace_that_breaks_a_rule_is_refused(name: Any) -> None:
    for view in (store(), store().within("a"), store().for_owner("ann")):
        with pytest.raises(InvalidInput):
            view.within(name)


def test_a_nested_namespace_has_255_bytes_at_most() -> None:
    view = store().within("a")
    assert len(view.within("x" * 253).namespace) == 255
    for name in ("x" * 254, "/" * 85, "%" * 85):
        with pytest.raises(InvalidInput, match="the nested namespace has"):
            view.within(name)


async def test_namespaces_are_apart() -> None:
    one = store()
    views = [one, one.within("a"), one.within("a").within("b"), one.within("b")]
    for place, view in enumerate(views):
        await view.append("s", [user(str(place))])
    for place, view in enumerate(views):
        assert [message.text for message in await view.load("s")] == [str(place)]
        assert [info.key async for info in view.sessions()] == [Key(view.namespace, "s")]


async def test_a_view_opens_and_closes_nothing() -> None:
    # Fails if `close` ignores `_is_view`.
    one = store()
    async with one:
        await one.append("s", [user("a")], owner="ann")
        for view in (one.within("default"), one.for_owner("ann"), one.within("default").for_owner("ann")):
            async with view:
                assert len(await view.load("s")) == 1
            await view.close()
            assert len(await view.load("s")) == 1
    for closed in (one, one.within("default"), one.for_owner("ann")):
        with pytest.raises(Closed):
            await closed.load("s")
        await closed.within("a").open()
        with pytest.raises(Closed):
            await closed.load("s")


# --------------------------------------------------------------------------------------------------------------- owners


async def of_bob(clock: Clock | None = None, **options: Any) -> Store:
    """Return a store with a session `s` of two turns that belongs to Bob."""
    one = store(clock=clock or Clock(), **options)
    for text in ("one", "two"):
        await one.append("s", [user(text)], owner="bob", turn_id=text)
    return one


OPERATIONS: dict[str, Callable[[Store, Version], Awaitable[object]]] = {
    "load": lambda view, _: view.load("s"),
    "load the last": lambda view, _: view.load("s", last=1),
    "session": lambda view, _: view.session("s", before=1),
    "info": lambda view, _: view.info("s"),
    "touch": lambda view, _: view.touch("s"),
    "append": lambda view, _: view.append("s", [user("x")]),
    "append for an owner": lambda view, _: view.append("s", [user("x")], owner="ann"),
    "append to a version": lambda view, seen: view.append("s", [user("x")], expect=seen),
    "append again": lambda view, _: view.append("s", [user("two")], turn_id="two"),
    "append another": lambda view, _: view.append("s", [user("x")], turn_id="two"),
    "save": lambda view, _: view.save("s", [user("one"), user("two"), user("three")]),
    "save any": lambda view, _: view.save("s", [user("x")], expect=ANY),
    "save an existing session": lambda view, _: view.save("s", [user("one"), user("two")], expect=PRESENT),
    "rewind": lambda view, _: view.rewind("s", turns=1),
    "rewind messages": lambda view, seen: view.rewind("s", messages=1, expect=seen),
    "pop": lambda view, _: view.pop("s"),
    "metadata": lambda view, _: view.merge_metadata("s", {"a": 1}),
    "take": lambda view, _: view.merge_metadata("s", owner="ann"),
    "fork": lambda view, _: view.fork("s", "copy"),
    "fork a version": lambda view, seen: view.fork("s", "copy", at=1, expect=seen),
    "fork onto": lambda view, _: view.fork("own", "s"),
    "erase": lambda view, _: view.erase("s"),
    "erase an existing session": lambda view, _: view.erase("s", expect=PRESENT),
}
"""Calls that read or write the session `s`; all but `erase` require it."""


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "erase"])
async def test_a_session_of_another_owner_does_not_exist(name: str) -> None:
    # Fails with `for_owner=None` in the changes, in `fork` or in `erase`, or with `_read` without its check.
    one = await of_bob()
    before = await one.session("s")
    ann, bob = one.for_owner("ann"), one.for_owner("bob")
    await ann.append("own", [user("ann's")])
    with pytest.raises(SessionNotFound) as caught:
        await OPERATIONS[name](ann, before.version)
    assert caught.value.key == Key("default", "s")
    after = await one.session("s")
    assert (after.version, after.turns, after.info.owner) == (before.version, before.turns, "bob")
    with pytest.raises(SessionNotFound):
        await one.load("copy")
    if name in ("append another", "append for an owner", "take", "fork onto"):  # these fail in the owner's view as well
        return
    if name != "append again":
        await OPERATIONS[name](bob, before.version)


async def test_erasing_a_session_of_another_owner_finds_none() -> None:
    # Fails if `erase` passes no owner.
    one = await of_bob()
    seen = (await one.info("s")).version
    ann = one.for_owner("ann")
    assert await ann.erase("s") is False
    assert await ann.erase("s", expect=ABSENT) is False
    for expect in (seen, seen.session, seen.exact):
        with pytest.raises(Conflict):
            await ann.erase("s", expect=expect)
    assert len(await one.load("s")) == 2
    assert await one.for_owner("bob").erase("s", expect=seen.exact) is True


async def test_a_session_that_a_view_makes_belongs_to_its_owner() -> None:
    # Fails if `Header.new` omits the owner.
    one = store()
    ann = one.for_owner("ann")
    await ann.append("appended", [user("x")])
    await ann.save("saved", [user("x")])
    await ann.merge_metadata("described", {"a": 1})
    await ann.fork("appended", "copied")
    assert {info.key.session: info.owner async for info in one.sessions()} == dict.fromkeys(
        ("appended", "saved", "described", "copied"), "ann"
    )


async def test_lists_exports_and_erasures_are_of_the_views_owner_alone() -> None:
    # Fails if `sessions` or `erase_owner` does not check the owner of the view.
    one = await of_bob()
    ann = one.for_owner("ann")
    await ann.append("t", [user("x")])
    assert [info.key.session async for info in ann.sessions()] == ["t"]
    assert [info.key.session async for info in ann.sessions(owner="ann")] == ["t"]
    for other in ("bob", ""):
        assert [info async for info in ann.sessions(owner=other)] == []
    assert [session async for session in ann.export_owner("bob")] == []
    assert (await ann.erase_owner("bob")).sessions == 0
    assert [session.messages async for session in ann.export_owner("ann")] == [[user("x")]]
    assert (await ann.erase_owner("ann")).sessions == 1
    assert [info.key.session async for info in one.sessions()] == ["s"]


def test_a_view_of_one_owner_is_no_way_to_another() -> None:
    # Fails if `for_owner` replaces the owner.
    ann = store().for_owner("ann")
    assert ann.for_owner("ann").owner == "ann"
    for view in (ann, ann.within("a"), ann.within("a").within("b")):
        with pytest.raises(InvalidInput, match="this view is for owner 'ann', not 'bob'"):
            view.for_owner("bob")


@pytest.mark.parametrize("owner", ["", " ", "x" * 256, "a\n", None, 5], ids=ascii)
def test_an_owner_that_breaks_a_rule_is_refused(owner: Any) -> None:
    with pytest.raises(InvalidInput, match="owner"):
        store().for_owner(owner)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_another_owners_session_lives_no_longer(name: str) -> None:
    # Fails if `_read` touches at once, or if `Backend.copy` reads with `touch=True`.
    clock = Clock()
    one = await of_bob(clock, ttl=100)
    seen = (await one.info("s")).version
    expires = clock.now + 100
    clock.advance(60)
    with contextlib.suppress(SessionNotFound):
        await OPERATIONS[name](one.for_owner("ann"), seen)
    assert (await one.info("s")).expires_in == expires - clock.now


@pytest.mark.parametrize("name", ["load", "load the last", "session", "touch", "append", "fork", "metadata"])
async def test_the_owners_own_session_lives_longer(name: str) -> None:
    # Fails if `_read` of a view never touches, or if `Backend.copy` lacks its second read.
    clock = Clock()
    one = await of_bob(clock, ttl=100)
    clock.advance(60)
    await OPERATIONS[name](one.for_owner("bob"), (await one.info("s")).version)
    assert (await one.info("s")).expires_in == 100


async def test_a_view_reads_once_until_the_expiry_has_to_be_moved() -> None:
    # Fails if `_read` always reads twice.
    clock = Clock()
    backend = Lossy(MemoryBackend(ttl=100, clock=clock))
    ann = Store(backend).for_owner("ann")
    await ann.append("s", [user("x")])
    for seconds, reads in ((0, 1), (12, 1), (1, 2), (0, 1)):
        clock.advance(seconds)
        backend.reads = 0
        await ann.load("s")
        assert backend.reads == reads


# ---------------------------------------------------------------------------------------------------- find and resend


class Lossy(Layer):
    """Counts the reads, and raises the given errors instead of answers to commits, in order."""

    def __init__(self, inner: Backend, *errors: type[TurnlogError]) -> None:
        super().__init__(inner)
        self.errors = list(errors)
        self.reads = self.commits = 0

    async def read(self, *arguments: Any, **options: Any) -> Any:
        self.reads += 1
        return await super().read(*arguments, **options)

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.commits += 1
        kind = self.errors.pop(0) if self.errors else None
        if kind is Unavailable:
            raise Unavailable("not sent")
        receipt = await super().commit(key, change)
        if kind is OutcomeUnknown:
            raise OutcomeUnknown("the answer was lost", key=key, change=change)
        return receipt


class Inner(Lossy):
    """A subclass, for a search by class."""


def test_find_returns_the_outermost_layer_of_a_class() -> None:
    # Fails if `find` checks only the outermost layer.
    inner = Inner(MemoryBackend())
    middle = Lossy(inner)
    outer = Lossy(middle)
    one = Store(outer)
    assert one.find(Lossy) is outer and one.find(Layer) is outer
    assert one.find(Inner) is inner and one.within("a").find(Inner) is inner
    assert Store(inner).find(Lossy) is inner


def test_find_refuses_a_missing_class() -> None:
    for one in (Store(MemoryBackend()), Store(Lossy(MemoryBackend()))):
        with pytest.raises(InvalidInput, match="has no Inner"):
            one.find(Inner)


@pytest.mark.parametrize(
    ("lost", "tries"),
    [
        ([], 1),
        ([OutcomeUnknown], 2),
        ([Unavailable], 2),
        ([OutcomeUnknown, Unavailable], 3),
        ([Unavailable, OutcomeUnknown], 3),
    ],
)
async def test_resend_goes_on_until_there_is_an_answer_and_stores_once(lost: list[Any], tries: int) -> None:
    # Fails if `resend` catches only one of the two errors, or stops after the first attempt.
    backend = Lossy(MemoryBackend(), OutcomeUnknown, *lost)
    one = Store(backend)
    with pytest.raises(OutcomeUnknown) as caught:
        await one.append("s", [user("x")])
    backend.commits = 0
    receipt = await one.resend(caught.value, delays=(0, 0))
    assert (backend.commits, receipt.number, receipt.turns) == (tries, 0, 1)
    assert await one.load("s") == [user("x")]


@pytest.mark.parametrize("last", [Unavailable, OutcomeUnknown])
async def test_resend_gives_up_after_the_last_delay(last: type[TurnlogError]) -> None:
    backend = Lossy(MemoryBackend(), OutcomeUnknown, Unavailable, OutcomeUnknown, last)
    with pytest.raises(OutcomeUnknown) as caught:
        await Store(backend).append("s", [user("x")])
    with pytest.raises(OutcomeUnknown) as again:
        await Store(backend).resend(caught.value, delays=(0, 0))
    assert again.value is caught.value
    assert backend.commits == 1 + 3


async def test_resend_passes_on_the_conflict_of_a_change_that_was_not_stored() -> None:
    # Fails if `resend` catches TurnlogError.
    one = Store(MemoryBackend())
    seen = (await one.append("s", [user("a")])).version
    change = Change(owner="ann", expect=seen)
    await one.append("s", [user("b")])
    with pytest.raises(Conflict):
        await one.resend(OutcomeUnknown("lost", key=Key("default", "s"), change=change), delays=(0, 0))


@pytest.mark.parametrize("parts", [{}, {"key": Key("default", "s")}, {"change": Change(owner="ann")}])
async def test_resend_needs_a_change(parts: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="resend takes an OutcomeUnknown"):
        await store().resend(OutcomeUnknown("lost", **parts), delays=(0, 0))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"namespace": ""}, "namespace"),
        ({"retain": 0}, "retain"),
        ({"retain": True}, "retain"),
        ({"max_session_bytes": 0}, "max_session_bytes"),
        ({"max_session_bytes": "1"}, "max_session_bytes"),
    ],
)
def test_the_options_of_a_store_are_checked(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        Store(MemoryBackend(), **options)


def test_a_store_is_made_over_a_backend() -> None:
    for wrong in (store(), "memory://", None, MemoryBackend):
        with pytest.raises(InvalidInput, match="Store needs a Backend"):
            Store(wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ stale caches


class Trusting:
    """A store over a cache in mode `trust`, and another writer on the same backend."""

    def __init__(self) -> None:
        memory = MemoryBackend()
        self.store, self.other = Store(CacheLayer(memory, mode="trust")), Store(memory)


async def test_a_rewind_of_one_session_does_not_cut_what_others_have_written_since() -> None:
    # Fails if the condition of the cut is `expect` instead of the version that was read.
    it = Trusting()
    made = await it.store.append("s", [user("a")])
    await it.store.append("s", [user("b")])
    for text in "cde":
        await it.other.append("s", [user(text)])
    await it.store.rewind("s", messages=1, expect=made.version.session)
    assert [message.text for message in await it.other.load("s")] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("change", ["erased", "grown", "recreated"])
@pytest.mark.parametrize("how", ["nothing", "any", "present", "version", "exact", "session"])
async def test_a_save_that_changes_nothing_is_compared_with_the_backend(change: str, how: str) -> None:
    # Fails without the second read.
    it = Trusting()
    await it.store.append("s", [user("a")])
    seen = (await it.store.append("s", [user("b")])).version
    if change != "grown":
        await it.other.erase("s")
    if change != "erased":
        await it.other.append("s", [user("c")])
    expect: Any = {
        "nothing": None,
        "any": ANY,
        "present": PRESENT,
        "version": seen,
        "exact": seen.exact,
        "session": seen.session,
    }[how]
    stored: list[str] | type[TurnlogError] = ["a", "b"]
    if change == "erased" and how not in ("nothing", "any"):
        stored = SessionNotFound if how == "present" else TurnlogError
    elif change != "erased" and how != "any" and (how, change) != ("session", "grown"):
        stored = TurnlogError
    if isinstance(stored, list):
        await it.store.save("s", [user("a"), user("b")], expect=expect)
        assert [message.text for message in await it.other.load("s")] == stored
    else:
        with pytest.raises(stored):
            await it.store.save("s", [user("a"), user("b")], expect=expect)


async def test_a_save_in_a_view_gives_up_on_the_session_of_another_owner() -> None:
    backend = Lossy(MemoryBackend())
    await Store(backend).for_owner("bob").append("s", [user("x")])
    backend.commits = 0
    with pytest.raises(SessionNotFound):
        await Store(backend).for_owner("eve").save("s", [user("x")])
    assert backend.commits == 2


async def test_a_rewind_whose_condition_is_not_met_is_a_conflict_however_few_turns_are_left() -> None:
    one = Store(MemoryBackend())
    seen = (await one.append("s", [user("a")])).version
    await one.rewind("s", turns=1)
    for expect in (seen, ABSENT):
        with pytest.raises(Conflict):
            await one.rewind("s", turns=1, expect=expect)


async def test_a_view_gives_no_session_away() -> None:
    one = Store(MemoryBackend())
    ann = one.for_owner("ann")
    await ann.append("s", [user("x")], owner="ann")
    with pytest.raises(InvalidInput, match="this view is for owner 'ann'"):
        await ann.append("s", [user("x")], owner="bob")
    for owner in ("bob", ""):
        with pytest.raises(InvalidInput, match="this view is for owner 'ann'"):
            await ann.merge_metadata("s", owner=owner)


async def test_resend_refuses_the_change_of_another_view() -> None:
    one = Store(MemoryBackend())
    error = OutcomeUnknown("lost", key=Key("default", "s"), change=Change(owner="ann", for_owner="ann"))
    for other in (one.within("b"), one.for_owner("bob")):
        with pytest.raises(InvalidInput, match="another view"):
            await other.resend(error, delays=())
    assert (await one.for_owner("ann").resend(error, delays=())).turns == 0


@pytest.mark.parametrize("error", [None, ValueError("x"), Unavailable("down")])
async def test_resend_refuses_other_errors(error: Any) -> None:
    with pytest.raises(InvalidInput, match="resend takes an OutcomeUnknown"):
        await store().resend(error, delays=())


def test_find_takes_a_class() -> None:
    with pytest.raises(InvalidInput, match="takes a class such as CacheLayer, not 'cache'"):
        store().find("cache")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ large sessions


class Encoded(PayloadLayer):
    """Returns records that are not decoded yet, as a database does."""

    codec = 200
    position: ClassVar[Position] = "encryption"

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes | None:
        return payload

    def decode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        return payload


@pytest.mark.parametrize(("turns", "pieces"), [(3, 0), (20, 20)])
async def test_a_large_session_is_decoded_in_pieces(turns: int, pieces: int) -> None:
    """Other tasks run after each megabyte.  A session up to the limit of one record is decoded at once."""
    large = Store(Encoded(MemoryBackend()))
    for number in range(turns):
        await large.append("s", [user(f"{number} " + "x" * 1_100_000)])
    damaged = Record.of((user("x"),), id="t", time=0.0)
    damaged = damaged.with_payload(damaged.payload[:-1])
    await large.backend.commit(Key("default", "s"), Change(append=(damaged,)))
    for last in (None, turns + 1):
        steps = 0

        async def step() -> None:
            nonlocal steps
            while True:
                await asyncio.sleep(0)
                steps += 1

        task = asyncio.create_task(step())
        await asyncio.sleep(0)
        before = steps
        session = await large.session("s", last=last)
        assert steps - before == pieces
        task.cancel()
        assert all(record.decoded for record in session.records[:-1]) is (pieces > 0)
        with pytest.raises(CorruptRecord) as caught:
            _ = session.messages
        assert caught.value.turn == turns


async def test_an_id_that_is_used_is_named_as_it_was_given() -> None:
    store = Store(MemoryBackend())
    await store.append("s", [user("a")], turn_id="t", open=True)
    await store.append("s", [user("b")], turn_id="t", part=1)
    for part, named in ((0, "turn id 't' is used"), (1, "turn id 't', part 1, is used")):
        with pytest.raises(
            IdReused, match=f"^{named} for other messages in session 's' in namespace 'default': give new"
        ):
            await store.append("s", [user("c")], turn_id="t", part=part)
    await store.fork("s", "u", change_id="f")
    with pytest.raises(IdReused, match=r"^change id 'f' is used for another change of session 'u'"):
        await store.fork("s", "u", at=0, change_id="f")


async def test_pages_of_sessions_in_views() -> None:
    """A view lists its own sessions alone, refuses the cursors of other lists, and raises `Closed` after `close`."""
    store = Store(MemoryBackend())
    async with store:
        for number in range(4):
            await store.append(f"a{number}", [user("x")], owner=("ann", "bob")[number % 2])
            await store.within("shop").append(f"a{number}", [user("x")], owner="ann")
        ann, shop = store.for_owner("ann"), store.within("shop")
        assert [info.key.session for info in (await ann.list_sessions(prefix="a")).infos] == ["a2", "a0"]
        for owner in ("bob", ""):
            assert await ann.list_sessions(owner=owner) == Page(())
            assert [info async for info in ann.sessions(owner=owner)] == []
        first = await ann.list_sessions(limit=1)
        assert first == await store.list_sessions(owner="ann", limit=1), "the same list"
        assert [info.key.session for info in (await ann.list_sessions(cursor=first.cursor)).infos] == ["a0"]
        for other in (store, shop, shop.for_owner("ann"), store.for_owner("bob")):
            with pytest.raises(InvalidInput, match="another namespace, owner or prefix"):
                await other.list_sessions(cursor=first.cursor)
        for limit in (0, 1_001, True, None):
            with pytest.raises(InvalidInput, match="limit"):
                await store.list_sessions(limit=limit)  # type: ignore[arg-type]
    for closed in (store, ann):
        for whose in (None, "bob"):
            with pytest.raises(Closed):
                await closed.list_sessions(owner=whose)


async def test_a_store_does_not_need_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trio in the process, a call looks for no event loop of trio."""
    monkeypatch.delitem(sys.modules, "trio", raising=False)
    shop = store()
    await shop.append("s", [user("hi")])
    assert [message.text for message in await shop.load("s")] == ["hi"]
