"""Sessions of Agent Framework as sessions of turnlog: lost answers, concurrency, bad input, methods of the store."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from agent_framework import Message
from agent_framework._sessions import filter_new_messages

from adapters.agent_framework.providers import agent_of, dicts, said, texts, tool_turn, turn
from turnlog import (
    Change,
    InvalidInput,
    Key,
    OutcomeUnknown,
    Receipt,
    SessionNotFound,
    Store,
    TooLarge,
    Unavailable,
    open_store,
)
from turnlog.testing.faulty import Fault, FaultyBackend
from turnlog_agent_framework import TurnlogHistoryProvider
from turnlog_cli import main
from turnlog_memory import MemoryBackend

Test = Callable[[TurnlogHistoryProvider, Store], Awaitable[None]]


def on_stacks(test: Test) -> Callable[[str], None]:
    """Run an asynchronous test on each stack."""

    def on_a_stack(url: str) -> None:
        async def run() -> None:
            async with open_store(url) as store:
                await test(TurnlogHistoryProvider(store), store)

        asyncio.run(run())

    on_a_stack.__name__, on_a_stack.__doc__ = test.__name__, test.__doc__
    return on_a_stack


@on_stacks
async def test_a_run_is_a_turn(provider: TurnlogHistoryProvider, store: Store) -> None:
    agent: Any = agent_of(provider)
    for text in ("the weather?", "hello"):
        await agent.run(text, session=agent.create_session(session_id="s"))
    assert [len(one.messages) for one in (await store.session("s")).turns] == [4, 2]


@on_stacks
async def test_each_step_of_a_run_can_be_a_turn(provider: TurnlogHistoryProvider, store: Store) -> None:
    agent: Any = agent_of(provider, require_per_service_call_history_persistence=True)
    await agent.run("the weather?", session=agent.create_session(session_id="s"))
    answer = await agent.run("hello", session=agent.create_session(session_id="s"))
    assert answer.text == "You have asked 2 times."
    assert [len(one.messages) for one in (await store.session("s")).turns] == [2, 2, 2]


@on_stacks
async def test_concurrent_runs_lose_and_double_nothing(provider: TurnlogHistoryProvider, store: Store) -> None:
    others = [TurnlogHistoryProvider(store) for _ in range(8)]
    await asyncio.gather(*(one.save_messages("s", tool_turn(str(number))) for number, one in enumerate(others)))
    session = await store.session("s")
    assert sorted(texts(await provider.get_messages("s"))[3::4]) == [f"It is sunny. {number}" for number in range(8)]
    assert [len(one.messages) for one in session.turns] == [4] * 8


class InterruptingBackend(FaultyBackend):
    """A backend on which another process adds a turn before each of the first writes, and may lose an answer."""

    def __init__(self, fault: Fault | None) -> None:
        super().__init__(MemoryBackend())
        self.fault = fault
        self.others = [*"ab"]

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self.others:
            other = TurnlogHistoryProvider(Store(self.inner))
            await other.save_messages("s", turn(self.others.pop()))
        elif self.fault:
            self.fail_next(self.fault)
            self.fault = None
        return await super().commit(key, change)


@pytest.mark.parametrize("fault", [None, "lose_reply", "lose_request"])
def test_turns_of_others_and_lost_answers_lose_and_double_nothing(fault: Fault | None) -> None:
    async def run() -> None:
        async with Store(InterruptingBackend(fault)) as store:
            provider = TurnlogHistoryProvider(store)
            await provider.save_messages("s", turn("1"))
            assert dicts(await provider.get_messages("s")) == dicts([*turn("b"), *turn("a"), *turn("1")])

    asyncio.run(run())


def test_a_turn_is_stored_after_another_one_if_its_request_was_lost() -> None:
    """The request is lost, another process adds a turn, and the request that is sent again meets a conflict."""

    class Backend(FaultyBackend):
        async def commit(self, key: Key, change: Change) -> Receipt:
            if not lost:
                lost.append(change)
                await TurnlogHistoryProvider(Store(self.inner)).save_messages("s", turn("other"))
                raise OutcomeUnknown("the answer was lost", key=key, change=change)
            return await super().commit(key, change)

    lost: list[Change] = []

    async def run() -> None:
        async with Store(Backend(MemoryBackend())) as store:
            provider = TurnlogHistoryProvider(store)
            await provider.save_messages("s", turn("1"))
            assert dicts(await provider.get_messages("s")) == dicts([*turn("other"), *turn("1")])

    asyncio.run(run())


def test_a_database_that_cannot_be_reached_is_no_empty_history() -> None:
    async def run() -> None:
        faulty = FaultyBackend(MemoryBackend())
        async with Store(faulty) as store:
            provider = TurnlogHistoryProvider(store)
            await provider.save_messages("s", turn("1"))
            for method in (provider.get_messages("s"), provider.save_messages("s", turn("2"))):
                faulty.fail_next("lose_request")
                with pytest.raises(Unavailable):
                    await method
            assert dicts(await provider.get_messages("s")) == dicts(turn("1"))

    asyncio.run(run())


def test_new_messages_are_selected_as_from_the_whole_history() -> None:
    """The provider reads only the end of a session; the framework compares with all messages."""
    dice = Random(0)

    async def run() -> None:
        async with open_store("memory://") as store:
            provider = TurnlogHistoryProvider(store)
            for number in range(150):
                whole: list[Message] = []
                for _ in range(6):
                    replayed = whole[-dice.randrange(4) :] if dice.random() < 0.5 else list(whole)
                    fresh = [
                        said(dice.choice(["user", "assistant"]), dice.choice("ab")) for _ in range(dice.randrange(4))
                    ]
                    whole += filter_new_messages(whole, [*replayed, *fresh])
                    await provider.save_messages(f"s{number}", [*replayed, *fresh])
                    assert dicts(await provider.get_messages(f"s{number}")) == dicts(whole)

    asyncio.run(run())


@on_stacks
async def test_ids_that_file_systems_refuse(provider: TurnlogHistoryProvider, store: Store) -> None:
    for session_id in ("x" * 300, "x" * 301, "\ud800", "a\0b"):
        await provider.save_messages(session_id, turn(ascii(session_id)))
    for session_id in ("x" * 300, "x" * 301, "\ud800", "a\0b"):
        assert dicts(await provider.get_messages(session_id)) == dicts(turn(ascii(session_id)))


@on_stacks
async def test_a_text_with_half_an_emoji_is_stored(provider: TurnlogHistoryProvider, store: Store) -> None:
    messages = [*tool_turn("1")[:2], said("tool", "half: \ud83d"), said("assistant", "x")]
    await provider.save_messages("s", messages)
    assert dicts(await provider.get_messages("s")) == dicts(messages)


@on_stacks
async def test_a_turn_that_is_too_large_stores_nothing(provider: TurnlogHistoryProvider, store: Store) -> None:
    await provider.save_messages("s", turn("1"))
    with pytest.raises(TooLarge):
        await provider.save_messages("s", [said("user", "x"), said("assistant", "x" * 17_000_000)])
    assert dicts(await provider.get_messages("s")) == dicts(turn("1"))


@on_stacks
async def test_the_last_messages_are_loaded_in_whole_turns(provider: TurnlogHistoryProvider, store: Store) -> None:
    short = TurnlogHistoryProvider(store, last=3)
    for number in range(3):
        await short.save_messages("s", tool_turn(str(number)))
    assert dicts(await short.get_messages("s")) == dicts(tool_turn("2"))
    assert len(await provider.get_messages("s")) == 12


@on_stacks
async def test_excluded_messages_can_be_left_out(provider: TurnlogHistoryProvider, store: Store) -> None:
    excluded = said("user", "old", additional_properties={"_excluded": True})
    await provider.save_messages("s", [excluded, said("user", "new")])
    short = TurnlogHistoryProvider(store, skip_excluded=True)
    assert texts(await short.get_messages("s")) == ["new"]
    assert texts(await provider.get_messages("s")) == ["old", "new"]


@on_stacks
async def test_options_select_the_stored_messages(provider: TurnlogHistoryProvider, store: Store) -> None:
    answers = TurnlogHistoryProvider(store, "answers", load_messages=False, store_inputs=False)
    agent: Any = agent_of(answers)
    await agent.run("hello", session=agent.create_session(session_id="s"))
    assert answers.source_id == "answers"
    assert texts(await provider.get_messages("s")) == ["You have asked 1 times."]


@on_stacks
async def test_owners_and_tenants_are_views(provider: TurnlogHistoryProvider, store: Store) -> None:
    alice, bob = (TurnlogHistoryProvider(store.for_owner(name)) for name in ("alice", "bob"))
    acme = TurnlogHistoryProvider(store.within("acme"))
    await alice.save_messages("s", turn("1"))
    assert await bob.get_messages("s") == await acme.get_messages("s") == []
    with pytest.raises(SessionNotFound):
        await bob.save_messages("s", turn("2"))
    assert [info.key.session async for info in store.sessions(owner="alice")] == ["s"]
    assert (await store.erase_owner("alice")).sessions == 1
    assert await alice.get_messages("s") == []


@on_stacks
async def test_forks_and_rewinds_are_seen(provider: TurnlogHistoryProvider, store: Store) -> None:
    for name in "12":
        await provider.save_messages("s", turn(name))
    await store.fork("s", "copy", at=1)
    await store.rewind("s", turns=1)
    for session_id in ("copy", "s"):
        await provider.save_messages(session_id, turn("3"))
        assert dicts(await provider.get_messages(session_id)) == dicts([*turn("1"), *turn("3")])


@pytest.mark.parametrize("session_id", [None, ""])
def test_a_run_without_a_session_is_an_error(session_id: str | None) -> None:
    async def run() -> None:
        async with open_store("memory://") as store:
            provider = TurnlogHistoryProvider(store)
            for method in (provider.get_messages(session_id), provider.save_messages(session_id, turn("1"))):
                with pytest.raises(InvalidInput, match="pass session=agent"):
                    await method

    asyncio.run(run())


@pytest.mark.parametrize("store", [None, "memory://", MemoryBackend()])
def test_only_a_store_is_accepted(store: Any) -> None:
    with pytest.raises(InvalidInput, match=r"takes a turnlog\.Store, not"):
        TurnlogHistoryProvider(store)


@pytest.mark.parametrize("last", [0, -1, True, "3"])
def test_last_is_a_positive_number(last: Any) -> None:
    with pytest.raises(InvalidInput, match="last must be a number from 1"):
        TurnlogHistoryProvider(Store(MemoryBackend()), last=last)


def test_messages_of_other_programs_are_named(url: str) -> None:
    async def run() -> None:
        async with open_store(url) as store:
            await store.append("s", [{"role": "user", "content": "Hello"}, {"type": "reasoning"}])
            with pytest.raises(InvalidInput, match="is no message of Agent Framework"):
                await TurnlogHistoryProvider(store).get_messages("s")

    asyncio.run(run())


def test_show_prints_the_texts_and_the_calls(tmp_path: Any, capsys: Any) -> None:
    url = f"sqlite:///{tmp_path}/turnlog.db"

    async def run() -> None:
        async with open_store(url) as store:
            await TurnlogHistoryProvider(store).save_messages("s", tool_turn("w"))

    asyncio.run(run())
    assert main(["show", "s", "--store", url]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines[0] == "  user: weather w"
    assert lines[1].startswith('  assistant: {"type": "function_call", "call_id": "w", "name": "weather"')
    assert lines[2].startswith('  tool: {"type": "function_result", "call_id": "w", "result": "sunny"')
    assert lines[3] == "  assistant: It is sunny. w"
    assert main(["search", "sunny", "--store", url]) == 0
    assert "It is sunny." in capsys.readouterr().out


def test_the_missing_framework_is_named(monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "turnlog_agent_framework")
    with pytest.raises(ImportError, match=r"pip install 'turnlog\[agent-framework\]'"):
        __import__("turnlog_agent_framework")
