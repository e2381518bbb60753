"""The tests of damage can fail: each naive backend fails the tests that its parameters name."""

from __future__ import annotations

from typing import Any, Unpack

import pytest

from turnlog import Backend, Change, CorruptRecord, Expect, Key, Page, Query, Receipt, Session, Store, Totals
from turnlog.rules import page
from turnlog.testing import BackendOptions, DamageContract
from turnlog_memory import MemoryBackend

TESTS = [name for name in dir(DamageContract) if name.startswith("test_")]


class Damageable(MemoryBackend):
    """A memory backend on which tests can make sessions unreadable."""

    def __init__(self, **options: Unpack[BackendOptions]) -> None:
        super().__init__(**options)
        self.damaged: dict[Key, str] = {}

    def check(self, key: Key) -> None:
        """Raise `CorruptRecord` if the session is damaged."""
        if key in self.damaged:
            raise CorruptRecord("it is damaged", key=key)

    async def read(self, key: Key, **how: Any) -> Session:
        self.check(key)
        return await super().read(key, **how)

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.check(key)
        return await super().commit(key, change)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        if expect is not None:
            self.check(key)
        if for_owner is None or self.damaged.get(key) == for_owner:
            self.damaged.pop(key, None)
        return await super().delete(key, expect=expect, for_owner=for_owner)

    async def page(self, query: Query) -> Page:
        headers = (state.header for state in self._states.values())
        found = [header.info(0.0) for header in headers if header is not None]
        errors = [
            CorruptRecord("it is damaged", key=key)
            for key, owner in self.damaged.items()
            if query.owner in (None, owner)
        ]
        return page((info for info in found if info.key not in self.damaged), query, errors)


class RaisesOnThePage(Damageable):
    """A page with a damaged session raises the session's error, so the other sessions cannot be listed."""

    async def page(self, query: Query) -> Page:
        found = await super().page(query)
        for error in found.damaged:
            raise error
        return found


class LeavesOut(Damageable):
    """A page leaves damaged sessions out without a report."""

    async def page(self, query: Query) -> Page:
        found = await super().page(query)
        return Page(found.infos, found.cursor)


class NamesThoseOfOthers(Damageable):
    """The first page reports all damaged sessions of the namespace, also those of other owners."""

    async def page(self, query: Query) -> Page:
        found = await super().page(query)
        every = await super().page(Query(namespace=query.namespace))
        return Page(found.infos, found.cursor, () if query.cursor else every.damaged)


class StopsCounting(Damageable):
    """Totals stop at the first damaged session."""

    async def totals(self, namespace: str) -> Totals:
        for key in self.damaged:
            self.check(key)
        return await super().totals(namespace)


class AnswersNothing(Damageable):
    """A damaged session is reported as missing."""

    async def read(self, key: Key, **how: Any) -> Session:
        if key in self.damaged:
            key = Key(key.namespace, "nobody")
        return await super().read(key, **how)


class RefusesToDelete(Damageable):
    """A deletion reads the session first, and fails."""

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        self.check(key)
        return await super().delete(key, expect=expect, for_owner=for_owner)


class DeletesForAnyOwner(NamesThoseOfOthers):
    """A deletion for an owner removes every damaged session, because it may be the owner's."""

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        return await super().delete(key, expect=expect, for_owner=self.damaged.get(key, for_owner))


PAGE, OWNED, TOTALS, ENDS, ANSWERED, ERASE, ERASE_OWNER = (
    "test_a_damaged_session_is_on_no_page_and_hides_no_other",
    "test_a_page_of_an_owner_reports_no_session_of_another_owner",
    "test_totals_count_what_can_be_read",
    "test_sessions_ends_with_the_error",
    "test_a_damaged_session_is_not_answered",
    "test_erase_a_damaged_session",
    "test_erase_an_owner_of_a_damaged_session",
)

NAIVE: dict[type[Damageable], set[str]] = {
    Damageable: set(),
    RaisesOnThePage: {PAGE, OWNED, ENDS, ERASE, ERASE_OWNER},
    LeavesOut: {PAGE, OWNED, ENDS, ERASE, ERASE_OWNER},
    NamesThoseOfOthers: {OWNED},
    AnswersNothing: {ANSWERED, ERASE_OWNER},
    RefusesToDelete: {ERASE, ERASE_OWNER},
    DeletesForAnyOwner: {OWNED, ERASE_OWNER},
    StopsCounting: {TOTALS},
}


@pytest.mark.parametrize("naive", NAIVE)
def test_a_naive_backend_fails_the_tests_that_are_named_with_it(naive: type[Damageable]) -> None:
    class Kit(DamageContract):
        def make(self, **options: Unpack[BackendOptions]) -> Backend:
            return naive(**options)

        async def damage(self, store: Store, session_id: str) -> None:
            backend = store.backend
            assert isinstance(backend, Damageable)
            backend.damaged[Key(store.namespace, session_id)] = (await store.info(session_id)).owner

    failed = set()
    for name in TESTS:
        try:
            getattr(Kit(), name)()
        except BaseException:  # noqa: BLE001 - failures of pytest are not `Exception`s
            failed.add(name)
    assert failed == NAIVE[naive]


def test_every_test_can_fail() -> None:
    assert set().union(*NAIVE.values()) == set(TESTS)
