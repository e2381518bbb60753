"""`Simulation`: random calls of several writers to a stack with faults, compared with a small model.

    from turnlog.testing.simulation import Simulation, simulate

    class OverAcme(Simulation):
        def backend(self):
            return AcmeBackend(f"acme://{self.folder}/sessions", ttl=self.ttl, clock=self.clock)

    simulate(OverAcme, seed=1)

One call runs at a time, and each may meet a fault (`FaultyBackend`).  So the model knows every state that the sessions
can be in: a call that returns has done all of its work, a refused call none of it, and a call with an unknown outcome
all or none of it.  Lost calls are sent again, at once or later, and late calls arrive after other calls.  The same seed
gives the same run; a failure names its seed and the last calls.

A `random.Random` takes every decision.  `turnlog.testing.machine` takes it from hypothesis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from ._simulation_base import NAMES, Writer
from ._simulation_reads import Reads
from ._simulation_writes import Writes

__all__ = ["STEPS", "Simulation", "simulate"]

STEPS: Final = 60
"""Number of calls in a run: a session remembers at least 64 changes, so none is forgotten before it is sent again."""


class Simulation(Writes, Reads):
    """Random calls to a stack, compared with a small model.

    A subclass implements `backend`, and overrides `stack` to test layers.

    Args:
        dice: The source of all decisions.
    """

    async def step(self) -> None:
        """Make one random call."""
        steps: list[tuple[int, Callable[[Writer, str], Awaitable[None]]]] = [
            (12, self.append),
            (6, self.add_round),
            (3, self.append_again),
            (3, self.save),
            (3, self.rewind),
            (2, self.trim),
            (3, self.describe),
            (1, self.erase),
            (2, self.fork),
            (14, self.load),
            (6, self.follow),
            (2, self.sessions),
            (3, self.seal),
            (4, self.resend),
            (3, self.deliver),
            (3, self.wait),
        ]
        (chosen,) = self.dice.choices([step for _, step in steps], [weight for weight, _ in steps])
        writer, name = self.dice.choice(self.writers), self.dice.choice(NAMES)
        if writer.faulty.crashed:
            self.restart(writer)
        await self._expire(name)
        await chosen(writer, name)


def simulate(kind: type[Simulation], seed: int, *, steps: int = STEPS) -> None:
    """Run a simulation.

    Args:
        kind: The class.
        seed: The seed of all decisions.
        steps: Number of calls.

    Raises:
        AssertionError: The stack and the model differ; the notes of the error name the seed and the last calls.
    """
    asyncio.run(_simulate(kind, seed, steps))


async def _simulate(kind: type[Simulation], seed: int, steps: int) -> None:
    run = kind(Random(seed))  # noqa: S311 - dice, not keys
    try:
        await run.open()
        for _ in range(steps):
            await run.step()
    except Exception as error:
        error.add_note("\n".join(["The last calls:", *run.log, f"To repeat: simulate({kind.__name__}, seed={seed})"]))
        raise
    finally:
        await run.close()
