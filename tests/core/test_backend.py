"""The methods that a backend need not implement."""

from __future__ import annotations

from typing import Any

import pytest

from turnlog import Backend, Change, Key, Page, Query, Receipt, Record, Session, Totals, Unsupported, user
from turnlog.rules import SessionState, page

KEY = Key("default", "s")


class Least(Backend):
    """A backend for one session, with the four methods of the contract."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 0.0)
        self.state = SessionState.absent(KEY)

    async def read(self, key: Key, **options: Any) -> Session:
        self.state, session = self.state.read(self.clock(), **options)
        return session

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.state, receipt = self.state.apply(change, self.clock())
        return receipt

    async def delete(self, key: Key, **conditions: Any) -> bool:
        raise NotImplementedError

    async def page(self, query: Query) -> Page:
        assert self.state.header is not None
        return page([self.state.header.info(self.clock())], query)


async def test_the_defaults_of_the_other_methods() -> None:
    async with Least() as backend:
        for number in range(2):
            record = Record.of((user("hello"),), id=f"t{number}", time=0.0)
            await backend.commit(KEY, Change(append=(record,)))
        assert backend.location is None
        with pytest.raises(Unsupported, match=r"^Least cannot list namespaces: name one$"):
            await backend.namespaces()
        stored = backend.state.records
        assert await backend.seal(KEY, Record.seal(stored)) is None
        assert backend.state.records == stored
        size = sum(record.size for record in stored)
        assert await backend.totals("default") == Totals(sessions=1, messages=2, bytes=size)
        async with backend.alone(KEY), backend.alone(KEY):
            pass
