"""`TurnlogSaver` under a graph: runs, branches, threads, errors, and the store underneath."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

import turnlog.sync
from adapters.langgraph.graphs import ask, chat, put, texts, thread, values
from adapters.stacks import SERVERS, url_of
from turnlog import Change, Conflict, InvalidInput, Key, Layer, OutcomeUnknown, Receipt, SessionNotFound, Store, user
from turnlog_langgraph import TurnlogSaver
from turnlog_memory import MemoryBackend

ALICE = thread("alice")


class Lossy(Layer):
    """A layer that loses the answers of commits on demand."""

    lost = 0

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await self.inner.commit(key, change)
        if self.lost:
            self.lost -= 1
            raise OutcomeUnknown("the connection broke", key=key, change=change)
        return receipt


@pytest.fixture
def store() -> Iterator[turnlog.sync.Store]:
    with turnlog.sync.open_store("memory://") as opened:
        yield opened


@pytest.mark.parametrize("stack", SERVERS)
def test_a_restart_forgets_nothing(stack: str, tmp_path: Path) -> None:
    url = url_of(stack, tmp_path)
    for number in range(3):
        with turnlog.sync.open_store(url) as store:
            graph = chat(TurnlogSaver(store))
            assert len(texts(graph, ALICE)) == 4 * number
            assert ask(graph, ALICE, f"Paris {number}") == "It is sunny."
    with turnlog.sync.open_store(url) as store:
        graph = chat(TurnlogSaver(store))
        assert texts(graph, ALICE)[::4] == ["Paris 0", "Paris 1", "Paris 2"]
        assert len([*graph.get_state_history(ALICE)]) == 15


def test_all_ways_of_calling_share_a_thread(url: str) -> None:
    """The synchronous methods also work in a running loop, and an asynchronous store serves several loops."""

    async def two_ways() -> None:
        assert len((await graph.ainvoke({"messages": [("user", "Rome")]}, ALICE))["messages"]) == 8
        assert ask(graph, ALICE, "Oslo") == "It is sunny."
        history = [one async for one in graph.aget_state_history(ALICE)]
        assert len(history) == len([*graph.get_state_history(ALICE)]) == 15

    with turnlog.sync.open_store(url) as store:
        graph = chat(TurnlogSaver(store.wrapped))
        ask(graph, ALICE, "Paris")
        asyncio.run(two_ways())
        assert len(texts(graph, ALICE)) == 12


def test_threads_of_a_process_lose_nothing(url: str) -> None:
    with turnlog.sync.open_store(url) as store, ThreadPoolExecutor(4) as pool:
        graph = chat(TurnlogSaver(store))
        done = [pool.submit(ask, graph, thread(f"t{number % 3}"), f"city {number}") for number in range(12)]
        assert [one.result() for one in done] == ["It is sunny."] * 12
        asked = [
            state.values["messages"][0].content
            for number in range(3)
            for state in graph.get_state_history(thread(f"t{number}"), filter={"source": "loop"})
            if len(state.values["messages"]) == 4
        ]
        reached = {message for number in range(3) for message in _all_texts(graph, thread(f"t{number}"))}
        assert len(asked) >= 1
        assert {f"city {number}" for number in range(12)} <= reached


def _all_texts(graph: Any, config: Any) -> set[str]:
    return {str(one.content) for state in graph.get_state_history(config) for one in state.values.get("messages", ())}


def test_interrupt_and_resume_in_another_process(store: turnlog.sync.Store) -> None:
    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"You said {interrupt('Sure?')}.")]}

    def graph() -> Any:
        builder = StateGraph(MessagesState)
        builder.add_node("node", node)
        builder.add_edge(START, "node")
        return builder.compile(checkpointer=TurnlogSaver(store))

    assert graph().invoke({"messages": [("user", "Delete it")]}, ALICE)["__interrupt__"][0].value == "Sure?"
    assert graph().get_state(ALICE).next == ("node",)
    assert graph().invoke(Command(resume="yes"), ALICE)["messages"][-1].content == "You said yes."


# ------------------------------------------------------------------------------------------------------------- branches


def test_two_writers_of_a_thread(store: turnlog.sync.Store) -> None:
    """Both succeed, and the thread continues the last one; with "refuse", the second one is refused."""
    for on_fork in ("allow", "refuse"):
        config = thread(on_fork)
        first, second = TurnlogSaver(store, on_fork=on_fork), TurnlogSaver(store, on_fork=on_fork)
        start = put(first, config, {"messages": [HumanMessage("Hello", id="0")]})
        seen = second.get_tuple(config)
        assert seen is not None
        put(first, config, {"messages": [HumanMessage("Hello", id="0"), AIMessage("One", id="1")]})
        version = second.get_next_version(str(seen.checkpoint["channel_versions"]["messages"]), None)
        other = {
            **seen.checkpoint,
            "id": "1fff0000-0000-6000-8000-000000000000",
            "channel_values": {"messages": [HumanMessage("Hello", id="0"), AIMessage("Two", id="2")]},
            "channel_versions": {"messages": version},
        }

        def late(other: Any = other, saver: TurnlogSaver = second, start: Any = start, version: str = version) -> None:
            saver.put(start, other, {"source": "loop", "step": 2}, {"messages": version})

        if on_fork == "refuse":
            with pytest.raises(Conflict, match=r"is at checkpoint .*, but this run continues .*: another run has"):
                late()
        else:
            late()
        said = [message.content for message in values(TurnlogSaver(store), config)["messages"]]
        assert said == ["Hello", "Two" if on_fork == "allow" else "One"]
        assert len([*first.list(config)]) == (3 if on_fork == "allow" else 2)


def test_a_turn_of_another_process_is_seen_after_a_write(store: turnlog.sync.Store) -> None:
    ours, others = TurnlogSaver(store), TurnlogSaver(store)
    start = put(ours, ALICE, {"x": 1})
    other = put(others, ALICE, {"x": 2})
    ours.put_writes(start, [("x", 3)], "task")
    found = ours.get_tuple(start)
    assert found is not None
    assert found.pending_writes == [("task", "x", 3)]
    assert values(ours, other) == values(ours, ALICE) == {"x": 2}


def test_a_refusing_saver_lets_a_run_branch_off_on_purpose(url: str) -> None:
    with turnlog.sync.open_store(url) as store:
        graph = chat(TurnlogSaver(store, on_fork="refuse"))
        for city in ("Paris", "Rome"):
            ask(graph, ALICE, city)
        old = next(state for state in graph.get_state_history(ALICE) if len(state.values["messages"]) == 4)
        assert ask(graph, old.config, "Oslo") == "It is sunny."  # a new question to an old checkpoint
        assert texts(graph, ALICE)[::4] == ["Paris", "Oslo"]
        assert ask(graph, ALICE, "Bonn") == "It is sunny."
        graph.update_state(old.config, {"messages": [AIMessage("Never mind.")]})
        assert texts(graph, ALICE) == ["Paris", "", "sunny", "It is sunny.", "Never mind."]
        graph.update_state(ALICE, {"messages": [AIMessage("Bye.")]})
        graph.update_state(ALICE, None, as_node="__copy__")
        assert texts(graph, ALICE)[-1] == "Bye."


def test_two_first_runs_of_a_thread_are_a_branch(store: turnlog.sync.Store) -> None:
    first, second = TurnlogSaver(store, on_fork="refuse"), TurnlogSaver(store, on_fork="refuse")
    assert first.get_tuple(ALICE) is second.get_tuple(ALICE) is None
    put(first, ALICE, {"x": 1})
    state: Any = {"v": 1, "id": "1", "ts": "", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}
    with pytest.raises(Conflict, match="but this run continues None"):
        second.put(ALICE, state, {"source": "input", "step": -1}, {})


# --------------------------------------------------------------------------------------------------------------- faults


def test_a_lost_answer_is_stored_once() -> None:
    layer = Lossy(MemoryBackend())
    with turnlog.sync.Store(layer) as store:
        graph = chat(TurnlogSaver(store))
        layer.lost = 1
        ask(graph, ALICE, "Paris")
        once = store.info("alice").turns
        for lost in (1, 2):
            layer.lost = lost
            ask(graph, ALICE, "Rome")
        assert layer.lost == 0
        assert len(texts(graph, ALICE)) == 12
        assert store.info("alice").turns == 3 * once
        layer.lost = 1
        graph.checkpointer.copy_thread("alice", "bob")  # type: ignore[union-attr]
        layer.lost = 1
        graph.checkpointer.prune(["alice"])  # type: ignore[union-attr]
        assert len(texts(graph, ALICE)) == len(texts(graph, thread("bob"))) == 12


def test_a_thread_that_was_erased_during_a_run_does_not_come_back(store: turnlog.sync.Store) -> None:
    saver = TurnlogSaver(store)
    put(saver, ALICE, {"secret": "in the checkpoint"})
    found = saver.get_tuple(ALICE)
    assert found is not None
    store.erase("alice")  # the user requests it while a model works on the answer
    with pytest.raises(Conflict, match="was erased or has expired"):
        saver.put(found.config, found.checkpoint, {"source": "loop", "step": 2}, {})
    with pytest.raises(Conflict, match="was erased or has expired"):
        saver.put_writes(found.config, [("secret", "again")], "task")
    with pytest.raises(SessionNotFound):
        store.info("alice")
    assert saver.get_tuple(ALICE) is None
    put(saver, ALICE, {"next": "conversation"})
    assert values(saver, ALICE) == {"next": "conversation"}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("memory://",), "TurnlogSaver takes a store, as open_store returns it, not str"),
        ((Store(MemoryBackend(), retain=500),), "but this one has retain=500: later turns need values of earlier"),
        ((Store(MemoryBackend()), "maybe"), "on_fork must be 'allow' or 'refuse', not 'maybe'"),
    ],
)
def test_bad_arguments(arguments: Any, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        TurnlogSaver(arguments[0], on_fork=arguments[1] if len(arguments) > 1 else "allow")


def test_without_langgraph_the_import_names_the_extra() -> None:
    code = "import sys; sys.modules['langgraph.checkpoint.base'] = None; import turnlog_langgraph"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "but langgraph.checkpoint.base is not installed: pip install 'turnlog[langgraph]'" in done.stderr


def test_an_unknown_strategy_removes_nothing(store: turnlog.sync.Store) -> None:
    saver = TurnlogSaver(store)
    put(saver, ALICE, {"x": 1})
    with pytest.raises(InvalidInput, match="must be 'keep_latest' or 'delete', not 'keep_last'"):
        saver.prune(["alice"], strategy="keep_last")
    assert values(saver, ALICE) == {"x": 1}


# ------------------------------------------------------------------------------------------------------------ sessions


@pytest.mark.parametrize("id", ["Łódź 北京", "user/1", "50%", "a\tb", "x" * 300, "é" * 200, 7, " padded"])
def test_any_thread_id(id: str | int, store: turnlog.sync.Store) -> None:
    saver = TurnlogSaver(store)
    stored = put(saver, thread(id), {"x": 1})
    assert stored["configurable"]["thread_id"] == id
    assert values(TurnlogSaver(store), thread(id)) == {"x": 1}
    assert [one.config["configurable"]["thread_id"] for one in saver.list(None)] == [str(id)]
    saver.copy_thread(str(id), f"{id}-copy")
    listed = {one.config["configurable"]["thread_id"] for one in saver.list(None)}
    assert listed == {str(id), f"{id}-copy"}
    saver.delete_thread(str(id))
    assert saver.get_tuple(thread(id)) is None


def test_users_and_tenants_are_isolated(url: str) -> None:
    with turnlog.sync.open_store(url) as store:
        ann, bob = (chat(TurnlogSaver(store.for_owner(name))) for name in ("ann", "bob"))
        ask(ann, ALICE, "Paris")
        assert texts(bob, ALICE) == []
        with pytest.raises(SessionNotFound, match="no session 'alice' of owner 'bob'"):
            ask(bob, ALICE, "Rome")
        other = chat(TurnlogSaver(store.within("acme")))
        assert texts(other, ALICE) == []
        ask(other, ALICE, "Oslo")
        assert len(texts(ann, ALICE)) == 4
        assert store.erase_owner("ann").sessions == 1
        assert texts(ann, ALICE) == []
        assert len(texts(other, ALICE)) == 4


def test_turns_of_others_in_the_session_are_ignored(store: turnlog.sync.Store) -> None:
    store.append("alice", [user("Hello")])
    graph = chat(TurnlogSaver(store))
    ask(graph, ALICE, "Paris")
    store.append("alice", [user("A note")])
    assert ask(graph, ALICE, "Rome") == "It is sunny."
    assert len(texts(chat(TurnlogSaver(store)), ALICE)) == 8
