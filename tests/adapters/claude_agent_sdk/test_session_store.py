"""`TurnlogSessionStore`: traps that the SDK's own tests leave out."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from claude_agent_sdk import SessionKey, SessionStoreEntry, list_sessions_from_store, project_key_for_directory

import turnlog.sync
import turnlog_claude_agent_sdk
import turnlog_cli
from turnlog import HistoryRegressed, InvalidInput, OutcomeUnknown, SessionNotFound, Store, TooLarge, open_store, user
from turnlog.limits import MAX_MESSAGES, MAX_PAYLOAD_BYTES
from turnlog.testing.faulty import Fault, FaultyBackend
from turnlog_claude_agent_sdk import TurnlogSessionStore
from turnlog_memory import MemoryBackend

PROJECT = "-home-ann-shop"
KEY: SessionKey = {"project_key": PROJECT, "session_id": "5f4dcc3b-5aa7-45d6-9d83-27deb882cf99"}


def subagent(name: str, key: SessionKey = KEY) -> SessionKey:
    return {**key, "subpath": f"subagents/agent-{name}"}


def said(uuid: str, text: str = "Hello", **fields: Any) -> Any:
    return {"type": "user", "uuid": uuid, "message": {"role": "user", "content": text}, **fields}


def title(text: str, **fields: Any) -> Any:
    """Return an entry that the CLI writes without a uuid."""
    return {"type": "custom-title", "customTitle": text, **fields}


TITLE = title("Shop")


def uuids(entries: list[SessionStoreEntry] | None) -> list[str | None]:
    return [entry.get("uuid") for entry in entries or []]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[TurnlogSessionStore]:
    async with open_store(url) as store:
        yield TurnlogSessionStore(store)


@pytest.fixture
def store() -> Store:
    return Store(MemoryBackend())


@pytest.fixture
def claude(store: Store) -> TurnlogSessionStore:
    return TurnlogSessionStore(store)


run = asyncio.run


# ------------------------------------------------------------------------------------------------------------- entries


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ODD: list[Any] = [
    said("1", "Grüße \ud800 \U0001f600 \x00"),
    said("2", numbers=[2**80, -0.5, float("inf"), None, True], empty=[{}, [], ""]),
    {"type": "user", "message": {"role": "user", "content": [], "envelope": 1}},
    {"type": "user", "message": {"envelope": {"message": 1}}, "envelope": 2},
    {"type": "user", "message": {}},
    {"type": "user", "message": "no dictionary"},
    {"type": "user", "message": None},
    {"type": "user", "message": {"role": 7}},
    {"type": "x", "entry": "text", "content": "text", "role": "user"},
    {"entry": {"entry": 1}},
    {},
    {"type": "x", "deep": nested(300), "\n\ud800": "\x7f"},
    said("3", deep=nested(300)),
]


def test_entries_of_any_json_are_returned_as_they_were(url: str) -> None:
    async def main() -> None:
        async with opened(url) as claude:
            await claude.append(KEY, ODD)
            assert await claude.load(KEY) == ODD

    run(main())


def test_a_message_is_stored_in_the_form_of_anthropic(claude: TurnlogSessionStore) -> None:
    run(claude.append(KEY, [said("1", "Where is my order?"), TITLE]))
    message, title = run(claude.store.within(f"default/{PROJECT}").load(KEY["session_id"]))
    assert (message.role, message.text) == ("user", "Where is my order?")
    assert (title.role, title.text) == (None, "custom-title")


def test_turnlog_show_prints_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with opened(url) as claude:
            await claude.append(KEY, [said("1", "Where is my order?"), TITLE])

    url = f"sqlite:///{tmp_path}/agent.db"
    run(main())
    command = ["show", KEY["session_id"], f"--store={url}", f"--namespace=default/{PROJECT}"]
    assert turnlog_cli.main(command) == 0
    shown = capsys.readouterr().out
    assert "  user: Where is my order?\n  item: custom-title\n" in shown


# ------------------------------------------------------------------------------------------------------------- repeats


def test_a_batch_that_is_sent_again_is_stored_once_after_a_restart_too(shared: str) -> None:
    batch = [said("1"), TITLE, said("2")]

    async def main() -> None:
        async with opened(shared) as claude:
            await claude.append(KEY, batch)
            await claude.append(KEY, batch)
        async with opened(shared) as claude:
            await claude.append(KEY, batch)
            assert await claude.load(KEY) == batch

    run(main())


@pytest.mark.parametrize("restarted", [False, True])
def test_only_the_new_entries_of_a_batch_are_stored(claude: TurnlogSessionStore, restarted: bool) -> None:
    run(claude.append(KEY, [said("1"), said("2")]))
    again = TurnlogSessionStore(claude.store) if restarted else claude
    run(again.append(KEY, [said("2"), said("3"), said("3"), said("1"), said("4")]))
    assert uuids(run(again.load(KEY))) == ["1", "2", "3", "4"]


def test_entries_without_a_uuid_are_stored_each_time(claude: TurnlogSessionStore) -> None:
    odd = [title("Shop", uuid=""), title("Shop", uuid=""), title("Shop", uuid=None)]
    for batch in ([TITLE], [TITLE], odd, [said("1"), TITLE], [said("1")], [said("1"), title("Other")]):
        run(claude.append(KEY, batch))
    stored: Any = run(claude.load(KEY))
    titles = [entry["customTitle"] for entry in stored if "customTitle" in entry]
    assert titles == ["Shop"] * 6 + ["Other"]


def test_a_session_that_another_process_erased_is_written_again(claude: TurnlogSessionStore) -> None:
    batch = [said("1"), said("2")]
    run(claude.append(KEY, batch))
    run(TurnlogSessionStore(claude.store).delete(KEY))
    run(claude.append(KEY, batch))
    run(claude.append(KEY, [said("3")]))
    assert uuids(run(claude.load(KEY))) == ["1", "2", "3"]


def test_more_transcripts_than_are_kept_in_memory(claude: TurnlogSessionStore) -> None:
    async def main() -> None:
        for _ in range(2):
            for number in range(200):
                await claude.append({**KEY, "session_id": f"session-{number}"}, [said("1"), said("2")])

    run(main())
    assert uuids(run(claude.load({**KEY, "session_id": "session-0"}))) == ["1", "2"]
    assert len(claude._transcripts) == 128


# -------------------------------------------------------------------------------------------------------------- faults


@pytest.fixture
def faulty() -> FaultyBackend:
    return FaultyBackend(MemoryBackend())


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request", "repeat"])
def test_a_lost_answer_is_settled_at_once(faulty: FaultyBackend, fault: Any) -> None:
    claude = TurnlogSessionStore(Store(faulty))
    run(claude.append(KEY, [said("1")]))
    faulty.fail_next(fault)
    run(claude.append(KEY, [said("2"), TITLE]))
    run(claude.append(KEY, [TITLE]))
    assert run(claude.load(KEY)) == [said("1"), said("2"), TITLE, TITLE]


NINE_LOST: list[Fault] = ["lose_request"] * 9


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request", "late"])
def test_a_batch_without_any_answer_may_be_sent_again(
    faulty: FaultyBackend, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    claude = TurnlogSessionStore(Store(faulty))

    async def main() -> None:
        await claude.append(KEY, [said("1")])
        faulty.fail_next(fault, *NINE_LOST)  # `resend` tries nine times
        with pytest.raises(OutcomeUnknown):
            await claude.append(KEY, [said("2"), TITLE])
        await claude.append(KEY, [said("2"), TITLE])
        while faulty.late:
            await faulty.deliver()
        await claude.append(KEY, [said("3")])
        assert await claude.load(KEY) == [said("1"), said("2"), TITLE, said("3")]

    async def skip(_: float) -> None:
        return

    monkeypatch.setattr(asyncio, "sleep", skip)
    run(main())


@pytest.mark.parametrize("seed", range(20))
def test_random_faults_lose_and_double_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clients send each batch until it is stored, as the SDK does three times."""
    rates = {"lose_request": 0.1, "lose_reply": 0.2, "late": 0.1, "repeat": 0.1, "delay": 0.2, "crash": 0.05}
    faulty = FaultyBackend(MemoryBackend(), dice=Random(seed), **rates)

    async def skip(_: float) -> None:
        return await asyncio.tasks.__sleep0()  # type: ignore[attr-defined,no-any-return]

    async def send(claude: TurnlogSessionStore, name: str) -> None:
        for number in range(10):
            batch = [said(f"{name}{number}-question"), TITLE, said(f"{name}{number}-answer")]
            while True:
                try:
                    await claude.append(KEY, batch)
                    break
                except (OutcomeUnknown, turnlog.Unavailable):
                    faulty.restart()

    async def main() -> None:
        await asyncio.gather(*[send(TurnlogSessionStore(Store(faulty)), name) for name in "ab"])
        while faulty.late:
            await faulty.deliver()

    monkeypatch.setattr(asyncio, "sleep", skip)
    run(main())
    faulty.rates = {}
    stored = run(TurnlogSessionStore(Store(faulty)).load(KEY)) or []
    for name in "ab":
        mine = [uuid for uuid in uuids(stored) if uuid and uuid.startswith(name)]
        assert mine == [f"{name}{number}-{part}" for number in range(10) for part in ("question", "answer")]
    assert sum(entry == TITLE for entry in stored) == 20


def test_a_fail_over_that_lost_entries_is_reported_once() -> None:
    backend = MemoryBackend()
    claude = TurnlogSessionStore(Store(backend))
    run(claude.append(KEY, [said("1")]))
    before = backend._states.copy()
    run(claude.append(KEY, [said("2")]))
    backend._states = before  # as after a fail-over to a replica
    with pytest.raises(HistoryRegressed):
        run(claude.append(KEY, [said("3")]))
    run(claude.append(KEY, [said("3")]))
    assert uuids(run(claude.load(KEY))) == ["1", "3"]


def test_two_writers_keep_the_summary_complete(store: Store) -> None:
    first, second = TurnlogSessionStore(store), TurnlogSessionStore(store)
    run(first.append(KEY, [said("1", "First prompt")]))
    run(second.append(KEY, [TITLE]))
    run(first.append(KEY, [said("2", type="tag", tag="urgent")]))
    ((summary,)) = run(second.list_session_summaries(PROJECT))
    assert (summary["data"]["first_prompt"], summary["data"]["custom_title"], summary["data"]["tag"]) == (
        "First prompt",
        "Shop",
        "urgent",
    )


# -------------------------------------------------------------------------------------------------------------- limits


def test_a_batch_beyond_the_limits_of_a_turn_is_stored_in_several(claude: TurnlogSessionStore) -> None:
    batch = [said(str(number)) for number in range(MAX_MESSAGES + 1)]
    run(claude.append(KEY, batch))
    run(claude.append(KEY, batch))
    assert uuids(run(claude.load(KEY))) == uuids(batch)


def test_an_entry_beyond_the_limits_is_refused(claude: TurnlogSessionStore) -> None:
    with pytest.raises(TooLarge):
        run(claude.append(KEY, [said("1", "x" * MAX_PAYLOAD_BYTES)]))
    run(claude.append(KEY, [said("2")]))
    assert uuids(run(claude.load(KEY))) == ["2"]


def test_a_large_summary_is_left_to_the_sdk(claude: TurnlogSessionStore) -> None:
    async def main() -> None:
        await claude.append(key, [said("1", "First prompt"), title("x" * 70_000)])
        await claude.append(key, [title("Short")])
        assert await claude.list_session_summaries(key["project_key"]) == []
        (info,) = await list_sessions_from_store(claude, directory="/srv/shop")
        assert (info.custom_title, info.first_prompt) == ("Short", "First prompt")

    key: SessionKey = {**KEY, "project_key": project_key_for_directory("/srv/shop")}
    run(main())


# -------------------------------------------------------------------------------------------------------- names, owners


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", " ", "\t\x00", "ü\ud800", "x" * 300, "Übung 1", "subagents"])
def test_ids_of_any_text_are_kept_apart(url: str, name: str) -> None:
    async def main() -> None:
        async with opened(url) as claude:
            keys: list[SessionKey] = [
                {"project_key": PROJECT, "session_id": name},
                {"project_key": PROJECT, "session_id": name, "subpath": name},
                {"project_key": PROJECT, "session_id": f"{name}/{name}"},
                {"project_key": name[:200], "session_id": name},
                {"project_key": f"{PROJECT}/subagents", "session_id": name},
            ]
            for number, key in enumerate(keys):
                await claude.append(key, [said(str(number))])
            assert [uuids(await claude.load(key)) for key in keys] == [[str(number)] for number in range(5)]
            listed = {one["session_id"] for one in await claude.list_sessions(PROJECT)}
            assert listed == {name, f"{name}/{name}"}
            assert await claude.list_subkeys({"project_key": PROJECT, "session_id": name}) == [name]

    run(main())


def test_transcripts_are_nested_in_the_namespace_of_the_store(store: Store) -> None:
    async def main() -> list[str]:
        for view in (store, store.within("acme"), Store(store.backend, namespace="initech")):
            await TurnlogSessionStore(view).append(KEY, [said("1")])
            await TurnlogSessionStore(view).append(subagent("1"), [said("2")])
        return [name async for name in store.namespaces()]

    names = [name for outer in ("acme", "default", "initech") for name in (outer, f"{outer}/subagents")]
    assert run(main()) == sorted(
        name.replace("/", f"/{PROJECT}/") if "/" in name else f"{name}/{PROJECT}" for name in names
    )


def test_owners_do_not_see_each_other(url: str) -> None:
    async def main() -> None:
        async with open_store(url) as store:
            ann, bob = (TurnlogSessionStore(store.for_owner(name)) for name in ("ann", "bob"))
            await ann.append(KEY, [said("1")])
            await ann.append(subagent("1"), [said("2")])
            assert await bob.load(KEY) is await bob.load(subagent("1")) is None
            assert await bob.list_sessions(PROJECT) == []
            assert await bob.list_subkeys(KEY) == []
            for key in (KEY, subagent("1")):
                with pytest.raises(SessionNotFound):
                    await bob.append(key, [said("3")])
            await bob.delete(KEY)
            assert uuids(await ann.load(KEY)) == ["1"]
            assert await ann.list_subkeys(KEY) == ["subagents/agent-1"]
            erased = [(await store.within(name).erase_owner("ann")).sessions async for name in store.namespaces()]
            assert erased == [1, 1]

    run(main())


@pytest.mark.parametrize("owner", [None, "ann"])
def test_a_deletion_removes_the_subagents_of_this_session_alone(store: Store, owner: str | None) -> None:
    async def main() -> None:
        claude = TurnlogSessionStore(store if owner is None else store.for_owner(owner))
        other: SessionKey = {**KEY, "session_id": "other"}
        for key in (KEY, subagent("1"), subagent("2"), other, subagent("1", other)):
            await claude.append(key, [said("1")])
        await claude.delete(subagent("2"))
        assert await claude.list_subkeys(KEY) == ["subagents/agent-1"]
        await claude.delete(KEY)
        assert await claude.load(KEY) is await claude.load(subagent("1")) is None
        assert await claude.list_subkeys(other) == ["subagents/agent-1"]
        await claude.delete(KEY)

    run(main())


def test_the_subagents_of_a_session_belong_to_it(store: Store) -> None:
    run(TurnlogSessionStore(store).append(subagent("1"), [said("1")]))
    erased = run(store.within(f"default/{PROJECT}/subagents").erase_owner(KEY["session_id"]))
    assert erased.sessions == 1


# ------------------------------------------------------------------------------------------------- with turnlog's tools


def test_a_fork_of_turnlog_is_another_session(claude: TurnlogSessionStore) -> None:
    async def main() -> None:
        await claude.append(KEY, [said("1")])
        await claude.append(KEY, [said("2")])
        fork: SessionKey = {**KEY, "session_id": "2b0d8e6c-11aa-4e0e-8f6e-0a5b5c1c8a55"}
        await view.fork(KEY["session_id"], fork["session_id"], at=1)
        await claude.append(fork, [said("3")])
        assert uuids(await claude.load(fork)) == ["1", "3"]
        assert [one["session_id"] for one in await claude.list_sessions(PROJECT)] == [
            fork["session_id"],
            KEY["session_id"],
        ]
        assert {one["session_id"] for one in await claude.list_session_summaries(PROJECT)} == {
            fork["session_id"],
            KEY["session_id"],
        }

    view = claude.store.within(f"default/{PROJECT}")
    run(main())


def test_other_sessions_in_the_namespace_are_no_transcripts(claude: TurnlogSessionStore) -> None:
    view = claude.store.within(f"default/{PROJECT}")
    run(view.append(KEY["session_id"], [user("Hello")]))
    assert run(claude.list_sessions(PROJECT)) == run(claude.list_session_summaries(PROJECT)) == []
    for attempt in (claude.load(KEY), claude.append(KEY, [said("1")])):
        with pytest.raises(InvalidInput, match="holds no transcript of the Claude Agent SDK"):
            run(attempt)
    assert len(run(view.load(KEY["session_id"]))) == 1


def test_a_rewound_transcript_takes_its_entries_again(claude: TurnlogSessionStore) -> None:
    run(claude.append(KEY, [said("1")]))
    run(claude.append(KEY, [said("2")]))
    run(claude.store.within(f"default/{PROJECT}").rewind(KEY["session_id"], turns=1))
    run(claude.append(KEY, [said("2"), said("3")]))
    assert uuids(run(claude.load(KEY))) == ["1", "2", "3"]


def test_an_exported_transcript_is_imported_elsewhere(tmp_path: Path) -> None:
    async def write(claude: TurnlogSessionStore) -> None:
        await claude.append(KEY, ODD)
        await claude.append(subagent("1"), [said("1")])

    async def check(claude: TurnlogSessionStore) -> None:
        assert await claude.load(KEY) == ODD
        assert await claude.list_subkeys(KEY) == ["subagents/agent-1"]
        await claude.append(KEY, [ODD[0], said("new")])
        assert uuids(await claude.load(KEY))[-1] == "new"
        assert len(await claude.list_session_summaries(PROJECT)) == 1

    async def at(url: str, step: Callable[[TurnlogSessionStore], Coroutine[Any, Any, None]]) -> None:
        async with opened(url) as claude:
            await step(claude)

    source, target = (f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "target"))
    run(at(source, write))
    file = f"{tmp_path}/sessions.jsonl"
    assert turnlog_cli.main(["export", "--all-namespaces", f"--output={file}", f"--store={source}"]) == 0
    assert turnlog_cli.main(["import", file, f"--store={target}"]) == 0
    run(at(target, check))


# ----------------------------------------------------------------------------------------------------------- bad input


def test_the_store_must_be_a_store_that_keeps_all_turns() -> None:
    with pytest.raises(InvalidInput, match=r"takes a turnlog.Store, not str: pass the store of 'async with open_store"):
        TurnlogSessionStore("memory://")  # type: ignore[arg-type]
    with (
        turnlog.sync.open_store("memory://") as store,
        pytest.raises(InvalidInput, match=r"'wrapped' of a store of turnlog.sync"),
    ):
        TurnlogSessionStore(store)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"keeps the last 5 turns of a session, .* open the store without retain="):
        TurnlogSessionStore(Store(MemoryBackend(), retain=5))


@pytest.mark.parametrize(
    ("key", "entries", "message"),
    [
        ({**KEY, "subpath": ""}, [said("1")], "the subpath of a key is empty: leave it out"),
        ({**KEY, "session_id": 7}, [said("1")], "a part of an id must be a str, not int"),
        ({**KEY, "project_key": None}, [said("1")], "a part of an id must be a str, not NoneType"),
        ({**KEY, "project_key": "x" * 260}, [said("1")], "the nested namespace has 2.. bytes"),
        (KEY, [said("1"), "text"], "an entry of a transcript must be a dict, not str"),
        (KEY, [said("1", object=object())], "object"),
        (KEY, [TITLE, {"type": "x", "object": object()}], "object"),
        (KEY, [said("1", numbers={1: 2})], "int"),
    ],
)
def test_bad_input_is_refused_before_anything_is_stored(
    claude: TurnlogSessionStore, key: Any, entries: Any, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        run(claude.append(key, entries))
    assert run(claude.load(KEY)) is None


def test_an_empty_batch_creates_nothing(claude: TurnlogSessionStore) -> None:
    run(claude.append(KEY, []))
    assert run(claude.load(KEY)) is None
    assert run(claude.list_sessions(PROJECT)) == []


def test_a_missing_framework_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs claude-agent-sdk, .*: pip install 'turnlog\[claude-agent-sdk\]'"):
        importlib.reload(turnlog_claude_agent_sdk)


# ---------------------------------------------------------------------------------------------------------------- trio


def test_the_store_works_under_trio(shared: str) -> None:
    async def main(store: Store) -> None:
        claude = TurnlogSessionStore(store)
        await claude.append(KEY, [said("1")])
        await claude.append(KEY, [said("1"), said("2")])
        with pytest.raises(InvalidInput):
            await claude.append({**KEY, "subpath": ""}, [said("3")])
        assert uuids(await claude.load(KEY)) == ["1", "2"]

    with turnlog.sync.open_store(shared) as store:
        trio.run(main, store.wrapped)
