"""A backend that records the calls of the layer above it, and helpers for the tests of sealing and recompressing."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from turnlog import (
    Backend,
    Change,
    Expect,
    Key,
    Layer,
    Message,
    Receipt,
    Record,
    Session,
    Store,
    Version,
    assistant,
    user,
)
from turnlog_compression import CompressionLayer

KEY = Key("default", "s")
Kind = Literal["read", "commit", "delete", "seal", "copy"]
T = TypeVar("T")


class Read(NamedTuple):
    """The arguments of one `read`."""

    namespace: str
    session: str
    last: int | None
    before: int | None
    since: Version | None
    touch: bool


class Hold:
    """Holds one call twice: before the backend applies it, and before the caller receives the answer."""

    def __init__(self) -> None:
        self.sent = asyncio.Event()
        self.applied = asyncio.Event()
        self._may_apply = asyncio.Event()
        self._may_answer = asyncio.Event()

    async def apply(self) -> None:
        """Let the backend apply the call, and wait until it has."""
        await self.sent.wait()
        self._may_apply.set()
        await self.applied.wait()

    def answer(self) -> None:
        """Let the caller receive the answer."""
        self._may_apply.set()
        self._may_answer.set()

    async def around(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run the call and hold it."""
        self.sent.set()
        await self._may_apply.wait()
        try:
            return await call()
        finally:
            self.applied.set()
            await self._may_answer.wait()


class Watched(Layer):
    """Records calls and forwards them. A test can hold a call or make it fail.

    Args:
        inner: The backend below.
    """

    portable: ClassVar[bool] = True

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.reads: list[Read] = []
        self.commits: list[Change] = []
        self.seals: list[Record] = []
        self.options: list[tuple[Kind, Expect, str | None]] = []
        """The conditions and the owner of each commit, delete and copy."""
        self.holds: defaultdict[Kind, deque[Hold]] = defaultdict(deque)
        self._failures: defaultdict[Kind, deque[tuple[BaseException, bool]]] = defaultdict(deque)
        self.sealing = asyncio.Event()
        """Set when a seal begins."""
        self.gate: asyncio.Event | None = None
        """Seals wait for this event."""

    def hold(self, kind: Kind) -> Hold:
        """Return a hold for the next call of this kind."""
        self.holds[kind].append(Hold())
        return self.holds[kind][-1]

    def fail(self, kind: Kind, error: BaseException, *, applied: bool = False) -> None:
        """Make the next call of this kind fail, before or after the backend has applied it."""
        self._failures[kind].append((error, applied))

    def clear(self) -> None:
        """Forget the recorded calls."""
        self.reads.clear()
        self.commits.clear()
        self.seals.clear()
        self.options.clear()

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        self.reads.append(Read(key.namespace, key.session, last, before, since, touch))
        call = super().read
        return await self._through("read", lambda: call(key, last=last, before=before, since=since, touch=touch))

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.commits.append(change)
        self.options.append(("commit", change.expect, change.for_owner))
        await asyncio.sleep(0)  # a commit takes time, as over a network
        call = super().commit
        return await self._through("commit", lambda: call(key, change))

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        self.options.append(("delete", expect, for_owner))
        call = super().delete
        return await self._through("delete", lambda: call(key, expect=expect, for_owner=for_owner))

    async def seal(self, key: Key, record: Record) -> bool | None:
        self.seals.append(record)
        self.sealing.set()
        if self.gate is not None:
            await self.gate.wait()
        call = super().seal
        return await self._through("seal", lambda: call(key, record))

    async def copy(
        self,
        source: Key,
        target: Key,
        *,
        at: int | None,
        change_id: str,
        expect: Expect = None,
        for_owner: str | None = None,
    ) -> Receipt:
        self.options.append(("copy", expect, for_owner))
        call = super().copy
        options: dict[str, Any] = {"at": at, "change_id": change_id, "expect": expect, "for_owner": for_owner}
        return await self._through("copy", lambda: call(source, target, **options))

    async def _through(self, kind: Kind, call: Callable[[], Awaitable[T]]) -> T:
        async def answered() -> T:
            if not self._failures[kind]:
                return await call()
            error, applied = self._failures[kind].popleft()
            if applied:
                await call()
            raise error

        holds = self.holds[kind]
        return await (holds.popleft().around(answered) if holds else answered())


def said(number: int) -> list[Message]:
    """Return the messages of a turn that name its number and are long enough to be compressed."""
    return [user(f"turn {number}"), assistant(f"Answer {number}: " + "so it is, " * 420)]


async def fill(store: Store | Backend, session: str, count: int, *, start: int = 0) -> None:
    """Append numbered turns."""
    store = store if isinstance(store, Store) else Store(store)
    for number in range(start, start + count):
        await store.append(session, said(number), turn_id=f"turn {number}")


async def settled(layer: CompressionLayer) -> None:
    """Wait until the sealer of this event loop is idle."""
    assert layer._sealer is not None
    task = layer._sealer._tasks.get(asyncio.get_running_loop())
    if task is not None:
        await task


async def shape(store: Store | Backend, session: str = KEY.session) -> list[int]:
    """Return the number of turns in each stored record."""
    store = store if isinstance(store, Store) else Store(store)
    return [record.turns for record in (await store.backend.read(Key(store.namespace, session), touch=False)).records]


def numbers(messages: Sequence[Message]) -> list[int]:
    """Return the numbers of the turns that messages belong to."""
    return [int(message.text.split()[1]) for message in messages if message.role == "user"]
