"""`verify`: runs the kit against the backend that a URL names, and reports the result of each topic.

`turnlog verify-backend URL` calls it.  The tests run in pytest, in this process.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Unpack

import pytest

from ..backend import Backend
from ..config import masked_url, open_store
from ..errors import InvalidInput, Unsupported
from ..layers import stack_of
from ..limits import MAX_PAGE
from ..values.change import check_ttl
from ..values.key import Key
from ..values.query import Query
from . import (
    _all_namespaces,
    _bad_input,
    _cancelling,
    _closing,
    _concurrency,
    _conditions,
    _copying,
    _counting,
    _crashing,
    _describing,
    _editing,
    _expecting,
    _expiring,
    _lifecycle,
    _limits,
    _model,
    _moving,
    _namespace_lists,
    _namespaces,
    _naming,
    _opening,
    _owners,
    _paging,
    _prefixes,
    _processes,
    _reading,
    _repeating,
    _retaining,
    _rounds,
    _sealing,
    _since,
    _threads,
    _undoing,
    _values,
    _writing,
)
from ._base import BackendOptions, Clock, ContractBase, ContractBroken
from ._contract import BackendContract

__all__ = ["TOPICS", "OverURL", "Report", "verify"]

TOPICS: Final[dict[str, tuple[type[ContractBase], ...]]] = {
    "contract": (
        _writing.Writing,
        _reading.Reading,
        _values.Values,
        _paging.Paging,
        _prefixes.Prefixes,
        _describing.Describing,
        _counting.Counting,
        _namespace_lists.NamespaceLists,
        _naming.Naming,
        _copying.Copying,
        _editing.Editing,
        _undoing.Undoing,
        _moving.Moving,
        _opening.Opening,
        _closing.Closing,
        _lifecycle.Lifecycle,
        _model.Model,
    ),
    "order": (_rounds.Rounds, _since.Since, _retaining.Retaining, _sealing.Sealing),
    "conflict": (_conditions.Conditions, _expecting.Expecting),
    "concurrency": (_concurrency.Concurrency, _threads.Threads, _processes.Processes),
    "retry": (_repeating.Repeating,),
    "cancel": (_cancelling.Cancelling,),
    "crash": (_crashing.Crashing,),
    "corrupt": (),
    "tenant": (_namespaces.Namespaces, _all_namespaces.AllNamespaces),
    "owner": (_owners.Owners,),
    "limits": (_limits.Limits, _bad_input.BadInput),
    "time": (_expiring.Expiring,),
}
"""The chapters of the kit, by topic."""

_TOPIC_OF: Final = {name: topic for topic, chapters in TOPICS.items() for one in chapters for name in vars(one)}

_EARLIER: Final = Clock(1_000_000_000.0)
"""A clock before that of the tests, by which none of their sessions has expired."""

_SHOWN: Final = 200  # characters of a failure

_MODULE: Final = """\
from turnlog.testing.over_url import OverURL


class TestBackend(OverURL):
    pass
"""
"""The test module that pytest collects."""

_NO_DAMAGE: Final = "turnlog cannot damage the storage of an unknown backend: test it with DamageContract"


class OverURL(BackendContract):
    """The contract for the backend and the layers that `url` names.  Each test begins with an empty store."""

    url: ClassVar[str]
    """The URL of a store without sessions."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        backend, ttl = open_store(self.url).backend, options.get("ttl")
        for one in stack_of(backend):
            one.clock = options.get("clock", one.clock)
            one.ttl = None if ttl is None else check_ttl(ttl) or None
        return backend

    @property
    def moves_time(self) -> bool:
        return "server_clock" not in self.capabilities

    async def advance(self, seconds: float) -> None:
        if not self.moves_time:
            pytest.skip("a server measures the time, and the test cannot move its clock")
        await super().advance(seconds)

    def setup_method(self) -> None:
        """Remove the sessions of the test before."""
        if self.shared:
            asyncio.run(_empty(self.make(clock=_EARLIER)))


async def _empty(backend: Backend) -> None:
    async with backend:
        async for key in _keys(backend):
            await backend.delete(key)


async def _keys(backend: Backend) -> AsyncIterator[Key]:
    """Yield the sessions of all namespaces."""
    async for namespace in _names(backend):
        cursor: str | None = None
        while True:
            page = await backend.page(Query(namespace=namespace, cursor=cursor))
            for key in (*(info.key for info in page.infos), *(error.key for error in page.damaged)):
                if key is not None:
                    yield key
            cursor = page.cursor
            if cursor is None:
                break


async def _names(backend: Backend) -> AsyncIterator[str | None]:
    """Yield the namespaces; None, a query of all of them, if the backend cannot list them."""
    try:
        names = await backend.namespaces()
    except Unsupported:
        yield None
        return
    while names:
        for name in names:
            yield name
        names = await backend.namespaces(after=names[-1]) if len(names) == MAX_PAGE else ()


async def _check_empty(backend: Backend) -> None:
    async with backend:
        async for key in _keys(backend):
            raise InvalidInput(
                f"the tests delete all sessions, and this store holds session {key}: name an empty store, such as a "
                "new database"
            )


def verify(url: str, show: Callable[[str], object] = lambda _: None) -> Report:
    """Run the kit against the backend that a URL names.

    Args:
        url: The URL of a store without sessions, with or without layers.
        show: Takes a line for each test before it runs, and for each failure.

    Raises:
        InvalidInput: The store holds sessions, which the tests would delete.
        ConfigError: The URL is wrong.
    """
    backend = open_store(url).backend
    asyncio.run(_check_empty(backend))
    report = Report(f"{backend!r} at {masked_url(url)}", sorted(backend.capabilities), show)
    OverURL.url = url
    with tempfile.TemporaryDirectory(prefix="turnlog-") as folder:
        module = Path(folder) / "test_backend.py"
        module.write_text(_MODULE, encoding="utf-8")
        options = ["-p", "no:cacheprovider", "-p", "no:terminal", "-c", os.devnull, f"--rootdir={folder}"]
        status = pytest.main([*options, str(module)], plugins=[report])
    report.is_complete = status in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    if "shared" in backend.capabilities:
        asyncio.run(_empty(open_store(url).backend))
    return report


class Report:
    """The results of the kit by topic (`TOPICS`), which this plugin of pytest collects.

    Args:
        backend: The backend, as text.
        capabilities: The capabilities that it declares.
        show: As in `verify`.
    """

    def __init__(self, backend: str, capabilities: Sequence[str], show: Callable[[str], object]) -> None:
        self.backend: str = backend
        self.capabilities: Sequence[str] = capabilities
        self.passed: Counter[str] = Counter()
        """Number of tests that passed."""
        self.broken: dict[str, list[str]] = defaultdict(list)
        """The broken sentences of the contract, each with the failure of its test."""
        self.skipped: dict[str, Counter[str]] = defaultdict(Counter, corrupt=Counter([_NO_DAMAGE]))
        """Number of tests that did not run, by reason."""
        self.is_complete = True
        """False if pytest ended before the last test."""
        self._show = show

    @property
    def is_sound(self) -> bool:
        """True if all tests have run and none has failed."""
        return self.is_complete and bool(self.passed) and not any(self.broken.values())

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Show the name of a test before it runs."""
        name = nodeid.rpartition("::")[2]
        self._show(f"{_TOPIC_OF[name]}: {name.removeprefix('test_').replace('_', ' ')}")

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
        """Note the result of a test."""
        topic, found = _TOPIC_OF[item.name], call.excinfo
        if found is None:
            self.passed[topic] += call.when == "call"
        elif found.errisinstance(pytest.skip.Exception):
            self.skipped[topic][str(found.value)] += 1
        else:
            error = found.value
            sentence = error.sentence if isinstance(error, ContractBroken) else f"{item.name} in its {call.when}"
            why = error.__cause__ if isinstance(error, ContractBroken) else error
            self.broken[topic].append(f"{sentence} ({type(why).__name__}: {' '.join(str(why).split())[:_SHOWN]})")
            self._show(f"broken: {sentence}")

    def lines(self) -> Iterator[str]:
        """Yield the report, line by line."""
        yield self.backend
        yield f"declares: {', '.join(self.capabilities) or 'nothing'}"
        if not self.is_complete:
            yield f"INCOMPLETE: the tests ended after {self.passed.total()}; an error of pytest is above"
        for topic in TOPICS:
            passed, broken = self.passed[topic], self.broken[topic]
            if broken:
                verdict = f"BROKEN: {len(broken)} of {passed + len(broken)} tests fail"
            else:
                verdict = f"{passed} {'test passes' if passed == 1 else 'tests pass'}" if passed else "not tested"
            yield f"{topic:<12} {verdict}"
            yield from (f"{'':12} - {sentence}" for sentence in broken)
            for why, number in self.skipped[topic].items():
                yield f"{'':12} - {number} not tested: {why}"
