"""Histories of all dialects, and real ones, are saved and read in whole turns, with calls next to their results."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from dialects import DIALECTS, Turns
from turnlog import InvalidInput, Message, Pipeline, SessionNotFound, Store, Window, assistant
from turnlog.rules import outline_of
from turnlog_memory import MemoryBackend

WINDOWS = [
    *(Window(messages=limit, least=least) for limit in (1, 2, 3, 5, 8, 13, 50) for least in (0.5, 1)),
    *(Window(turns=limit) for limit in (1, 2, 4, 7, 50)),
    *(Window(tokens=limit) for limit in (1, 30, 100, 300, 10_000)),
]


def flat(turns: Turns) -> list[dict[str, Any]]:
    return [message for turn in turns for message in turn]


def by_role(messages: list[dict[str, Any]]) -> Turns:
    """Return the turns of a Chat Completions history, split by roles only."""
    starts = [place for place, message in enumerate(messages) if message["role"] == "user"]
    return [messages[start:end] for start, end in zip([0, *starts[1:]], [*starts[1:], None], strict=True)]


def check_whole(found: list[Message], turns: Turns) -> None:
    """Check that the messages are the last turns, perhaps after the opening system message, and that calls have
    results.
    """
    messages = [message.to_dict() for message in found]
    ends = [flat(turns[start:]) for start in range(len(turns) + 1)]
    assert messages in ends or (messages[1:] in ends and messages[:1] == turns[0][:1] and _is_system(messages[0]))
    open_calls: list[str] = []
    for message in found:
        outline = outline_of(message)
        open_calls += [call.id for call in outline.calls]
        for result in outline.results:
            open_calls.remove(result)
    assert not open_calls


def _is_system(message: dict[str, Any]) -> bool:
    return outline_of(Message.from_dict(message)).speaker == "system"


async def stored_turns(store: Store, session_id: str) -> Turns:
    session = await store.session(session_id)
    return [[message.to_dict() for message in turn.messages] for turn in session.turns]


async def check_history(turns: Turns, windows: list[Window], cuts: list[int]) -> None:
    """Save a history at each of these lengths and as a whole, then read it with `load`, `retain` and windows."""
    history = flat(turns)
    async with Store(MemoryBackend()) as store:
        for end in [*cuts, len(history)]:
            await store.save("s", history[:end])
            assert [message.to_dict() for message in await store.load("s")] == history[:end]
        assert await stored_turns(store, "s") == turns
        assert len((await store.session("s", last=2)).turns) == (1 if len(turns[-1]) > 1 else 2)
        for last in (1, 2, 3, 5, 8, 13):
            check_whole(await store.load("s", last=last), turns)
        await Store(store.backend, retain=2).save("short", history)
        assert await stored_turns(store, "short") == turns[-2:]
        for window in windows:
            result = await Pipeline(store, _answer, window=window).execute("s", "user", "And now?")
            check_whole(list(result.messages[:-1]), turns)
            await store.rewind("s", turns=1)


def _longer(turns: Turns) -> Turns:
    """Return four times the turns, with the opening system message once."""
    return turns + [[message for message in turn if not _is_system(message)] for turn in turns] * 3


async def _answer(messages: list[Message], **_: object) -> Message:
    return assistant("Good.")


@pytest.mark.parametrize("turns", list(map(_longer, DIALECTS.values())), ids=DIALECTS)
async def test_each_dialect_is_read_in_whole_turns(turns: Turns) -> None:
    # Fails if results of role `user` start a turn, if an opening system message becomes a turn, if `load` returns
    # exactly `last` messages, or without `retain`.
    await check_history(turns, WINDOWS, [*range(1, len(flat(turns)))])


async def test_real_conversations_are_read_in_whole_turns(shared_data: list[dict[str, Any]]) -> None:
    # Fails if each message of the assistant also starts a turn.
    for line in shared_data[::5]:
        turns = by_role(line["messages"])
        await check_history(turns, WINDOWS[::3], [len(line["messages"]) // 3, len(line["messages"]) // 2])


# ----------------------------------------------------------------------------------------------- the application's rule

UNKNOWN = [{"who": who, "says": str(number)} for number in range(30) for who in ("me", "it")]


def me(message: Message) -> bool:
    return message.get("who") == "me"


async def test_the_applications_rule_says_where_turns_begin() -> None:
    # Fails if the rule is not passed to `divide`, or not to `split_turns` for the rest of a history.
    async with Store(MemoryBackend()) as store:
        for end in range(1, 12):
            await store.save("s", UNKNOWN[:end], begins_turn=me)
            assert await stored_turns(store, "s") == [
                UNKNOWN[start : min(start + 2, end)] for start in range(0, end, 2)
            ]
        await store.save("s", UNKNOWN[:20], begins_turn=me)
        assert (await store.info("s")).turns == 10
        cut = await store.save("s", UNKNOWN[:6], begins_turn=me, expect=(await store.info("s")).version)
        grown = await store.save("s", UNKNOWN[:8], begins_turn=me)
        assert (cut.turns, grown.turns) == (3, 4)
        assert cut.version.generation == grown.version.generation  # no turn was written again


async def _async_rule(message: Message) -> bool:
    return True


class _AsyncRule:
    async def __call__(self, message: Message) -> bool:
        return True


@pytest.mark.parametrize(
    "rule", ["user", True, 5, _async_rule, _AsyncRule()], ids=["str", "bool", "int", "async", "async call"]
)
async def test_a_rule_that_is_no_function_is_refused_before_anything_is_read(rule: Any) -> None:
    # Fails if the check comes after the first read, or accepts any callable.
    store = Store(MemoryBackend())
    await store.open()
    await store.close()
    with pytest.raises(InvalidInput, match="begins_turn must be a function that takes a message and returns a bool"):
        await store.save("s", UNKNOWN, begins_turn=rule)


@pytest.mark.parametrize("messages", [UNKNOWN, UNKNOWN[:1]], ids=["a history", "one message"])
@pytest.mark.parametrize("answer", [None, 1, "yes"])
async def test_a_rule_that_returns_no_bool_is_refused(messages: list[Message], answer: Any) -> None:
    store = Store(MemoryBackend())
    with pytest.raises(InvalidInput, match=f"begins_turn returned {answer!r}: it must return True"):
        await store.save("s", messages, begins_turn=lambda _: answer)
    with pytest.raises(SessionNotFound):
        await store.load("s")


@pytest.mark.parametrize(
    ("messages", "options", "warns"),
    [
        (UNKNOWN, {}, True),
        (UNKNOWN[:51], {}, True),
        (UNKNOWN[:50], {}, False),
        (UNKNOWN, {"begins_turn": me}, False),
        (UNKNOWN, {"begins_turn": lambda _: False}, True),
        (flat(DIALECTS["gemini"] * 10), {}, False),
    ],
    ids=["60", "51", "50", "divided", "not divided", "known"],
)
async def test_a_long_history_that_is_one_turn_is_warned_of_once_a_call(
    messages: list[dict[str, Any]], options: Any, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    # Fails with a limit of 49 or 51 messages, with two warnings, or with a warning for several turns.
    caplog.set_level(logging.WARNING, "turnlog")
    async with Store(MemoryBackend()) as store:
        for saved in (messages[:-1], messages, messages):
            caplog.clear()
            await store.save("s", saved, **options)
        assert len(caplog.records) == warns
        if warns:
            said = caplog.records[0]
            assert (said.name, said.levelno) == ("turnlog", logging.WARNING)
            assert f"session 's' in namespace 'default' has {len(messages)} messages in one turn" in said.getMessage()
            assert "save it with begins_turn=" in said.getMessage()


async def test_retention_that_leaves_one_turn_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    # Fails if the warning counts the messages of the history instead of the stored ones.
    async with Store(MemoryBackend(), retain=1) as store:
        receipt = await store.save("s", [*UNKNOWN, {"who": "me", "says": "Bye"}], begins_turn=me)
        await store.save("t", [{"role": "user", "content": "a"}, *flat([[{"role": "user", "content": "b"}], UNKNOWN])])
    assert receipt.turns - receipt.first == 1
    assert not caplog.records
