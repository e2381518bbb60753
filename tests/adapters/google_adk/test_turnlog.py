"""Sessions of ADK as sessions of turnlog: lost answers, limits, bad input, and the methods of the store."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.sessions import Session

from adapters.google_adk.services import APP, USER, add, invocation, loaded, new, text, texts
from turnlog import (
    Change,
    Closed,
    IdReused,
    InvalidInput,
    Key,
    Receipt,
    Store,
    TooLarge,
    Unavailable,
    open_store,
    user,
)
from turnlog.testing.faulty import Fault, FaultyBackend
from turnlog_cli import main
from turnlog_google_adk import TurnlogSessionService
from turnlog_memory import MemoryBackend

Test = Callable[[TurnlogSessionService, Store], Awaitable[None]]


def on_stacks(test: Test) -> Callable[[str], None]:
    """Run an asynchronous test on each stack."""

    def on_a_stack(url: str) -> None:
        async def run() -> None:
            async with open_store(url) as store:
                await test(TurnlogSessionService(store), store)

        asyncio.run(run())

    on_a_stack.__name__, on_a_stack.__doc__ = test.__name__, test.__doc__
    return on_a_stack


class LosingBackend(FaultyBackend):
    """A backend whose first answer to each change is lost, after or before the change is stored."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(MemoryBackend())
        self.fault = fault
        self.lost: list[str] = []

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.id not in self.lost:
            self.lost.append(change.id)
            self.fail_next(self.fault)
        return await super().commit(key, change)


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request"])
def test_a_lost_answer_loses_and_doubles_nothing(fault: Fault) -> None:
    async def run() -> None:
        async with Store(LosingBackend(fault)) as store:
            service = TurnlogSessionService(store)
            session = await new(service, state={"app:colour": "red"})
            await add(service, session, "1", state={"app:colour": "blue", "user:size": 1, "step": 1})
            await add(service, session, "2")
            stored = await loaded(service)
            assert texts(session) == texts(stored) == ["1", "2"]
            assert stored.state == {"app:colour": "blue", "user:size": 1, "step": 1}
            assert len(store.backend.lost) == 6  # type: ignore[attr-defined]

    asyncio.run(run())


def test_a_lost_read_stores_nothing() -> None:
    async def run() -> None:
        faulty = FaultyBackend(MemoryBackend())
        async with Store(faulty) as store:
            service = TurnlogSessionService(store)
            session = await new(service)
            faulty.fail_next("lose_reply")
            with pytest.raises(Unavailable):
                await add(service, session, "1", state={"app:colour": "red"})
            assert session.state == (await loaded(service)).state == {}
            await add(service, session, "2")
            assert texts(session) == texts(await loaded(service)) == ["2"]

    asyncio.run(run())


@on_stacks
async def test_an_event_is_not_stored_without_its_state(service: TurnlogSessionService, store: Store) -> None:
    session = await new(service, state={"step": 1})
    for name in ("app:text", "user:text", "text"):
        with pytest.raises(TooLarge):
            await add(service, session, "too large", state={name: "x" * 1_100_000})
    assert session.events == (await loaded(service)).events == []
    assert session.state == (await loaded(service)).state == {"step": 1}
    await add(service, session, "small", state={"step": 2})
    assert texts(await loaded(service)) == ["small"]


@on_stacks
async def test_states_of_a_megabyte(service: TurnlogSessionService, store: Store) -> None:
    state = dict.fromkeys(("app:text", "user:text", "text"), "x" * 1000000)
    session = await new(service, state=state)
    assert (await loaded(service)).state == state
    await add(service, session, "1", state=dict.fromkeys(state, "y" * 1000000))
    assert (await loaded(service)).state == dict.fromkeys(state, "y" * 1000000)


@on_stacks
async def test_a_repeat_is_added_to_the_loaded_session_once(service: TurnlogSessionService, store: Store) -> None:
    session, event = await new(service), text("1", state={"step": 1, "app:colour": "red"})
    for _ in range(2):
        await service.append_event(session, event)
    assert texts(session) == texts(await loaded(service)) == ["1"]
    before = await loaded(service)
    before.events.clear()
    await service.append_event(before, event)
    assert texts(before) == ["1"]


@on_stacks
async def test_another_event_with_a_stored_id_is_an_error(service: TurnlogSessionService, store: Store) -> None:
    session = await new(service)
    await service.append_event(session, text("1", id="e"))
    with pytest.raises(IdReused):
        await service.append_event(session, text("2", id="e"))
    assert texts(session) == texts(await loaded(service)) == ["1"]


@on_stacks
async def test_a_stale_session_from_json_is_refused(service: TurnlogSessionService, store: Store) -> None:
    session = await new(service)
    copy = Session.model_validate_json(session.model_dump_json())
    await add(service, session, "1")
    with pytest.raises(StaleSessionError, match="load it again"):
        await add(service, copy, "2")
    assert texts(await loaded(service)) == ["1"]


@on_stacks
async def test_metadata_of_others_do_not_make_a_session_stale(service: TurnlogSessionService, store: Store) -> None:
    session = await new(service)
    await store.within(APP).merge_metadata("alice/s", {"title": "Weather"})
    await add(service, session, "1", state={"app:colour": "red"})
    assert (await loaded(service)).state == {"app:colour": "red"}
    assert (await store.within(APP).info("alice/s")).metadata["title"] == "Weather"


@on_stacks
async def test_a_fork_is_a_session(service: TurnlogSessionService, store: Store) -> None:
    session = await new(service, state={"step": 1, "user:size": 1})
    await add(service, session, "1", "2")
    shop = store.within(APP)
    await shop.fork("alice/s", "alice/copy", at=1)
    await shop.fork("alice/s", "copy")  # its id has no user
    copy = await loaded(service, "copy")
    assert (texts(copy), copy.state) == (["1"], {"step": 1, "user:size": 1})
    await add(service, copy, "3")
    assert sorted(one.id for one in (await service.list_sessions(app_name=APP)).sessions) == ["copy", "s"]
    assert texts(await loaded(service)) == ["1", "2"]


@on_stacks
async def test_a_rewind_makes_loaded_sessions_stale(service: TurnlogSessionService, store: Store) -> None:
    session = await new(service)
    await add(service, session, "1", "2")
    await store.within(APP).rewind("alice/s", turns=1)
    with pytest.raises(StaleSessionError):
        await add(service, session, "3")
    await add(service, await loaded(service), "4")
    assert texts(await loaded(service)) == ["1", "4"]


@on_stacks
async def test_everything_of_a_user_is_exported_and_erased(service: TurnlogSessionService, store: Store) -> None:
    for user_id in ("alice", "bob"):
        session = await new(service, user_id=user_id, state={"user:size": 1, "app:colour": "red"})
        await add(service, session, user_id)
    shop = store.within(APP)
    exported = [session async for session in shop.export_owner("alice")]
    assert sorted(session.info.key.session for session in exported) == ["alice/s", "alice/user:/state"]
    assert (await shop.erase_owner("alice")).sessions == 2
    assert await service.get_user_state(app_name=APP, user_id="alice") == {}
    (bob,) = (await service.list_sessions(app_name=APP)).sessions
    assert (bob.user_id, bob.state) == ("bob", {"user:size": 1, "app:colour": "red"})


@on_stacks
async def test_sessions_of_other_programs_are_left_alone(service: TurnlogSessionService, store: Store) -> None:
    shop = store.within(APP)
    await shop.append("alice/s", [user("Hello")])
    assert await service.get_session(app_name=APP, user_id=USER, session_id="s") is None
    with pytest.raises(AlreadyExistsError):
        await new(service)
    assert (await service.list_sessions(app_name=APP)).sessions == []
    await new(service, "t")
    await shop.append("alice/t", [user("Hello")])
    with pytest.raises(InvalidInput, match="is no event of ADK"):
        await loaded(service, "t")


@on_stacks
async def test_tenants_are_views(service: TurnlogSessionService, store: Store) -> None:
    tenants = [TurnlogSessionService(store.within(name)) for name in ("acme", "bell")]
    for tenant in tenants:
        await new(tenant, state={"app:of": tenant.store.namespace})
    assert [(await loaded(tenant)).state for tenant in tenants] == [{"app:of": "acme"}, {"app:of": "bell"}]
    assert await service.get_session(app_name=APP, user_id=USER, session_id="s") is None
    assert [name async for name in store.within("acme").namespaces()] == [APP]


@on_stacks
async def test_a_store_that_drops_turns_keeps_the_last_events(service: TurnlogSessionService, store: Store) -> None:
    short = TurnlogSessionService(Store(store.backend, retain=2))
    session = await new(short, state={"step": 1})
    await add(short, session, "1", "2", "3", state={"app:colour": "red"})
    assert texts(await loaded(short)) == ["2", "3"]
    assert (await loaded(short)).state == {"step": 1, "app:colour": "red"}


def test_reading_a_session_keeps_its_shared_states() -> None:
    now = [0.0]

    async def run() -> None:
        async with Store(MemoryBackend(ttl=100, clock=lambda: now[0])) as store:
            service = TurnlogSessionService(store)
            await new(service, state={"app:colour": "red", "user:size": 1, "step": 1})
            for _ in range(4):
                now[0] += 60
                assert (await loaded(service)).state == {"app:colour": "red", "user:size": 1, "step": 1}
            now[0] += 101
            assert await service.get_session(app_name=APP, user_id=USER, session_id="s") is None

    asyncio.run(run())


@pytest.mark.parametrize("store", [None, "memory://", MemoryBackend()])
def test_only_a_store_is_accepted(store: Any) -> None:
    with pytest.raises(InvalidInput, match=r"takes a turnlog\.Store, not"):
        TurnlogSessionService(store)


def test_a_view_of_an_owner_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"pass store\.within"):
        TurnlogSessionService(Store(MemoryBackend()).for_owner("alice"))


@on_stacks
async def test_bad_input_stores_nothing(service: TurnlogSessionService, store: Store) -> None:
    with pytest.raises(InvalidInput):
        await new(service, user_id=7)
    session = await new(service)
    with pytest.raises(InvalidInput, match="not the text of a version"):
        session._storage_update_marker = "of another service"
        await add(service, session, "1")
    with pytest.raises(InvalidInput):
        await service.append_event(await loaded(service), text("1", id="x" * 300))
    assert (await store.within(APP).info("alice/s")).turns == 0


def test_a_closed_store_says_so() -> None:
    async def run() -> None:
        async with open_store("memory://") as store:
            service = TurnlogSessionService(store)
            session = await new(service)
        with pytest.raises(Closed):
            await add(service, session, "1")

    asyncio.run(run())


def test_show_prints_the_texts_and_the_calls(tmp_path: Any, capsys: Any) -> None:
    url = f"sqlite:///{tmp_path}/turnlog.db"

    async def run() -> None:
        async with open_store(url) as store:
            service = TurnlogSessionService(store)
            session = await new(service)
            for event in invocation("w"):
                await service.append_event(session, event)

    asyncio.run(run())
    assert main(["show", "alice/s", "--store", url, "--namespace", APP]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines == [
        "  user: weather w",
        '  model: {"function_call": {"id": "w", "args": {"city": "Paris"}, "name": "weather"}}',
        '  user: {"function_response": {"id": "w", "name": "weather", "response": {"result": "sunny"}}}',
        "  model: It is sunny.",
    ]
    assert main(["search", "sunny", "--store", url, "--namespace", APP]) == 0
    assert "It is sunny." in capsys.readouterr().out


def test_the_missing_framework_is_named(monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "turnlog_google_adk")
    with pytest.raises(ImportError, match=r"pip install 'turnlog\[google-adk\]'"):
        __import__("turnlog_google_adk")
