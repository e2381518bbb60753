"""The simulation with faults and several writers on each server."""

from __future__ import annotations

import pytest

from simulated import SERVERS
from turnlog.testing.crowd import crowd
from turnlog.testing.simulation import Simulation, simulate


@pytest.mark.parametrize("kind", SERVERS)
def test_servers_agree_with_the_small_model(kind: type[Simulation]) -> None:
    for seed in range(6):
        simulate(kind, seed)
        crowd(kind, seed)
