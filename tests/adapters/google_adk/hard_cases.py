"""Eleven cases in which a session service can lose, double or mix up events: stale, concurrent, deleted, repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event
from google.adk.sessions import BaseSessionService

from adapters.google_adk.services import APP, USER, add, invocation, loaded, new, text, texts

Case = Callable[[BaseSessionService], Awaitable[None]]


async def a_stale_session_is_refused(service: BaseSessionService) -> None:
    await new(service)
    first, second = await loaded(service), await loaded(service)
    await add(service, first, "first")
    with pytest.raises(StaleSessionError):
        await add(service, second, "second")
    assert texts(await loaded(service)) == ["first"]


async def a_stale_session_is_refused_although_the_clock_was_set_back(service: BaseSessionService) -> None:
    await new(service)
    first, second = await loaded(service), await loaded(service)
    await add(service, first, "first", timestamp=second.last_update_time - 60)
    with pytest.raises(StaleSessionError):
        await add(service, second, "second")
    assert texts(await loaded(service)) == ["first"]


async def a_refused_event_changes_no_state(service: BaseSessionService) -> None:
    await new(service, state={"app:colour": "red", "user:size": 1, "step": 1})
    first, second = await loaded(service), await loaded(service)
    await add(service, first, "first")
    with pytest.raises(StaleSessionError):
        await add(service, second, "second", state={"app:colour": "blue", "user:size": 2, "step": 2})
    assert (await loaded(service)).state == {"app:colour": "red", "user:size": 1, "step": 1}


async def of_two_concurrent_events_of_stale_sessions_one_is_stored(service: BaseSessionService) -> None:
    await new(service)
    sessions = [await loaded(service) for _ in range(4)]
    appends = (add(service, session, str(number)) for number, session in enumerate(sessions))
    done = await asyncio.gather(*appends, return_exceptions=True)
    assert sum(isinstance(one, StaleSessionError) for one in done) == 3
    assert len((await loaded(service)).events) == 1


async def tasks_that_share_a_session_object_store_all_events(service: BaseSessionService) -> None:
    session = await new(service)
    await asyncio.gather(*(add(service, session, str(number)) for number in range(8)))
    assert sorted(map(str, texts(session))) == list("01234567")
    assert texts(await loaded(service)) == texts(session)


async def concurrent_events_of_several_sessions_all_change_the_state_of_their_user(service: BaseSessionService) -> None:
    sessions = [await new(service, str(number)) for number in range(8)]
    await asyncio.gather(*(add(service, session, "fact", state={f"user:{session.id}": "kept"}) for session in sessions))
    assert len(await service.get_user_state(app_name=APP, user_id=USER)) == 8


async def an_event_does_not_restore_a_deleted_session(service: BaseSessionService) -> None:
    session = await new(service)
    await add(service, session, "first")
    await service.delete_session(app_name=APP, user_id=USER, session_id="s")
    with pytest.raises(SessionNotFoundError):
        await add(service, session, "second", state={"app:colour": "blue"})
    assert await service.get_session(app_name=APP, user_id=USER, session_id="s") is None
    assert (await new(service, "other")).state == {}


async def an_event_of_a_deleted_session_is_not_added_to_its_successor(service: BaseSessionService) -> None:
    session = await new(service)
    await add(service, session, "first")
    await service.delete_session(app_name=APP, user_id=USER, session_id="s")
    await new(service)
    with pytest.raises(StaleSessionError):
        await add(service, session, "second")
    assert (await loaded(service)).events == []


async def a_repeated_event_is_accepted_and_stored_once(service: BaseSessionService) -> None:
    """The caller got no answer, and sends a copy of the event with the session that it held before."""
    await new(service)
    session, event = await loaded(service), text("first")
    before, copy = await loaded(service), Event.model_validate_json(event.model_dump_json())
    await service.append_event(session, event)
    await service.append_event(before, copy)
    assert texts(await loaded(service)) == ["first"]
    await add(service, before, "second")
    assert texts(await loaded(service)) == ["first", "second"]


async def a_repeated_event_does_not_restore_an_older_state(service: BaseSessionService) -> None:
    await new(service)
    other = await new(service, "other")
    session, event = await loaded(service), text("first", state={"app:colour": "red"})
    before = await loaded(service)
    await service.append_event(session, event)
    await add(service, other, "later", state={"app:colour": "blue"})
    with suppress(StaleSessionError):
        await service.append_event(before, event.model_copy(deep=True))
    assert len((await loaded(service)).events) == 1
    assert (await loaded(service)).state == {"app:colour": "blue"}


async def events_stay_in_the_order_in_which_they_were_appended(service: BaseSessionService) -> None:
    """The clocks of two servers differ, so that a result has an earlier time than its call."""
    session = await new(service)
    for number, event in enumerate(invocation("a")):
        event.timestamp = session.last_update_time + (60 if number == 0 else 1 / (number + 1))
        await service.append_event(await loaded(service), event)
    assert [event.id for event in (await loaded(service)).events] == ["a-0", "a-1", "a-2", "a-3"]


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        a_stale_session_is_refused,
        a_stale_session_is_refused_although_the_clock_was_set_back,
        a_refused_event_changes_no_state,
        of_two_concurrent_events_of_stale_sessions_one_is_stored,
        tasks_that_share_a_session_object_store_all_events,
        concurrent_events_of_several_sessions_all_change_the_state_of_their_user,
        an_event_does_not_restore_a_deleted_session,
        an_event_of_a_deleted_session_is_not_added_to_its_successor,
        a_repeated_event_is_accepted_and_stored_once,
        a_repeated_event_does_not_restore_an_older_state,
        events_stay_in_the_order_in_which_they_were_appended,
    )
}
