"""The hard cases: ours passes all, and the services of ADK fail in some."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.google_adk.hard_cases import CASES
from adapters.google_adk.services import THEIRS, service_at


async def passes(place: str, name: str) -> None:
    async with service_at(place) as service:
        await CASES[name](service)


@pytest.mark.parametrize("name", CASES)
def test_ours_passes(url: str, name: str) -> None:
    asyncio.run(passes(url, name))


FAIL = {
    "InMemorySessionService": {
        "a_stale_session_is_refused",
        "a_stale_session_is_refused_although_the_clock_was_set_back",
        "a_refused_event_changes_no_state",
        "of_two_concurrent_events_of_stale_sessions_one_is_stored",
        "an_event_of_a_deleted_session_is_not_added_to_its_successor",
    },
    "SqliteSessionService": {
        "a_stale_session_is_refused_although_the_clock_was_set_back",
        "of_two_concurrent_events_of_stale_sessions_one_is_stored",
        "tasks_that_share_a_session_object_store_all_events",
        "a_repeated_event_is_accepted_and_stored_once",
        "events_stay_in_the_order_in_which_they_were_appended",
    },
    "DatabaseSessionService": {
        "concurrent_events_of_several_sessions_all_change_the_state_of_their_user",
        "a_repeated_event_is_accepted_and_stored_once",
        "events_stay_in_the_order_in_which_they_were_appended",
    },
}
"""The cases that each service of ADK 2.13.0 fails."""


@pytest.mark.parametrize("service", THEIRS)
def test_theirs_fails_in_the_cases_that_the_page_counts(service: str, tmp_path: Path) -> None:
    failed = {}
    for name in CASES:
        folder = tmp_path / name
        folder.mkdir()
        try:
            asyncio.run(passes(f"{service} {folder}", name))
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - it may fail in any way
            failed[name] = repr(error)
    assert failed.keys() == FAIL[service], failed
