"""Every chapter of the kit can fail: naive stores fail exactly the tests that are there for them."""

from __future__ import annotations

import pytest

from naive import NAIVE, Naive, changes, failed_by, names_of, sessions, turns, work
from turnlog.testing import BackendContract
from turnlog_memory import MemoryBackend

MODULES = (turns, changes, sessions, work)  # each registers what it holds
CHAPTERS = [
    chapter for chapter in BackendContract.__mro__ if vars(chapter).keys() & {f"test_{t}" for t in names_of(chapter)}
]
ABOVE_THE_STORE = {  # what a backend cannot break: Store's own methods and the values see to it
    "a_record_is_checked_before_it_is_sent",
    "a_view_is_opened_and_closed_with_its_store",
    "load_edit_save_is_refused",
    "new_session_ids",
    "nothing_to_set",
    "rewind_more_than_there_is",
    "what_is_no_id",
    "what_is_no_list_of_messages",
    "what_is_no_message",
    "what_is_no_version",
    "what_was_given_is_taken_as_it_was",
}


@pytest.mark.parametrize("naive", NAIVE, ids=lambda naive: naive.store.__name__)
def test_a_naive_store_fails_what_tells_it_from_a_store(naive: Naive) -> None:
    failed = failed_by(naive.store, naive.chapter, shared=naive.shared)
    assert set(failed) == naive.fails
    for name, error in failed.items():
        assert any(note.startswith("The contract says: ") for note in error.__notes__), name


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_the_store_they_are_made_of_passes(chapter: type) -> None:
    assert failed_by(MemoryBackend, chapter) == {}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_every_test_of_a_chapter_can_fail(chapter: type) -> None:
    able = {name for naive in NAIVE if naive.chapter is chapter for name in naive.fails}
    assert set(names_of(chapter)) - able - ABOVE_THE_STORE == set()
