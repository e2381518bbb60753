"""Every test of the kit can fail: each naive backend fails at least the tests that are registered for it."""

from __future__ import annotations

import pytest

from naive import NAIVE, Naive, changes, closing, failed_by, names_of, owners, processes, sessions, threads, turns, work
from turnlog import Backend
from turnlog.testing import BackendContract, ContractBroken
from turnlog.testing._closing import Closing
from turnlog_memory import MemoryBackend

# each module registers its naive backends
MODULES = (turns, changes, closing, owners, sessions, threads, processes, work)
CHAPTERS = [
    chapter for chapter in BackendContract.__mro__ if vars(chapter).keys() & {f"test_{t}" for t in names_of(chapter)}
]
ABOVE_THE_BACKEND = {  # no backend can break these: `Store` and the values ensure them
    "bad_ids",
    "bad_input",
    "load_edit_save_is_refused",
    "namespaces_of_no_owner",
    "no_view_covers_all_namespaces",
    "invalid_prefixes",
    "new_session_ids",
    "nothing_to_set",
    "rewind_more_than_there_is",
    "given_values_are_copied",
    "values_of_subclasses",
    "a_forged_cursor",
    "only_a_later_round_that_closes_its_turn_may_be_empty",
}


@pytest.mark.parametrize("naive", NAIVE, ids=lambda naive: f"{naive.backend.__name__}-{naive.chapter.__name__}")
def test_a_naive_backend_fails_the_tests_that_are_registered_for_it(naive: Naive) -> None:
    failed = failed_by(naive.backend, naive.fails, shared=naive.shared)
    assert set(failed) == naive.fails
    for name, error in failed.items():
        assert isinstance(error, ContractBroken), name


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_the_backend_that_they_derive_from_passes(chapter: type) -> None:
    assert failed_by(MemoryBackend, names_of(chapter)) == {}


@pytest.mark.parametrize("backend", [closing.InAThread, closing.InATask])
def test_the_backends_with_a_thread_or_a_task_pass(backend: type[Backend]) -> None:
    assert failed_by(backend, names_of(Closing), shared=True) == {}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_every_test_of_a_chapter_can_fail(chapter: type) -> None:
    able = {name for naive in NAIVE if naive.chapter is chapter for name in naive.fails}
    assert set(names_of(chapter)) - able - ABOVE_THE_BACKEND == set()
