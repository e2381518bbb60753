"""What a store asks of its servers: again where that is safe, for so long, and with errors that say what is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from turnlog import OutcomeUnknown, Unavailable

from ._connection import Command, Lost, Refused, any_failed
from ._location import Place
from ._loops import Loops
from ._scripts import TEXTS
from ._topology import Route, route_to

_AGAIN: Final = 0.05  # seconds until the next try of what is refused for the moment
_FOR_NOW: Final = (
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


class Server:
    """The servers of a place, from any event loop.

    Args:
        place: Where they are.
        timeout: Seconds to wait for a connection, and for an answer.
        check_open: Raises an error once the store is closed, also between two tries.
    """

    def __init__(self, place: Place, timeout: float, check_open: Callable[[], None]) -> None:
        self.place = place
        self._check_open = check_open
        self._timeout = timeout
        self._routes: Loops[Route] = Loops(lambda: route_to(place, timeout), lambda route: route.close())

    async def ask_all(self, commands: Sequence[Command], *, writes: bool = False, again: bool = True) -> list[Any]:
        """The answers to commands that travel together.

        Args:
            commands: What is asked; one alone, where it writes.
            writes: Whether it changes anything.
            again: Whether it may be sent twice: it knows what it has done already, or changes nothing.

        Raises:
            Unavailable: It was not done.
            OutcomeUnknown: The answer was lost.
        """
        self._check_open()
        answers = await (await self._routes.here()).ask_all(commands)
        if any_failed(answers):
            await self._ask_again(list(commands), answers, writes=writes, again=again)
        return answers

    async def _ask_again(self, commands: list[Command], answers: list[Any], *, writes: bool, again: bool) -> None:
        """Put answers in place of errors."""
        loop = asyncio.get_running_loop()
        end, unknown = loop.time() + self._timeout, False
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
                    elif str(answer).startswith(_FOR_NOW):
                        wait = answer
                    else:
                        raise self._error(answer, unknown=unknown)
                else:
                    continue
                left.append(number)
            if not left:
                return
            if wait is not None:
                if loop.time() + _AGAIN > end:
                    raise self._error(wait, unknown=unknown)
                await asyncio.sleep(_AGAIN)
            self._check_open()
            route = await self._routes.here()
            for number, answer in zip(left, await route.ask_all([commands[one] for one in left]), strict=True):
                answers[number] = answer

    def _error(self, answer: Lost | Refused, *, unknown: bool) -> OutcomeUnknown | Unavailable:
        said = str(answer).rstrip(".")
        if said.startswith("NOAUTH"):
            said += "; a password goes before the host, as in redis://:password@host"
        if unknown:
            error: OutcomeUnknown | Unavailable = OutcomeUnknown(f"{self.place.name}: {said}")
        else:
            error = Unavailable(f"{self.place.name}: {said}: nothing was done")
        error.__cause__ = answer
        return error

    async def peer(self) -> str | None:
        """The host of one of the servers; None: it is not connected, or by a socket in the file system."""
        return (await self._routes.here()).peer

    async def close(self) -> None:
        """Wait for what was asked until now, then end all connections."""
        await self._routes.close()


def _whole(command: Command) -> Command:
    """A command that names a script, with its text instead."""
    if command[0] != b"EVALSHA":
        return command
    return (b"EVAL", TEXTS[command[1]], *command[2:])
