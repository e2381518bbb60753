"""`machine`: the simulation as a state machine of hypothesis, which finds the shortest run of calls that fails.

from hypothesis.stateful import run_state_machine_as_test
from turnlog.testing.machine import machine

def test_the_stack_agrees_with_the_model():
    run_state_machine_as_test(machine(OverAcme))
"""

from __future__ import annotations

import asyncio
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from .simulation import Simulation

__all__ = ["machine"]

_dice = st.randoms(use_true_random=False)


def machine(kind: type[Simulation]) -> type[RuleBasedStateMachine]:
    """Return a state machine whose rules are the steps of a simulation.

    Args:
        kind: The stack, as for `simulate`.
    """

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.run = kind(Random(0))  # noqa: S311 - each rule brings dice of its own

        @initialize()
        def open(self) -> None:
            self.loop.run_until_complete(self.run.open())

        @rule(dice=_dice)
        def step(self, dice: Random) -> None:
            self.run.use(dice)
            self.loop.run_until_complete(self.run.step())

        def teardown(self) -> None:
            self.loop.run_until_complete(self.run.close())
            self.loop.close()

    Machine.__name__ = Machine.__qualname__ = f"{kind.__name__}Machine"
    return Machine
