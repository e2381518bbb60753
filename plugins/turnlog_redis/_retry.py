"""`RetryingServer`: sends commands, and repeats them until a deadline if a repeat is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from turnlog import Closed, CorruptRecord, OutcomeUnknown, Unavailable
from turnlog.errors import TurnlogError
from turnlog.runtime import PerLoop, Reason, why_unreachable

from ._connection import NO_MASTER, NO_SENTINEL, NO_SERVICE, PLAIN, Argument, Command, Lost, Refused, any_failed
from ._layout import key_of
from ._location import Location
from ._scripts import DAMAGED, TEXTS, Script, may_have_written
from ._topology import Topology, topology_of

_PAUSE: Final = 0.05  # seconds before a command is sent again
_TEMPORARY: Final = (
    "LOADING",
    "READONLY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "MOVED",
    "ASK ",
    "BUSY",
    "NOREPLICAS",
)

_DENIED: Final = Reason(
    "the server denies access", "set the right user and password in the URL, before the host", permanent=True
)
_USER_ALONE: Final = _DENIED._replace(
    remedy="the URL has a user and no password: add it, or for a password alone, write redis://:password@host"
)
_NO_PASSWORD: Final = Reason(
    "the server asks for a password", "set it in the URL, as in redis://:password@host", permanent=True
)
_NO_PERMISSION: Final = Reason("the server denies permission", "grant it to the user in the URL", permanent=True)
_ONE_NODE: Final = Reason(
    "the server is one node of a cluster", "write redis+cluster:// in place of redis://", permanent=True
)
_TLS_OR_NOT: Final = "and whether it uses TLS (rediss) or not (redis)"
_CHECK: Final = f"; check the host and the port in the URL, that the server runs, {_TLS_OR_NOT}"
_CHECK_ALL: Final = f"; check the hosts and the ports in the URL, that a server runs, {_TLS_OR_NOT}"
_REPLICA: Final = Reason("the server is a replica, which is read-only", "name its master in the URL", permanent=True)
_REASONS: Final = {
    "NOAUTH": _NO_PASSWORD,
    "Authentication required": _NO_PASSWORD,  # redis-py removes the code
    "WRONGPASS": _DENIED,
    "invalid username-password": _DENIED,
    "AUTH <password> called": Reason("the server asks for no password", "leave it out of the URL", permanent=True),
    "DB index is out of range": Reason(
        "the server has no database of this number", "set another one in the URL", permanent=True
    ),
    "NOPERM": _NO_PERMISSION,
    "this user has no permissions": _NO_PERMISSION,  # redis-py removes the code
    "ERR The user executing the script can't": _NO_PERMISSION,
    "DENIED": Reason(
        "the server accepts connections from its own machine only", "set a password on the server", permanent=True
    ),
    "ERR This instance has cluster support disabled": Reason(
        "the server is not part of a cluster", "write redis:// in place of redis+cluster://", permanent=True
    ),
    NO_MASTER: Reason(
        "no sentinel names a master",
        "name the sentinels in the URL, with their service and scheme (redis or rediss); if they ask for a password, "
        "pass a client of redis-py",
        permanent=True,
    ),
    NO_SENTINEL: Reason(
        "the URL names no sentinel",
        "set the port of a sentinel (usually 26379), or write redis:// in place of redis+sentinel://, and for a "
        "cluster redis+cluster://",
        permanent=True,
    ),
    NO_SERVICE: Reason(
        "no sentinel watches this master",
        "set ?service to the name in the sentinel's setting 'sentinel monitor NAME'",
        permanent=True,
    ),
    PLAIN: Reason(
        "the server does not use TLS on this port",
        "write redis in place of rediss in the scheme of the URL, or set its TLS port",
        permanent=True,
    ),
    "Protocol error, got": Reason(
        "another kind of server answers", "check the host and the port in the URL, and that Redis runs there"
    ),
    "SELECT is not allowed in cluster mode": _ONE_NODE,
    "ERR unknown command": Reason(
        "the server lacks a command of the store",
        "if it is a sentinel, write redis+sentinel:// in place of the scheme; if not, enable the command",
        permanent=True,
    ),
}
"""The meanings of refusals, by the beginnings of their texts."""


class RetryingServer:
    """The servers of a location, for callers in any event loop.

    Args:
        location: The location.
        timeout: Limit of the duration of an operation in seconds, including connections and repeats.
    """

    def __init__(self, location: Location, timeout: float) -> None:
        self.location = location
        self._closed = True
        self._timeout = timeout
        self._topology: PerLoop[Topology] = PerLoop(
            lambda: topology_of(location, timeout), lambda topology: topology.close()
        )

    def deadline(self) -> float:
        """Return the deadline of an operation that begins now, by the monotonic clock."""
        return monotonic() + self._timeout

    async def run(
        self,
        until: float,
        script: Script,
        keys: Sequence[bytes],
        *arguments: Argument,
        writes: bool = False,
        again: bool = True,
    ) -> Any:  # noqa: ANN401 - an answer of a script
        """Run a script and return its answer; `until`, `writes`, `again` and the errors are those of `ask_all`."""
        (answer,) = await self.ask_all([script.call(keys, arguments)], until, writes=writes, again=again)
        return answer

    async def ask_all(
        self, commands: Sequence[Command], until: float | None = None, *, writes: bool = False, again: bool = True
    ) -> list[Any]:
        """Return the answers to commands that are sent together.

        Args:
            commands: The commands; a command that writes must be the only one.
            until: The deadline of the operation, by the monotonic clock; None: these commands are the whole operation.
            writes: Whether the command writes.
            again: Whether the command may be sent twice, because it recognizes a repeat or writes nothing.

        Raises:
            Closed: The server is not open.
            AccessError: The server refuses access.
            Unavailable: The command was not carried out.
            OutcomeUnknown: The answer was lost.
            CorruptRecord: A script found damage, or a key has another type of value.
        """
        if self._closed:
            raise self._not_open()
        if until is None:
            until = self.deadline()
        answers = await (await self._topology.get()).ask_all(commands, until)
        if any_failed(answers):
            await self._ask_again(list(commands), answers, until, writes=writes, again=again)
        return answers

    async def _ask_again(
        self, commands: list[Command], answers: list[Any], until: float, *, writes: bool, again: bool
    ) -> None:
        """Send commands again until they succeed, and replace the errors in `answers`."""
        unknown = False
        before: Lost | Refused | None = None
        while True:
            left: list[int] = []
            wait: Lost | Refused | None = None
            for number, answer in enumerate(answers):
                if isinstance(answer, Lost):
                    unknown = unknown or (writes and answer.sent)
                    if (unknown and not again) or not (answer.again or unknown):
                        raise self._error(answer, unknown=unknown)
                    wait = answer
                elif isinstance(answer, Refused):
                    if str(answer).startswith("NOSCRIPT"):
                        commands[number] = _whole(commands[number])
                    elif str(answer).startswith(_TEMPORARY) and not self._reason(str(answer)):
                        wait = answer
                    else:
                        unknown = unknown or (writes and may_have_written(str(answer)))
                        raise self._error(answer, unknown=unknown, command=commands[number])
                else:
                    continue
                left.append(number)
            if not left:
                return
            if wait is not None:
                # another attempt needs time for its answer; raise the earlier error: the last may only be the timeout
                if monotonic() + 2 * _PAUSE > until:
                    raise self._error(before or wait, unknown=unknown)
                before = wait
                await asyncio.sleep(_PAUSE)
            if self._closed:
                raise self._error(before, unknown=True) if unknown and before else self._not_open()
            topology = await self._topology.get()
            replies = await topology.ask_all([commands[one] for one in left], until)
            for number, answer in zip(left, replies, strict=True):
                answers[number] = answer

    def _reason(self, said: str) -> Reason | None:
        """Return the reason of a refusal; None if it is not known."""
        if said.startswith("MOVED"):
            return None if self.location.kind == "cluster" else _ONE_NODE
        reason = next((reason for start, reason in _REASONS.items() if said.startswith(start)), None)
        settings = self.location.settings
        alone = settings.get("username") is not None and not self.location.authenticates
        return _USER_ALONE if reason is _DENIED and alone else reason

    def _not_open(self) -> Closed:
        return Closed(f"{self.location.name} is not open: use it inside its 'with' block, or after open()")

    def _error(self, answer: Lost | Refused, *, unknown: bool, command: Command = ()) -> TurnlogError:
        said, name = str(answer).rstrip("."), self.location.name
        if unknown:
            error: TurnlogError = OutcomeUnknown(f"{name}: {said}")
        elif said.startswith("WRONGTYPE") or DAMAGED in said:
            key = key_of(command[3]) if len(command) > 3 else None
            error = CorruptRecord("the session is damaged, or its key has another type of value", key=key)
        elif reason := self._reason(said):
            for start in (NO_MASTER, NO_SENTINEL, NO_SERVICE):
                said = said.removeprefix(start)
            error = reason.error(name, said)
        elif said.startswith("READONLY") and self.location.kind == "server":  # for as long as an operation may take
            error = _REPLICA.error(name, said)
        elif (reason := why_unreachable(answer)) and (self.location.kind == "server" or reason.permanent):
            error = reason.error(name)
        else:
            unconnected = isinstance(answer, Lost) and not answer.connected
            check = _CHECK if self.location.kind == "server" else _CHECK_ALL
            error = Unavailable(f"{name}: {said}: nothing was done{check if unconnected else ''}")
        error.__cause__ = answer
        return error

    async def peer(self) -> str | None:
        """Return the host of a server; None without a connection, and for a Unix socket."""
        return (await self._topology.get()).peer

    def open(self) -> None:
        """Allow commands."""
        self._closed = False

    async def close(self) -> None:
        """Wait for the answers to the commands so far, then close all connections."""
        self._closed = True
        await self._topology.close()


def _whole(command: Command) -> Command:
    """Return a command with the text of its script in place of the script's hash."""
    if command[0] != b"EVALSHA":
        return command
    return (b"EVAL", TEXTS[command[1]], *command[2:])
