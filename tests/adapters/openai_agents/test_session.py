"""`TurnlogSession` on every stack: turns, restarts, windows, owners, errors, lost answers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from typing import Any, cast

import pytest
from agents import Agent, Runner, RunState, function_tool
from agents.memory import Session, SessionSettings

import turnlog.sync
from adapters.openai_agents.scripted import ANSWER, Gate, agent, ask, call, item, opened, run, texts
from turnlog import Conflict, InvalidInput, SessionNotFound, Store, TooLarge, Unavailable, open_store
from turnlog.testing.faulty import FaultyBackend
from turnlog_openai_agents import TurnlogSession

RUN = ["What is the weather?", "function_call", "function_call_output", ANSWER]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_run_is_one_turn_and_a_restart_remembers_it(url: str, streamed: bool) -> None:
    async def first(store: Store) -> None:
        session = TurnlogSession(store, "Ünï 🙂")
        assert isinstance(session, Session)
        if streamed:
            result = Runner.run_streamed(agent([call("weather", city="Bern")], ANSWER), RUN[0], session=session)
            async for _ in result.stream_events():
                pass
        else:
            await ask(session)

    async def second(store: Store) -> None:
        session = TurnlogSession(store, "Ünï 🙂")
        assert texts(await session.get_items()) == RUN
        last = agent("As I said: sunny.")
        await Runner.run(last, "Again?", session=session)
        assert texts(last.model.calls[-1].input) == [*RUN, "Again?"]  # type: ignore[union-attr]
        turns = (await store.session("Ünï 🙂")).turns
        assert [(len(turn.messages), turn.open) for turn in turns] == [(4, False), (2, False)]
        rounds = [record.count for record in (await store.session("Ünï 🙂")).records]
        assert rounds in ([1, 2, 1, 1, 1], [1, 3, 1, 1])  # a streamed run may store its last items together

    async def test() -> None:
        async with opened(url) as store:
            await first(store)
            if url.startswith("memory"):
                await second(store)
        if not url.startswith("memory"):
            async with opened(url) as store:
                await second(store)

    run(test)


def test_a_run_that_waits_for_an_approval_is_continued_by_another_process(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            steps = [call("order", 1, what="tea"), call("weather", 2, city="Bern")], "Ordered."
            one = agent(*steps)
            result = await Runner.run(one, "Order tea", session=TurnlogSession(store, "s"))
            assert (await store.session("s")).turns[-1].open
            state = await RunState.from_string(one, result.to_state().to_string())
            state.approve(state.get_interruptions()[0])
            await Runner.run(one, state, session=TurnlogSession(store, "s"))
            turns = (await store.session("s")).turns
            assert [(len(turn.messages), turn.open) for turn in turns] == [(6, False)]

    run(test)


def test_a_resumed_run_after_another_run_is_a_turn_of_its_own(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            one = agent([call("order", what="tea")], "Ordered.")
            result = await Runner.run(one, "Order tea", session=TurnlogSession(store, "s"))
            state = result.to_state()
            state.approve(result.interruptions[0])
            await TurnlogSession(store, "s").add_items([item("user", "Hello?"), item("assistant", "Wait.")])
            await TurnlogSession(store, "s").add_items(
                [{"type": "function_call_output", "call_id": "c", "output": "x"}]
            )
            turns = (await store.session("s")).turns
            assert [(len(turn.messages), turn.interrupted) for turn in turns] == [(2, True), (2, False), (1, False)]

    run(test)


def test_two_runs_at_once_lose_nothing_and_keep_each_call_with_its_result(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = TurnlogSession(store, "s")

            @function_tool
            async def other() -> str:
                await Runner.run(agent("Hello."), "Other", session=session)
                return "done"

            one: Agent[Any] = agent([call("other")], "Done.", tools=[other])
            await Runner.run(one, "First", session=session)
            turns = (await store.session("s")).turns
            held = [texts([cast("Any", message.to_dict()) for message in turn.messages]) for turn in turns]
            calls = ["function_call", "function_call_output", "Done."]
            assert held == [["First"], ["Other", "Hello."], calls]
            assert [(turn.open, turn.interrupted) for turn in turns] == [(True, True), (False, False), (False, False)]

    run(test)


def test_a_run_does_not_bring_back_a_session_that_was_erased(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:

            @function_tool
            async def forget() -> str:
                await store.erase("s")
                return "erased"

            with pytest.raises(Conflict, match="erased or has expired"):
                await Runner.run(
                    agent([call("forget")], tools=[forget]), "Erase me", session=TurnlogSession(store, "s")
                )
            with pytest.raises(SessionNotFound):
                await store.info("s")

    run(test)


def test_a_run_that_clears_its_own_session_stores_the_rest(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = TurnlogSession(store, "s")

            @function_tool
            async def forget() -> str:
                await session.clear_session()
                return "cleared"

            await Runner.run(agent([call("forget")], "Done.", tools=[forget]), "Clear", session=session)
            assert texts(await session.get_items()) == ["function_call", "function_call_output", "Done."]

    run(test)


def test_items_without_a_run_make_turns(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = TurnlogSession(store, "s")
            for each in (["user", "assistant"], ["user"], ["assistant"], ["user"], ["user"]):
                await session.add_items([item(role, role) for role in each])
            await session.add_items(cast("Any", [{"__enc__": 1, "payload": "…"}]))  # of an EncryptedSession
            await session.add_items([])
            assert [len(turn.messages) for turn in (await store.session("s")).turns] == [2, 2, 1, 1, 1]

    run(test)


def test_limits_are_those_of_the_sdk(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = TurnlogSession(store, "s", session_settings={"limit": 2})
            assert await session.get_items() == await session.get_items(5) == []
            await session.add_items([item("user", str(number)) for number in range(4)])
            await session.add_items([item("user", "4")])
            limits = None, 0, 1, 3, 5, 9, -1, 2_147_483_647
            found = {limit: texts(await session.get_items(limit)) for limit in limits}
            every = ["0", "1", "2", "3", "4"]
            assert list(found.values()) == [every[3:], [], every[4:], every[2:], every, every, every, every]
            assert await TurnlogSession(store, "s", session_settings=SessionSettings(limit=0)).get_items() == []

    run(test)


def test_items_are_removed_from_the_end(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = TurnlogSession(store, "s")
            assert await session.pop_item() is None
            await ask(session)
            popped = [await session.pop_item() for _ in range(5)]
            assert texts([one for one in popped if one]) == RUN[::-1] and popped[4] is None
            assert (await store.info("s")).messages == 0
            await ask(session)  # the turn of the first run is not taken for a repeat of it
            assert texts(await session.get_items()) == RUN
            await session.clear_session()
            await session.clear_session()
            assert await session.get_items() == []

    run(test)


def test_tasks_that_remove_items_at_once_get_different_ones(url: str) -> None:
    async def test() -> None:
        async with opened(url, lambda inner: FaultyBackend(inner, delay=0.9)) as store:
            sessions = [TurnlogSession(store, "s") for _ in range(3)]
            await sessions[0].add_items([item("user", str(number)) for number in range(6)])
            popped = await asyncio.gather(*(session.pop_item() for session in sessions * 2))
            assert sorted(texts([one for one in popped if one])) == ["0", "1", "2", "3", "4", "5"]

    run(test)


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request", "repeat"])
def test_a_lost_answer_is_settled(url: str, fault: Any) -> None:
    async def test() -> None:
        faulty: FaultyBackend

        def layer(inner: Any) -> FaultyBackend:
            nonlocal faulty
            faulty = FaultyBackend(inner)
            return faulty

        async with opened(url, layer) as store:
            session = TurnlogSession(store, "s")
            faulty.fail_next(fault)
            await session.add_items([item("user", "Hi")])
            faulty.fail_next(fault)
            await session.add_items([item("assistant", "Hello")])
            assert texts(await session.get_items()) == ["Hi", "Hello"]
            assert [turn.open for turn in (await store.session("s")).turns] == [False]
            faulty.fail_next("delay", "delay", fault)  # two reads, then the commit
            assert await session.pop_item() == item("assistant", "Hello")
            assert texts(await session.get_items()) == ["Hi"]
            faulty.fail_next(fault)
            await session.clear_session()
            assert await session.get_items() == []

    run(test)


def test_a_run_goes_on_after_lost_answers(url: str) -> None:
    async def test() -> None:
        def layer(inner: Any) -> FaultyBackend:
            return FaultyBackend(inner)

        async with opened(url, layer) as store:
            faulty = store.find(FaultyBackend)
            faulty.fail_next("delay", "lose_reply", "repeat", "lose_request", "repeat", "lose_reply")
            assert await ask(TurnlogSession(store, "s")) == ANSWER
            session = await store.session("s")
            assert texts(cast("Any", session.to_dicts())) == RUN
            assert len(session.turns) == 1

    run(test)


def test_an_unavailable_store_raises_and_stores_nothing(url: str) -> None:
    async def test() -> None:
        async with opened(url, FaultyBackend) as store:
            session = TurnlogSession(store, "s")
            store.find(FaultyBackend).crashed = True
            with pytest.raises(Unavailable):
                await session.add_items([item("user", "Hi")])
            store.find(FaultyBackend).restart()
            assert await session.get_items() == []

    run(test)


@pytest.mark.parametrize("cancellations", [1, 3])
def test_a_cancelled_write_ends_before_the_cancellation(url: str, cancellations: int) -> None:
    # Fails if add_items awaits the store directly: a retry could then overtake the write.
    async def test() -> None:
        async with opened(url, Gate) as store:
            session, gate = TurnlogSession(store, "s"), store.find(Gate)
            gate.is_shut = True
            task = asyncio.create_task(session.add_items([item("user", "Hi")]))
            await gate.reached.wait()
            for _ in range(cancellations):
                task.cancel()
                await asyncio.sleep(0)
            assert not task.done()
            gate.go.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert texts(await session.get_items()) == ["Hi"]

    run(test)


def test_users_and_tenants_are_kept_apart(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            ann, bob = store.for_owner("ann"), store.for_owner("bob")
            await ask(TurnlogSession(ann, "s"))
            other = TurnlogSession(bob, "s")
            assert await other.get_items() == []
            assert await other.pop_item() is None
            await other.clear_session()
            with pytest.raises(SessionNotFound, match="of owner 'bob'"):
                await other.add_items([item("user", "Let me in")])
            await TurnlogSession(store.within("acme"), "s").add_items([item("user", "Hi")])
            assert texts(await TurnlogSession(ann, "s").get_items()) == RUN
            assert (await store.erase_owner("ann")).sessions == 1
            assert await TurnlogSession(ann, "s").get_items() == []

    run(test)


def test_every_value_of_json_is_returned_as_it_was(url: str) -> None:
    values: dict[str, Any] = {
        "content": [{"type": "input_text", "text": "a\ud800b\0"}],
        "role": "user",
        "more": [2**80, -0.0, float("inf"), None, True, {}, [], "", {"": {"a": []}}],
    }

    async def test() -> None:
        async with opened(url) as store:
            session = TurnlogSession(store, "s")
            await session.add_items(cast("Any", [values, {"type": "reasoning", "summary": []}]))
            assert await session.get_items() == [values, {"type": "reasoning", "summary": []}]

    run(test)


def test_bad_arguments_are_refused_before_anything_is_sent() -> None:
    store = open_store("memory://")
    for wrong in ("sqlite:///chat.db", turnlog.sync.open_store("memory://"), None):
        with pytest.raises(InvalidInput, match=r"takes an opened turnlog\.Store and a session id, not"):
            TurnlogSession(cast("Any", wrong), "s")
    for id in ("", "a\n", "x" * 256, 7, None):
        with pytest.raises(InvalidInput, match="session id"):
            TurnlogSession(store, cast("Any", id))
    with pytest.raises(TypeError, match="Unknown session settings: limitt"):
        TurnlogSession(store, "s", session_settings={"limitt": 1})

    async def test() -> None:
        session = TurnlogSession(store, "s")
        with pytest.raises(InvalidInput, match="not JSON"):
            await session.add_items([item("user", "Hi"), cast("Any", {"role": "user", "content": object()})])
        deep: Any = "x"
        for _ in range(101):
            deep = [deep]
        with pytest.raises(TooLarge, match="100 levels"):
            await session.add_items([cast("Any", {"role": "user", "content": deep})])
        assert await session.get_items() == []

    run(test)


def test_a_program_without_the_sdk_learns_the_command_that_installs_it() -> None:
    code = "import sys; sys.modules['agents'] = None; import turnlog_openai_agents"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "ModuleNotFoundError: turnlog_openai_agents needs the OpenAI Agents SDK" in done.stderr
    assert "pip install 'turnlog[openai-agents]'" in done.stderr


def test_a_store_that_retains_turns_keeps_calls_and_results_together(url: str) -> None:
    async def test() -> None:
        async with open_store(url + ("&" if "?" in url else "?") + "retain=2") as store:
            session = TurnlogSession(store, "s")
            for _ in range(4):
                await ask(session)
            assert texts(await session.get_items()) == RUN * 2
            calls = Counter(str(one.get("type")) for one in await session.get_items())
            assert calls["function_call"] == calls["function_call_output"] == 2

    run(test)
