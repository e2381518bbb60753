"""The contract of `BaseSessionService`: ours and the services of ADK meet it in the same way."""

from __future__ import annotations

from functools import partial

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.events.event_actions import EventCompaction
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types

from adapters.google_adk.services import APP, USER, add, invocation, loaded, new, scenario, text, texts

MICROSECONDS = partial(pytest.approx, rel=0, abs=2e-6)
"""The precision of times in DatabaseSessionService."""


@scenario
async def test_a_session_is_returned_as_it_was_created(service: BaseSessionService) -> None:
    session = await new(service, state={"step": 1, "app:colour": "red", "user:size": [2]})
    assert (session.id, session.app_name, session.user_id) == ("s", APP, USER)
    assert session.state == {"step": 1, "app:colour": "red", "user:size": [2]}
    assert session.last_update_time > 0
    assert await loaded(service) == session


@scenario
async def test_a_missing_session_is_none(service: BaseSessionService) -> None:
    await new(service)
    for app, user, session in (("other", USER, "s"), (APP, "bob", "s"), (APP, USER, "other")):
        assert await service.get_session(app_name=app, user_id=user, session_id=session) is None


@scenario
async def test_a_session_without_an_id_gets_one(service: BaseSessionService) -> None:
    ids = {(await service.create_session(app_name=APP, user_id=USER)).id for _ in range(3)}
    assert len(ids - {""}) == 3
    assert {one.id for one in (await service.list_sessions(app_name=APP)).sessions} == ids


@scenario
async def test_an_id_is_used_once(service: BaseSessionService) -> None:
    await add(service, await new(service, state={"app:colour": "red"}), "first")
    with pytest.raises(AlreadyExistsError):
        await new(service, state={"step": 1})
    assert (await loaded(service)).state == {"app:colour": "red"}
    assert texts(await loaded(service)) == ["first"]


@scenario
async def test_sessions_are_listed_by_their_last_update_oldest_first(service: BaseSessionService) -> None:
    sessions = [await new(service, name) for name in "abc"]
    latest = sessions[-1].last_update_time
    for position, session in enumerate((sessions[1], sessions[2], sessions[0])):
        await add(service, session, "x", timestamp=latest + 1 + position)
    found = (await service.list_sessions(app_name=APP, user_id=USER)).sessions
    assert [one.id for one in found] == ["b", "c", "a"]
    assert [one.last_update_time for one in found] == MICROSECONDS([latest + 1, latest + 2, latest + 3])


@scenario
async def test_lists_have_states_and_no_events(service: BaseSessionService) -> None:
    await add(service, await new(service, state={"app:colour": "red", "user:size": 1, "step": 1}), "x")
    await new(service, "t", user_id="bob", state={"user:size": 2})
    everybody = {one.user_id: one for one in (await service.list_sessions(app_name=APP)).sessions}
    assert everybody["alice"].state == {"app:colour": "red", "user:size": 1, "step": 1}
    assert everybody["bob"].state == {"app:colour": "red", "user:size": 2}
    assert everybody["alice"].events == []
    (bob,) = (await service.list_sessions(app_name=APP, user_id="bob")).sessions
    assert bob.model_dump() == everybody["bob"].model_dump()
    assert (await service.list_sessions(app_name=APP, user_id="carol")).sessions == []
    assert (await service.list_sessions(app_name="other")).sessions == []


@scenario
async def test_states_have_the_scope_of_their_prefix(service: BaseSessionService) -> None:
    await new(service, state={"app:colour": "red", "user:size": 1, "step": 1, "temp:token": "t"})
    assert (await new(service, "second")).state == {"app:colour": "red", "user:size": 1}
    assert (await new(service, "s", user_id="bob")).state == {"app:colour": "red"}
    assert (await new(service, "s", app_name="other")).state == {}
    assert await service.get_user_state(app_name=APP, user_id=USER) == {"size": 1}
    assert await service.get_user_state(app_name=APP, user_id="bob") == {}


@scenario
async def test_an_event_changes_the_states(service: BaseSessionService) -> None:
    session, second = await new(service, state={"user:size": 1, "step": 1}), await new(service, "second")
    await add(service, session, "x", state={"app:colour": "red", "user:size": 2, "step": 2, "temp:token": "t"})
    assert session.state == {"app:colour": "red", "user:size": 2, "step": 2, "temp:token": "t"}
    stored = await loaded(service)
    assert stored.state == {"app:colour": "red", "user:size": 2, "step": 2}
    assert stored.events[0].actions.state_delta == {"app:colour": "red", "user:size": 2, "step": 2}
    assert (await loaded(service, second.id)).state == {"app:colour": "red", "user:size": 2}


@scenario
async def test_none_is_a_value(service: BaseSessionService) -> None:
    session = await new(service, state={"step": 1, "user:size": 1})
    await add(service, session, "x", state={"step": None, "user:size": None, "app:colour": None})
    assert (await loaded(service)).state == {"step": None, "user:size": None, "app:colour": None}
    assert await service.get_user_state(app_name=APP, user_id=USER) == {"size": None}


@scenario
async def test_an_event_is_returned_as_it_was_appended(service: BaseSessionService) -> None:
    session = await new(service)
    event = Event(
        invocation_id="i",
        author="agent",
        actions=EventActions(
            artifact_delta={"file": 0},
            transfer_to_agent="agent",
            escalate=True,
            compaction=EventCompaction(
                start_timestamp=1.0,
                end_timestamp=2.0,
                compacted_content=types.Content(role="model", parts=[types.Part(text="before")]),
            ),
        ),
        long_running_tool_ids={"tool1"},
        partial=False,
        turn_complete=True,
        error_code="error_code",
        error_message="error_message",
        interrupted=True,
        branch="a.b",
        custom_metadata={"key": None, "list": [1, 2.5]},
        content=types.Content(
            role="model",
            parts=[
                types.Part(text="Grüße, 你好 \U0001f600", thought=True, thought_signature=b"\xff\x00"),
                types.Part(inline_data=types.Blob(data=bytes(range(256)), mime_type="image/png")),
                types.Part(function_call=types.FunctionCall(id="1", name="f", args={"a": None, "b": [1, "x"]})),
            ],
        ),
    )
    assert await service.append_event(session, event) is event
    assert session.events == [event]
    assert (await loaded(service)).events == [event]
    assert session.last_update_time == MICROSECONDS(event.timestamp)


@pytest.mark.parametrize(
    "content", [None, types.Content(), types.Content(role="user"), types.Content(parts=[types.Part(text="x")])]
)
def test_a_content_is_returned_with_its_missing_fields(place: str, content: types.Content | None) -> None:
    @scenario
    async def test(service: BaseSessionService) -> None:
        event = Event(author="agent", content=content)
        await service.append_event(await new(service), event)
        assert (await loaded(service)).events == [event]

    test(place)


@scenario
async def test_a_partial_event_is_not_stored(service: BaseSessionService) -> None:
    session = await new(service)
    await add(service, session, "Hel", partial=True, state={"step": 1})
    assert session.events == (await loaded(service)).events == []
    assert (await loaded(service)).state == {}


@scenario
async def test_events_are_selected_by_number_and_time(service: BaseSessionService) -> None:
    session = await new(service)
    for number in range(1, 6):
        await add(service, session, str(number), timestamp=session.last_update_time + number)
    third = session.events[2].timestamp

    async def selected(**fields: float) -> str:
        found = await loaded(service, config=GetSessionConfig.model_validate(fields))
        return "".join(map(str, texts(found)))

    assert await selected() == "12345"
    assert await selected(num_recent_events=3) == "345"
    assert await selected(num_recent_events=9) == "12345"
    assert await selected(num_recent_events=0) == ""
    assert await selected(after_timestamp=third) == "345"
    assert await selected(after_timestamp=third, num_recent_events=2) == "45"
    assert await selected(after_timestamp=third + 1e6) == ""


@scenario
async def test_a_part_of_a_session_can_be_continued(service: BaseSessionService) -> None:
    await add(service, await new(service), "1", "2")
    for number in range(2):
        part = await loaded(service, config=GetSessionConfig(num_recent_events=number))
        await add(service, part, str(number + 3))
    assert texts(await loaded(service)) == ["1", "2", "3", "4"]


@scenario
async def test_a_deleted_session_is_gone_and_the_state_of_its_user_stays(service: BaseSessionService) -> None:
    await add(service, await new(service, state={"user:size": 1}), "x")
    await new(service, "second")
    for _ in range(2):
        await service.delete_session(app_name=APP, user_id=USER, session_id="s")
    assert await service.get_session(app_name=APP, user_id=USER, session_id="s") is None
    (second,) = (await service.list_sessions(app_name=APP)).sessions
    assert (second.id, second.state) == ("second", {"user:size": 1})


@scenario
async def test_users_may_have_sessions_with_the_same_id(service: BaseSessionService) -> None:
    for user in ("alice", "bob"):
        await add(service, await new(service, user_id=user, state={"name": user}), user)
    await service.delete_session(app_name=APP, user_id="alice", session_id="s")
    bob = await loaded(service, user_id="bob")
    assert (texts(bob), bob.state) == (["bob"], {"name": "bob"})


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "tab\there", "user:", "你好 \U0001f600", "x" * 300, "app:", "../up"])
def test_names_of_any_text_stay_apart(place: str, name: str) -> None:
    @scenario
    async def test(service: BaseSessionService) -> None:
        for app, user, session in ((name, USER, "s"), (APP, name, "s"), (APP, USER, name)):
            created = await new(service, session, app_name=app, user_id=user, state={"user:of": user, "app:of": app})
            await add(service, created, app + user + session)
        for app, user, session in ((name, USER, "s"), (APP, name, "s"), (APP, USER, name)):
            found = await service.get_session(app_name=app, user_id=user, session_id=session)
            assert found is not None
            assert (texts(found), found.state) == ([app + user + session], {"user:of": user, "app:of": app})
            listed = (await service.list_sessions(app_name=app, user_id=user)).sessions
            assert [(one.user_id, one.id) for one in listed] == [(user, session)]
        assert len((await service.list_sessions(app_name=APP)).sessions) == 2

    test(place)


@scenario
async def test_loaded_objects_are_copies(service: BaseSessionService) -> None:
    await add(service, await new(service, state={"list": [1], "app:list": [1]}), "x", state={"user:list": [1]})
    found = await loaded(service)
    for name in ("list", "app:list", "user:list"):
        found.state[name].append(2)
    found.events.clear()
    again = await loaded(service)
    assert again.state == {"list": [1], "app:list": [1], "user:list": [1]}
    assert len(again.events) == 1


@scenario
async def test_a_session_from_json_is_continued(service: BaseSessionService) -> None:
    session = await new(service)
    await add(service, session, "1")
    for number in (2, 3):
        session = Session.model_validate_json((await loaded(service)).model_dump_json())
        await add(service, session, str(number))
    assert texts(await loaded(service)) == ["1", "2", "3"]


@scenario
async def test_an_unknown_session_takes_no_event(service: BaseSessionService) -> None:
    with pytest.raises(SessionNotFoundError):
        await service.append_event(Session(id="s", app_name=APP, user_id=USER), text("x"))
    assert (await service.list_sessions(app_name=APP)).sessions == []


@scenario
async def test_many_events_stay_in_order(service: BaseSessionService) -> None:
    session = await new(service)
    events = [event for number in range(5) for event in invocation(str(number))]
    for event in events:
        event.timestamp = session.last_update_time + 1
        await service.append_event(session, event)
    assert (await loaded(service)).events == events
