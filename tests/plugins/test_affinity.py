"""`choose` is the same in every process, spreads sessions evenly and moves as few as possible; naive routers fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog import InvalidInput
from turnlog_cache import choose

FOUR = [f"10.0.0.{number}:8000" for number in range(1, 5)]
TEN = [f"chat-{number}.example" for number in range(10)]
SESSIONS = [f"session-{number}" for number in range(20_000)]

Router = Callable[[str, list[str]], str]


def naive(session_id: str, instances: list[str]) -> str:
    """Choose by Python's hash, modulo the number of instances."""
    return instances[hash(session_id) % len(instances)]


# --------------------------------------------------------------------------------------------------- measuring a router


def uneven(router: Router, instances: list[str], sessions: Iterable[str] = SESSIONS) -> float:
    """Return the largest relative difference between an instance's sessions and its share."""
    counts = Counter(router(session, instances) for session in sessions)
    share = counts.total() / len(instances)
    return max(abs(counts[name] - share) / share for name in instances)


def moved(router: Router, before: list[str], after: list[str]) -> Counter[tuple[str, str]]:
    """Count the sessions that change their instance, by old and new instance."""
    places = ((router(session, before), router(session, after)) for session in SESSIONS)
    return Counter((old, new) for old, new in places if old != new)


def elsewhere(name: str) -> str:
    """Return the choices of a named router in another process, where hashes have another salt."""
    program = (
        f"from test_affinity import {name} as router, FOUR, SESSIONS\n"
        "print(*(router(session, FOUR) for session in SESSIONS[:200]))"
    )
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


# --------------------------------------------------------------------------------------------------------------- choose


def test_every_process_chooses_the_same() -> None:
    assert elsewhere("choose") == " ".join(choose(session, FOUR) for session in SESSIONS[:200])


def test_every_version_chooses_the_same() -> None:
    """During a deployment two versions of turnlog run at once."""
    assert [choose(session, FOUR)[7] for session in SESSIONS[:20]] == list("23431231322443223444")


def test_the_order_of_the_instances_does_not_count() -> None:
    for session in SESSIONS[:50]:
        assert len({choose(session, order) for order in permutations(FOUR)}) == 1
        assert choose(session, iter(FOUR)) == choose(session, set(FOUR)) == choose(session, FOUR)


@pytest.mark.parametrize("instances", [FOUR, TEN], ids=["four", "ten"])
def test_sessions_are_spread_evenly(instances: list[str]) -> None:
    assert uneven(choose, instances) < 0.05


def test_the_sessions_of_one_instance_are_spread_evenly_over_the_next_tier() -> None:
    """The choice of an outer router does not influence the choice of an inner one."""
    mine = [session for session in SESSIONS if choose(session, FOUR) == FOUR[0]]
    assert uneven(choose, TEN, mine) < 0.1


def test_an_instance_that_leaves_moves_only_its_own_sessions_evenly() -> None:
    gone, others = TEN[3], [name for name in TEN if name != TEN[3]]
    moves = moved(choose, TEN, others)
    assert {old for old, _ in moves} == {gone}
    share = moves.total() / len(others)
    assert 0.095 < moves.total() / len(SESSIONS) < 0.105
    assert all(abs(moves[gone, name] - share) < 0.2 * share for name in others)


def test_an_instance_that_joins_takes_only_its_share_evenly() -> None:
    new = "10.0.0.5:8000"
    moves = moved(choose, FOUR, [new, *FOUR])
    assert {name for _, name in moves} == {new}
    share = moves.total() / len(FOUR)
    assert 0.19 < moves.total() / len(SESSIONS) < 0.21
    assert all(abs(moves[name, new] - share) < 0.1 * share for name in FOUR)


def test_an_instance_that_returns_gets_its_sessions_back() -> None:
    own = [session for session in SESSIONS[:500] if choose(session, FOUR) == FOUR[2]]
    assert len(own) > 80
    assert FOUR[2] not in {choose(session, FOUR[:2] + FOUR[3:]) for session in own}
    assert {choose(session, FOUR[::-1]) for session in own} == {FOUR[2]}


def test_an_instance_that_is_named_twice_counts_once() -> None:
    for session in SESSIONS[:200]:
        assert choose(session, [*FOUR, FOUR[0], FOUR[0]]) == choose(session, FOUR)


@given(st.text(), st.lists(st.text(), min_size=1, max_size=6))
def test_any_text_is_an_id_and_a_name(session: str, instances: list[str]) -> None:
    chosen = choose(session, instances)
    assert chosen in instances
    assert chosen == choose(session, sorted(instances))
    assert chosen == choose(session, [name for name in instances if name == chosen or name < chosen])


@pytest.mark.parametrize(
    ("session", "instances", "why"),
    [
        ("s", [], "instances is empty"),
        (5, FOUR, "session id must be a str, not int"),
        (b"s", FOUR, "session id must be a str, not bytes"),
        ("s", [None], "instance must be a str, not NoneType"),
        ("s", "10.0.0.1:8000", r"must be a list of names, not a str"),
        ("\ud800", FOUR, "lone surrogate"),
        ("s", ["\udfff"], "lone surrogate"),
    ],
)
def test_bad_arguments_are_refused(session: Any, instances: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        choose(session, instances)


# -------------------------------------------------------------------------------------------------------- naive routers


def test_the_naive_router_is_detected() -> None:
    """It spreads evenly, but processes disagree, the order of instances matters, and nearly every session moves."""
    assert uneven(naive, FOUR) < 0.05
    assert elsewhere("naive") != " ".join(naive(session, FOUR) for session in SESSIONS[:200])
    assert len({naive(SESSIONS[0], list(order)) for order in permutations(FOUR)}) == len(FOUR)
    moves = moved(naive, TEN, TEN[:9])
    assert {old for old, _ in moves} == set(TEN)
    assert moves.total() / len(SESSIONS) > 0.8


def test_an_uneven_router_is_detected() -> None:
    assert uneven(lambda session, instances: instances[len(session) % len(instances)], FOUR) > 0.5
