"""The stored progress of `recompress`, by which a later call continues, and only one call runs at a time.

The progress is the metadata of the session `Key("turnlog:recompress", namespace)`.  One turn marks the start of the
present pass.  Each write expects the version of the write before, so a call detects when another call has taken over.

The progress of a killed call still names it as running.  A later call therefore waits, and takes over if the progress
has not changed for `PATIENCE` seconds by its own clock.  If the first call was only slow, it ends at its next write.
Until then both calls may send seals, which is safe: the backend refuses a seal of records that have changed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Self

import msgspec

from turnlog import ABSENT, Backend, Change, Expect, Key, Query, Record, SessionInfo, user
from turnlog.errors import Conflict, InvalidInput, SessionNotFound, TurnlogError
from turnlog.values import new_id

_HOME: Final = "turnlog:recompress"

BEAT: Final = 5.0
"""Seconds between two writes of the progress by a running call."""

PATIENCE: Final = 20.0
"""Seconds without a write after which a call counts as killed: several times `BEAT`, because a single session may take
longer than `BEAT`."""

_LOOK: Final = 1.0  # seconds between two reads of the progress of another call


class _State(msgspec.Struct):
    """The stored progress.

    Attributes:
        asked: The codec and the arguments.
        since: This pass rewrites only sessions that were updated at this time or later.
        began: Start of this pass, by the backend's clock.
        cursor: The position of this pass; None: its beginning.
        run: The id of the running call; empty: none.
    """

    asked: str
    since: float = 0.0
    began: float = 0.0
    cursor: str | None = None
    run: str = ""


class Progress:
    """The progress of the running call; created by `begin`.

    Attributes:
        since: This pass rewrites only sessions that were updated at this time or later.
        cursor: The position of this pass; None: its beginning.
    """

    def __init__(self, backend: Backend, home: Key, state: _State, expect: Expect) -> None:
        self._backend = backend
        self._home = home
        self._state = state
        self._expect = expect
        self._written = 0.0

    @classmethod
    async def begin(cls, backend: Backend, namespace: str, asked: str) -> Self:
        """Return the progress of an earlier call with the same codec and arguments, or a new one.

        Args:
            backend: The backend that stores the progress.
            namespace: The namespace.
            asked: The codec and the arguments.

        Raises:
            Conflict: Another call is running.
        """
        home, loop = Key(_HOME, namespace), asyncio.get_running_loop()
        watched, until = None, 0.0
        while True:
            info = await _info(backend, home)
            state = _state_of(info)
            if info is not None and state.run:
                if info.version != watched:
                    if watched is not None:
                        raise _running(namespace)
                    watched, until = info.version, loop.time() + PATIENCE
                if loop.time() < until:
                    await asyncio.sleep(_LOOK)
                    continue
            if state.asked != asked:
                state = _State(asked)
            state.run = new_id()
            progress = cls(backend, home, state, ABSENT if info is None else info.version.exact)
            with suppress(Conflict):  # another call has begun since the read: read again
                await progress.store()
                return progress

    @property
    def since(self) -> float:
        return self._state.since

    @property
    def cursor(self) -> str | None:
        return self._state.cursor

    @cursor.setter
    def cursor(self, cursor: str) -> None:
        self._state.cursor = cursor

    async def begin_pass(self) -> None:
        """Store the start of this pass: an appended turn sets `SessionInfo.updated` by the backend's clock."""
        await self.store(append=(Record.of((user("a pass begins"),), id=new_id(), time=0.0),), retain=1)
        info = await _info(self._backend, self._home)
        if info is None:
            raise _running(self._home.session)
        self._state.began = info.updated

    def end_pass(self, slack: float) -> None:
        """Let the next pass begin with sessions that were updated `slack` seconds before the start of this one."""
        self._state.since, self._state.cursor = self._state.began - slack, None

    async def beat(self) -> None:
        """Write the progress if the last write was at least `BEAT` seconds ago.

        Raises:
            Conflict: Another call has taken over.
        """
        if asyncio.get_running_loop().time() - self._written >= BEAT:
            await self.store()

    async def store(self, *, append: tuple[Record, ...] = (), retain: int | None = None) -> None:
        """Write the progress.

        Args:
            append: Also append these records.
            retain: Also drop the turns before the last ones; None: none.

        Raises:
            Conflict: Another call has taken over.
        """
        state = msgspec.to_builtins(self._state)
        change = Change(append=append, retain=retain, metadata=state, ttl=0, expect=self._expect)
        try:
            receipt = await self._backend.commit(self._home, change)
        except Conflict:
            raise _running(self._home.session) from None
        self._expect = receipt.version.exact
        self._written = asyncio.get_running_loop().time()

    async def finish(self) -> None:
        """Remove the progress: the next call starts from the beginning."""
        with suppress(Conflict):  # another call has taken over
            await self._backend.delete(self._home, expect=self._expect)

    async def release(self) -> None:
        """Allow another call to continue at once; if this fails, the other call waits for `PATIENCE` seconds."""
        with suppress(TurnlogError):
            info = await _info(self._backend, self._home)
            if info is not None and _state_of(info).run == self._state.run:
                self._expect = info.version.exact  # a cancelled write may have been stored
                self._state.run = ""
                await self.store()


async def is_running(backend: Backend, namespace: str) -> bool:
    """Return whether a call is running, or was killed and not continued."""
    return bool(_state_of(await _info(backend, Key(_HOME, namespace))).run)


async def _info(backend: Backend, home: Key) -> SessionInfo | None:
    try:
        return (await backend.read(home, last=0, touch=False)).info
    except SessionNotFound:
        return None


def _state_of(info: SessionInfo | None) -> _State:
    """Return the stored progress; a new one if none is stored, or if it is damaged."""
    if info is None:
        return _State("")
    try:
        state = msgspec.convert(dict(info.metadata), _State)
        Query(namespace=info.key.session, cursor=state.cursor)  # checks the cursor
    except (msgspec.ValidationError, InvalidInput):
        return _State("")
    return state


def _running(namespace: str) -> Conflict:
    return Conflict(
        f"another recompress is running in namespace {namespace!r}: wait until it ends, or stop it; this one has "
        "stopped, and its results are kept"
    )
