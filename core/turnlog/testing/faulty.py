"""`FaultyBackend`: a layer that loses, repeats and delays calls, as networks and servers do."""

from __future__ import annotations

from asyncio import sleep
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final, Literal, TypeAlias, TypeVar, get_args

from ..backend import Backend
from ..errors import InvalidInput, OutcomeUnknown, TurnlogError, Unavailable
from ..layers import Layer
from ..values.change import Change, Expect, Receipt
from ..values.key import Key
from ..values.query import Query
from ..values.record import Record
from ..values.session import Page, Session
from ..values.version import Version

__all__ = ["FAULTS", "Fault", "FaultyBackend"]

T = TypeVar("T")

Fault: TypeAlias = Literal["lose_request", "lose_reply", "late", "repeat", "delay", "crash"]
"""A fault of one call.

- `lose_request`: the call never reaches the backend.
- `lose_reply`: the backend executes the call, and its answer is lost.
- `late`: the caller gets an error now, and `deliver` executes the call later.
- `repeat`: the backend executes the call twice.
- `delay`: other tasks run before and after the call, so that calls of several tasks change places.
- `crash`: the backend executes the call or not, and refuses further calls until `restart`.
"""

FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
"""All faults."""

_LONGEST_DELAY: Final = 5  # turns of the event loop: enough for several calls of other tasks


class FaultyBackend(Layer):
    """A backend with faults on demand, and at random.

    A write whose outcome the caller cannot know raises `OutcomeUnknown`, and a read raises `Unavailable`.  `late` and
    `repeat` change only writes; a late read is a lost one.

        faulty = FaultyBackend(MemoryBackend())
        store = Store(faulty)
        faulty.fail_next("lose_reply")
        await store.append("alice", [user("Hello")])  # raises OutcomeUnknown, and the turn is stored

    Args:
        inner: The backend.
        dice: The source of the random faults: with the same seed, the same calls meet the same faults.
        rates: The probability of each random fault, from 0 to 1; together at most 1.

    Raises:
        InvalidInput: A rate is not a probability, or its name is not a fault.
    """

    def __init__(self, inner: Backend, *, dice: Random | None = None, **rates: float) -> None:
        super().__init__(inner)
        for name, rate in rates.items():
            check_fault(name)
            if not 0 <= rate <= 1:
                raise InvalidInput(f"{name} must be a probability from 0 to 1, not {rate!r}")
        if sum(rates.values()) > 1:
            raise InvalidInput(f"the rates of all faults must add up to at most 1, not {sum(rates.values())}")
        self.rates: dict[str, float] = rates
        self.crashed: bool = False
        """True after a crash, until `restart`: every call fails."""
        self.late: deque[Callable[[], Awaitable[object]]] = deque()
        """The writes that `deliver` will execute."""
        self.dice: Random = dice if dice is not None else Random(0)  # noqa: S311 - dice, not keys
        self._next: deque[Fault] = deque()

    def fail_next(self, *faults: Fault) -> None:
        """Give the next calls these faults, one each; they come before random ones.

        Raises:
            InvalidInput: A name is not a fault.
        """
        for fault in faults:
            check_fault(fault)
        self._next.extend(faults)

    def restart(self) -> None:
        """Accept calls again after a crash."""
        self.crashed = False

    async def deliver(self) -> None:
        """Execute the oldest late write, whose caller has already received an error."""
        with suppress(TurnlogError):
            await self.late.popleft()()

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        return await self._read(lambda: self.inner.read(key, last=last, before=before, since=since, touch=touch))

    async def page(self, query: Query) -> Page:
        return await self._read(lambda: self.inner.page(query))

    async def commit(self, key: Key, change: Change) -> Receipt:
        unknown = OutcomeUnknown("the answer to a commit was lost", key=key, change=change)
        return await self._write(lambda: self.inner.commit(key, change), unknown)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        unknown = OutcomeUnknown("the answer to a deletion was lost", key=key)
        return await self._write(lambda: self.inner.delete(key, expect=expect, for_owner=for_owner), unknown)

    async def seal(self, key: Key, record: Record) -> bool | None:
        unknown = OutcomeUnknown("the answer to a seal was lost", key=key)
        return await self._write(lambda: self.inner.seal(key, record), unknown)

    # `copy` is the read and the commit of `Backend`, so that each of them may meet a fault

    async def _read(self, call: Callable[[], Awaitable[T]]) -> T:
        fault = await self._begin()
        if fault == "crash":
            self.crashed = True
        if fault in {"crash", "lose_request", "lose_reply", "late"}:
            raise Unavailable(f"the answer was lost ({fault})")
        answer = await call()
        await self._pause(fault)
        return answer

    async def _write(self, call: Callable[[], Awaitable[T]], unknown: OutcomeUnknown) -> T:
        fault = await self._begin()
        if fault == "late":
            self.late.append(call)
        executed = fault == "lose_reply"
        if fault == "crash":
            self.crashed, executed = True, self.dice.random() < 0.5
        if fault in {"crash", "lose_request", "lose_reply", "late"}:
            if executed:
                with suppress(TurnlogError):  # the caller does not receive a refusal either
                    await call()
            raise unknown
        answer = await call()
        if fault == "repeat":
            with suppress(TurnlogError):
                await call()
        await self._pause(fault)
        return answer

    async def _begin(self) -> Fault | None:
        """Return the fault of the next call, after its first delay."""
        if self.crashed:
            raise Unavailable("the backend has crashed: nothing was stored; call restart()")
        fault = self._next.popleft() if self._next else self._draw()
        await self._pause(fault)
        return fault

    def _draw(self) -> Fault | None:
        if not self.rates:
            return None
        left = self.dice.random()
        for fault in FAULTS:
            left -= self.rates.get(fault, 0)
            if left < 0:
                return fault
        return None

    async def _pause(self, fault: Fault | None) -> None:
        if fault == "delay":
            for _ in range(self.dice.randint(1, _LONGEST_DELAY)):
                await sleep(0)


def check_fault(name: object) -> None:
    """Refuse a name that is not a fault.

    Raises:
        InvalidInput: It is not one of `FAULTS`.
    """
    if name not in FAULTS:
        raise InvalidInput(f"{name!r} is not a fault: choose one of {', '.join(FAULTS)}")
