"""`Store.write_turn`: a turn in several rounds, with other changes between them."""

from __future__ import annotations

import asyncio

import pytest

from turnlog import (
    PRESENT,
    Conflict,
    IdReused,
    InvalidInput,
    SessionNotFound,
    Store,
    assistant,
    user,
)
from turnlog_memory import MemoryBackend


@pytest.fixture
def store() -> Store:
    return Store(MemoryBackend())


async def written(store: Store, session_id: str = "s") -> list[tuple[str, list[str], bool, bool]]:
    """Return the id and the texts of each turn, and whether it is open and interrupted."""
    turns = (await store.session(session_id)).turns
    return [(turn.id, [message.text for message in turn.messages], turn.open, turn.interrupted) for turn in turns]


async def test_each_round_is_stored_at_once_and_the_end_of_the_block_closes_the_turn(store: Store) -> None:
    async with store.write_turn("s", turn_id="t", metadata={"title": "T"}, owner="ann") as turn:
        await turn.add([user("a")])
        assert await written(store) == [("t", ["a"], True, False)]
        await turn.add([assistant("b")])
        assert not turn.finished
    assert turn.finished
    assert await written(store) == [("t", ["a", "b"], False, False)]
    assert [[message.text for message in one] for one in turn.rounds] == [["a"], ["b"]]
    assert [message.text for message in turn.messages] == ["a", "b"]
    info = await store.info("s")
    assert (info.owner, info.metadata["title"], info.turns) == ("ann", "T", 1)
    assert turn.receipt is not None
    assert turn.receipt.version == info.version


async def test_the_last_round_closes_the_turn_without_another_write(store: Store) -> None:
    async with store.write_turn("s") as turn:
        await turn.add([user("a")])
        receipt = await turn.add([assistant("b")], last=True)
        with pytest.raises(InvalidInput, match="closed"):
            await turn.add([assistant("c")])
    assert (await store.info("s")).version == receipt.version
    assert (await written(store))[0][1:] == (["a", "b"], False, False)


async def test_nothing_is_stored_for_a_block_that_adds_nothing(store: Store) -> None:
    async with store.write_turn("s"):
        pass
    with pytest.raises(SessionNotFound):
        await store.info("s")


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
async def test_a_turn_whose_block_fails_is_continued_under_its_id(store: Store, error: type[BaseException]) -> None:
    with pytest.raises(error):
        async with store.write_turn("s", turn_id="t") as turn:
            await turn.add([user("a")])
            await turn.add([assistant("b")])
            raise error
    assert await written(store) == [("t", ["a", "b"], True, False)]
    async with store.write_turn("s", turn_id="t") as turn:
        assert [message.text for message in turn.messages] == ["a", "b"]
        await turn.add([assistant("c")])
    assert await written(store) == [("t", ["a", "b", "c"], False, False)]


@pytest.mark.parametrize("later", [0, 1, 40, 63])
async def test_a_finished_turn_is_found_among_those_that_are_remembered(store: Store, later: int) -> None:
    async with store.write_turn("s", turn_id="t") as turn:
        await turn.add([user("a")])
        await turn.add([assistant("b")], last=True)
    for number in range(later):
        await store.append("s", [user(f"{number}"), assistant("?")])
    before = await written(store)
    async with store.write_turn("s", turn_id="t") as turn:
        assert turn.finished
        assert [[message.text for message in one] for one in turn.rounds] == [["a"], ["b"]]
    assert await written(store) == before


async def test_a_turn_that_another_has_interrupted_cannot_go_on(store: Store) -> None:
    with pytest.raises(ValueError, match="model"):
        async with store.write_turn("s", turn_id="t") as turn:
            await turn.add([user("a")])
            raise ValueError("model")
    await store.append("s", [user("b")], turn_id="u")
    with pytest.raises(Conflict, match="another turn has begun"):
        async with store.write_turn("s", turn_id="t"):
            raise AssertionError
    assert await written(store) == [("t", ["a"], True, True), ("u", ["b"], False, False)]


async def test_another_turn_between_two_rounds_is_a_conflict(store: Store) -> None:
    with pytest.raises(Conflict):
        async with store.write_turn("s") as turn:
            await turn.add([user("a")])
            await store.append("s", [user("b")])
            await turn.add([assistant("c")])
    assert [one[1:] for one in await written(store)] == [(["a"], True, True), (["b"], False, False)]


@pytest.mark.parametrize("rounds", [0, 1])
async def test_an_erased_session_does_not_come_back(store: Store, rounds: int) -> None:
    await store.append("s", [user("before")])
    with pytest.raises(Conflict):
        async with store.write_turn("s") as turn:
            for _ in range(rounds):
                await turn.add([user("a")])
            await store.erase("s")
            await turn.add([assistant("b")])
    with pytest.raises(SessionNotFound):
        await store.info("s")


async def test_of_two_writers_of_one_turn_the_second_is_refused(store: Store) -> None:
    async with store.write_turn("s", turn_id="t") as one:
        async with store.write_turn("s", turn_id="t") as two:
            await one.add([user("a")])
            with pytest.raises(IdReused):
                await two.add([user("b")])
        await one.add([assistant("c")])
    assert await written(store) == [("t", ["a", "c"], False, False)]


async def test_a_condition_is_that_of_the_first_round(store: Store) -> None:
    with pytest.raises(SessionNotFound):
        async with store.write_turn("s", expect=PRESENT) as turn:
            await turn.add([user("a")])
    await store.append("s", [user("a")])
    seen = (await store.session("s")).version
    async with store.write_turn("s", expect=seen) as turn:
        await turn.add([user("b")])
        await turn.add([assistant("c")])
    with pytest.raises(Conflict):
        async with store.write_turn("s", expect=seen) as turn:
            await turn.add([user("d")])


async def test_sealed_rounds_are_found(store: Store) -> None:
    from turnlog import Key, Record

    async with store.write_turn("s", turn_id="t") as turn:
        await turn.add([user("a")])
        await turn.add([assistant("b")])
    await store.append("s", [user("c")])
    key = Key(store.namespace, "s")
    assert await store.backend.seal(key, Record.seal((await store.backend.read(key)).records))
    async with store.write_turn("s", turn_id="t") as turn:
        assert turn.finished
        assert [[message.text for message in one] for one in turn.rounds] == [["a"], ["b"]]


async def test_bad_arguments_are_refused_before_anything_is_read(store: Store) -> None:
    for bad in ({"turn_id": ""}, {"turn_id": "t" * 201}, {"owner": ""}, {"metadata": {"a": {1}}}, {"expect": "v"}):
        with pytest.raises(InvalidInput):
            store.write_turn("s", **bad)
    with pytest.raises(InvalidInput):
        store.write_turn("")
    with pytest.raises(InvalidInput, match="ann"):
        store.for_owner("ann").write_turn("s", owner="bob")
    async with store.write_turn("s") as turn:
        with pytest.raises(InvalidInput, match="at least one message"):
            await turn.add([])


async def test_a_round_outside_a_block_is_refused_and_stores_nothing(store: Store) -> None:
    with pytest.raises(InvalidInput, match=r"call it inside the 'with' block of store.write_turn\(...\)"):
        await store.write_turn("s", turn_id="t").add([user("a")])
    with pytest.raises(SessionNotFound):
        await store.load("s")


async def test_an_interrupted_turn_says_what_to_do(store: Store) -> None:
    async with store.write_turn("s", turn_id="t") as turn:
        await turn.add([user("a")])
        await store.append("s", [user("b")], turn_id="u")
        with pytest.raises(Conflict, match=r"another turn was stored after it, .* load the session, .* a new turn id"):
            await turn.add([assistant("c")])
        turn.finished = True


async def test_a_view_writes_for_its_owner(store: Store) -> None:
    async with store.for_owner("ann").write_turn("s", turn_id="t") as turn:
        await turn.add([user("a")])
    assert (await store.info("s")).owner == "ann"
    with pytest.raises(SessionNotFound):
        async with store.for_owner("bob").write_turn("s", turn_id="t") as turn:
            assert not turn.rounds
            await turn.add([user("x")])


async def test_a_turn_of_another_owner_is_not_found(store: Store) -> None:
    await store.append("s", [user("Mine"), assistant("A secret.")], turn_id="t", owner="ann")
    async with store.write_turn("s", turn_id="t", owner="bob") as turn:
        assert (turn.rounds, turn.finished, turn.receipt) == ((), False, None)
        with pytest.raises(SessionNotFound):
            await turn.add([user("Mine"), assistant("A secret.")], last=True)
