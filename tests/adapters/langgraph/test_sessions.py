"""Threads as sessions of turnlog: shown, listed, exported, erased, forked and pruned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from typing_extensions import TypedDict

import turnlog.sync
from adapters.langgraph.graphs import ask, chat, put, texts, thread, values
from turnlog import Conflict, CorruptRecord
from turnlog_cli import main
from turnlog_langgraph import TurnlogSaver

ALICE = thread("alice")


@pytest.fixture
def store() -> Iterator[turnlog.sync.Store]:
    with turnlog.sync.open_store("memory://") as opened:
        yield opened


def test_turnlog_shows_lists_exports_and_erases_threads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/threads.db"
    with turnlog.sync.open_store(url) as store:
        graph = chat(TurnlogSaver(store.for_owner("ann")))
        ask(graph, ALICE, "Paris")
        ask(graph, ALICE, "Rome")
    assert main(["show", "alice", "--store", url]) == 0
    shown = capsys.readouterr().out.splitlines()
    said = [line for line in shown if line.startswith(("  user", "  assistant", "  tool"))]
    assert said == [
        "  user: Paris",
        '  assistant calls weather({"city": "Paris"}) as call-Paris',
        "  tool call-Paris: sunny",
        "  assistant: It is sunny.",
        "  user: Rome",
        '  assistant calls weather({"city": "Rome"}) as call-Rome',
        "  tool call-Rome: sunny",
        "  assistant: It is sunny.",
    ]
    assert "  checkpoint: input, step -1" in shown
    assert "  checkpoint: loop, step 2" in shown
    assert "  writes: messages, branch:to:model" in shown
    assert max(len(line) for line in shown[3:]) < 120  # no bytes
    assert main(["list", "--store", url, "--owner", "ann"]) == 0
    assert capsys.readouterr().out.startswith("alice\t")
    assert main(["export", "--store", url, "--output", str(tmp_path / "all.jsonl")]) == 0
    copied = f"sqlite:///{tmp_path}/copied.db"
    assert main(["migrate", "--store", copied]) == 0
    assert main(["import", str(tmp_path / "all.jsonl"), "--store", copied]) == 0
    with turnlog.sync.open_store(copied) as store:
        graph = chat(TurnlogSaver(store))
        assert len(texts(graph, ALICE)) == 8
        assert ask(graph, ALICE, "Oslo") == "It is sunny."
    assert main(["erase", "--owner", "ann", "--store", url, "--yes"]) == 0
    with turnlog.sync.open_store(url) as store:
        assert texts(chat(TurnlogSaver(store)), ALICE) == []


def test_a_fork_of_the_session_is_a_thread(url: str) -> None:
    with turnlog.sync.open_store(url) as store:
        graph = chat(TurnlogSaver(store))
        ask(graph, ALICE, "Paris")
        turns = store.info("alice").turns
        ask(graph, ALICE, "Rome")
        store.fork("alice", "bob", at=turns)
        graph.checkpointer.copy_thread("alice", "carol")  # type: ignore[union-attr]
        for name, answers in (("alice", 2), ("bob", 1), ("carol", 2)):
            assert len(texts(graph, thread(name))) == 4 * answers
            ask(graph, thread(name), "Oslo")
            assert len(texts(chat(TurnlogSaver(store)), thread(name))) == 4 * answers + 4
        with pytest.raises(Conflict):
            graph.checkpointer.copy_thread("alice", "bob")  # type: ignore[union-attr]


def test_undone_turns_are_forgotten_by_every_process(store: turnlog.sync.Store) -> None:
    graph = chat(TurnlogSaver(store))
    ask(graph, ALICE, "Paris")
    turns = store.info("alice").turns
    ask(graph, ALICE, "Rome")
    store.rewind("alice", turns=store.info("alice").turns - turns)
    assert len(texts(graph, ALICE)) == 4
    ask(graph, ALICE, "Oslo")
    for one in (graph, chat(TurnlogSaver(store))):
        assert texts(one, ALICE)[::4] == ["Paris", "Oslo"]


def test_prune_keeps_the_last_checkpoint_and_its_text(url: str) -> None:
    with turnlog.sync.open_store(url) as store:
        graph = chat(TurnlogSaver(store))
        for city in ("Paris", "Rome"):
            ask(graph, ALICE, city)
        before = graph.get_state(ALICE)
        graph.checkpointer.prune(["alice", "nobody"])  # type: ignore[union-attr]
        for one in (graph, chat(TurnlogSaver(store))):
            assert len([*one.get_state_history(ALICE)]) == 1
            after = one.get_state(ALICE)
            assert (after.values, after.config, after.next) == (before.values, before.config, before.next)
        assert [message.content for message in store.load("alice") if message.get("type") == "human"] == [
            "Paris",
            "Rome",
        ]
        ask(graph, ALICE, "Oslo")
        assert len(texts(chat(TurnlogSaver(store)), ALICE)) == 12


def test_a_run_that_another_process_prunes_loses_nothing(store: turnlog.sync.Store) -> None:
    """The run refers to a list that is gone: its next checkpoint is stored again with all values."""
    running, pruning = TurnlogSaver(store), TurnlogSaver(store)
    messages = [HumanMessage(f"{number}", id=str(number)) for number in range(5)]
    branch = put(running, ALICE, {"messages": messages[:3]})
    seen = running.get_tuple(branch)
    assert seen is not None
    put(pruning, ALICE, {"messages": [messages[4]]})
    pruning.prune(["alice"])
    version = running.get_next_version(str(seen.checkpoint["channel_versions"]["messages"]), None)
    checkpoint: Any = {
        **seen.checkpoint,
        "id": "1fff0000-0000-6000-8000-000000000000",
        "channel_values": {"messages": messages[:4]},
        "channel_versions": {"messages": version},
    }
    running.put(branch, checkpoint, {"source": "loop", "step": 9}, {"messages": version})
    for saver in (running, pruning, TurnlogSaver(store)):
        assert values(saver, ALICE)["messages"] == messages[:4]
        assert len([*saver.list(ALICE)]) == 2


def test_dropped_turns_are_reported(store: turnlog.sync.Store) -> None:
    saver = TurnlogSaver(store)
    for number in range(3):
        earlier = values(saver, ALICE)["messages"] if number else []
        put(saver, ALICE, {"messages": [*earlier, HumanMessage("x" * (1 if number else 5_000))]})
    store.trim("alice", before=1)
    with pytest.raises(CorruptRecord, match=r"thread 'alice': checkpoint .* needs turn 0, which is no longer stored"):
        TurnlogSaver(store).get_tuple(ALICE)


class State(TypedDict):
    messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer)]


def test_prune_keeps_the_ancestors_that_a_delta_channel_needs(store: turnlog.sync.Store) -> None:
    builder = StateGraph(State)
    builder.add_node("model", lambda state: {"messages": [AIMessage(f"answer {len(state['messages'])}")]})
    builder.add_edge(START, "model")
    graph = builder.compile(checkpointer=TurnlogSaver(store))
    for number in range(3):
        graph.invoke({"messages": [HumanMessage(f"{number}")]}, ALICE)
    before = graph.get_state(ALICE).values
    assert len(before["messages"]) == 6
    graph.checkpointer.prune(["alice"])  # type: ignore[union-attr]
    assert builder.compile(checkpointer=TurnlogSaver(store)).get_state(ALICE).values == before


def test_the_runs_of_a_thread_are_deleted(store: turnlog.sync.Store) -> None:
    saver = TurnlogSaver(store)
    kept = put(saver, ALICE, {"messages": [HumanMessage("1")]}, run_id="a")
    put(saver, ALICE, {"messages": [HumanMessage("1"), HumanMessage("2")]}, run_id="b")
    put(saver, thread("bob"), {"x": 1}, run_id="b")
    saver.delete_for_runs(["b"])
    assert saver.get_tuple(thread("bob")) is None
    found = saver.get_tuple(ALICE)
    assert found is not None
    assert found.config == kept
    assert [message.content for message in found.checkpoint["channel_values"]["messages"]] == ["1"]


def test_the_export_is_json(store: turnlog.sync.Store, tmp_path: Path) -> None:
    put(TurnlogSaver(store), ALICE, {"messages": [HumanMessage("Hello", id="1")]})
    head, blobs, message = store.session("alice").to_dicts()
    assert head["role"] == "checkpoint"
    assert blobs["role"] == "values"
    assert message == {"type": "human", "content": "Hello", "id": "1"}
    json.dumps(head)
