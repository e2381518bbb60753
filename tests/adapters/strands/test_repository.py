"""Sessions, agents and messages of Strands in every store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

import turnlog.sync
from adapters.strands.agents import agent_of
from turnlog import InvalidInput, user
from turnlog.testing.faulty import FaultyBackend
from turnlog_cli import main
from turnlog_memory import MemoryBackend
from turnlog_strands import TurnlogSessionRepository


@pytest.fixture
def store(url: str) -> Iterator[turnlog.sync.Store]:
    with turnlog.sync.open_store(url) as store:
        yield store


@pytest.fixture
def repository(store: turnlog.sync.Store) -> TurnlogSessionRepository:
    return TurnlogSessionRepository(store)


def begin(repository: TurnlogSessionRepository, session_id: str = "c", agent_id: str = "a") -> None:
    repository.create_session(Session(session_id, SessionType.AGENT))
    repository.create_agent(session_id, SessionAgent(agent_id, {"n": 1}, {}))


def record(number: int, text: str = "hello", role: Any = "user") -> SessionMessage:
    return SessionMessage({"role": role, "content": [{"text": text}]}, number)


def texts(repository: TurnlogSessionRepository, session_id: str = "c", agent_id: str = "a", **part: int) -> list[str]:
    return [it.to_message()["content"][0]["text"] for it in repository.list_messages(session_id, agent_id, **part)]


def test_a_question_with_its_tool_call_and_answer_is_one_turn(store: turnlog.sync.Store) -> None:
    agent = agent_of(TurnlogSessionRepository(store))
    agent("Paris")
    agent("Rome")
    session = store.session("c/default")
    assert [[message.role for message in turn.messages] for turn in session.turns] == [
        ["user", "assistant", "user", "assistant"]
    ] * 2
    assert not any(turn.open for turn in session.turns)


def test_a_restart_remembers_messages_and_state(store: turnlog.sync.Store) -> None:
    agent = agent_of(TurnlogSessionRepository(store))
    agent.state.set("city", "Paris")
    agent("Paris")
    again = agent_of(TurnlogSessionRepository(store))
    assert again.messages == agent.messages
    assert again.state.get("city") == "Paris"


def test_every_value_of_a_message_is_loaded_again(repository: TurnlogSessionRepository) -> None:
    begin(repository)
    message: Any = {
        "role": "user",
        "content": [{"image": {"format": "png", "source": {"bytes": b"\x00\xff"}}}, {"text": "é\ud800"}],
        "tracking_id": "t",
    }
    stored = SessionMessage(message, 0)
    repository.create_message("c", "a", stored)
    assert repository.read_message("c", "a", 0) == stored
    assert repository.list_messages("c", "a") == [stored]


@pytest.mark.parametrize("name", ["ann/7", "Zoë 😀", "a\tb", "x" * 300, "..", ""])
def test_ids_may_be_any_text(repository: TurnlogSessionRepository, name: str) -> None:
    begin(repository, name, name)
    repository.create_message(name, name, record(0))
    found = repository.read_session(name)
    assert found is not None
    assert found.session_id == name
    assert texts(repository, name, name) == ["hello"]
    repository.delete_session(name)
    assert repository.read_session(name) is None
    assert repository.read_agent(name, name) is None


def test_a_message_of_another_process_is_not_overwritten(store: turnlog.sync.Store) -> None:
    first, second = TurnlogSessionRepository(store), TurnlogSessionRepository(store)
    begin(first)
    first.create_message("c", "a", record(0, "one"))
    with pytest.raises(SessionException, match=r"Message 0 already exists .* make a new agent"):
        second.create_message("c", "a", record(0, "two"))
    assert texts(first) == ["one"]


def test_an_agent_that_is_out_of_date_is_refused(store: turnlog.sync.Store) -> None:
    first, second = agent_of(TurnlogSessionRepository(store)), agent_of(TurnlogSessionRepository(store))
    first("Paris")
    with pytest.raises(SessionException, match="already exists"):
        second("Rome")
    assert store.info("c/default").turns == 1


def test_an_update_replaces_one_message(repository: TurnlogSessionRepository) -> None:
    begin(repository)
    for number, role in enumerate(("user", "assistant", "user")):
        repository.create_message("c", "a", record(number, f"text {number}", role))
    changed = record(0, "text 0")
    changed.redact_message = {"role": "user", "content": [{"text": "redacted"}]}
    repository.update_message("c", "a", changed)
    assert texts(repository) == ["redacted", "text 1", "text 2"]
    repository.update_message("c", "a", record(2, "new"))
    repository.create_message("c", "a", record(3, "answer", "assistant"))
    assert texts(repository) == ["redacted", "text 1", "new", "answer"]
    assert repository._store.info("c/a").turns == 2
    with pytest.raises(SessionException, match="Message 9 does not exist"):
        repository.update_message("c", "a", record(9))


def test_undone_turns_can_be_written_again(repository: TurnlogSessionRepository) -> None:
    begin(repository)
    repository.create_message("c", "a", record(0, "one"))
    repository.create_message("c", "a", record(1, "two"))
    repository._store.rewind("c/a", turns=1)
    repository.create_message("c", "a", record(1, "two"))
    assert texts(repository) == ["one", "two"]


def test_offset_and_limit(repository: TurnlogSessionRepository) -> None:
    begin(repository)
    for number in range(5):
        repository.create_message("c", "a", record(number, str(number)))
    assert texts(repository, offset=1, limit=2) == ["1", "2"]
    assert texts(repository, offset=9) == []
    repository._store.trim("c/a", before=2)
    assert texts(repository, offset=3) == ["3", "4"]
    assert texts(repository, offset=1) == ["2", "3", "4"]
    with pytest.raises(InvalidInput, match="must not be negative"):
        repository.list_messages("c", "a", limit=-1)


def test_a_forked_session_is_independent(store: turnlog.sync.Store) -> None:
    agent_of(TurnlogSessionRepository(store))("Paris")
    store.fork("c/default", "d/default")
    store.fork("c", "d")
    fork = agent_of(TurnlogSessionRepository(store), "d")
    assert len(fork.messages) == 4
    fork("Rome")
    assert [store.info(f"{name}/default").turns for name in "cd"] == [1, 2]


def test_users_do_not_see_each_other(store: turnlog.sync.Store) -> None:
    ann, bob = (TurnlogSessionRepository(store.for_owner(name)) for name in ("ann", "bob"))
    begin(ann)
    assert bob.read_session("c") is None
    with pytest.raises(SessionException, match="already exists"):
        begin(bob)
    with pytest.raises(SessionException, match="does not exist"):
        bob.list_messages("c", "a")
    with pytest.raises(SessionException, match="does not exist"):
        bob.delete_session("c")
    assert store.erase_owner("ann").sessions == 2


def test_what_is_missing_is_an_error_of_strands(repository: TurnlogSessionRepository) -> None:
    with pytest.raises(SessionException, match="Session c does not exist"):
        repository.create_agent("c", SessionAgent("a", {}, {}))
    begin(repository)
    with pytest.raises(SessionException, match="Session c already exists"):
        begin(repository)
    with pytest.raises(SessionException, match="Agent a in session c already exists"):
        repository.create_agent("c", SessionAgent("a", {}, {}))
    with pytest.raises(SessionException, match="Agent b does not exist"):
        repository.create_message("c", "b", record(0))
    with pytest.raises(SessionException, match="Agent b in session c does not exist"):
        repository.update_agent("c", SessionAgent("b", {}, {}))
    with pytest.raises(SessionException, match="MultiAgent g does not exist"):
        repository.update_multi_agent("c", graph("g", {}))


def test_the_state_of_a_graph(repository: TurnlogSessionRepository) -> None:
    begin(repository)
    repository.create_multi_agent("c", graph("g", {"order": ("a", "b")}))
    assert repository.read_multi_agent("c", "g") == {"order": ["a", "b"]}
    repository.update_multi_agent("c", graph("g", {}))
    assert repository.read_multi_agent("c", "g") == {}
    repository.delete_session("c")
    assert repository.read_multi_agent("c", "g") is None


def graph(id: str, state: dict[str, Any]) -> Any:
    return SimpleNamespace(id=id, serialize_state=lambda: state)


def test_sessions_of_others_are_refused(store: turnlog.sync.Store) -> None:
    repository = TurnlogSessionRepository(store)
    begin(repository)
    store.append("c/b", [user("hello")])
    with pytest.raises(InvalidInput, match="holds no agent of Strands"):
        repository.list_messages("c", "b")
    store.append("c/a", [user("hello")])
    with pytest.raises(InvalidInput, match="Strands did not write"):
        repository.list_messages("c", "a")


def test_bad_input() -> None:
    with pytest.raises(InvalidInput, match=r"turnlog\.sync\.Store, not str"):
        TurnlogSessionRepository("memory://")  # type: ignore[arg-type]
    with turnlog.sync.open_store("memory://") as store:
        repository = TurnlogSessionRepository(store.wrapped)
        begin(repository)
        with pytest.raises(InvalidInput, match="cannot be stored as JSON"):
            repository.update_agent("c", SessionAgent("a", {"n": object()}, {}))


def test_a_lost_answer_is_stored_once() -> None:
    backend = FaultyBackend(MemoryBackend())
    with turnlog.sync.Store(backend) as store:
        repository = TurnlogSessionRepository(store)
        begin(repository)
        backend.fail_next("delay", "lose_reply")  # it reads first
        repository.create_message("c", "a", record(0))
        assert texts(repository) == ["hello"]


def test_an_asynchronous_store_works_inside_a_running_loop(url: str) -> None:
    async def run() -> int:
        async with turnlog.open_store(url) as store:
            agent = agent_of(TurnlogSessionRepository(store))
            await agent.invoke_async("Paris")
            return (await store.info("c/default")).messages

    assert asyncio.run(run()) == 4


def test_show_prints_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    with turnlog.sync.open_store(url) as store:
        agent_of(TurnlogSessionRepository(store))("Paris")
    assert main(["show", "c/default", "--store", url]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert shown[0] == "  user: Paris"
    assert '"toolUseId": "call-Paris"' in shown[1]
    assert shown[-1] == "  assistant: It is sunny."
