"""The window of messages for a model: its limits, and a start that moves in steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog import Window, user
from turnlog.errors import InvalidInput
from turnlog.pipeline.tokens import estimate
from turnlog.values.turn import Turn


def _turns(sizes: list[int], first: int = 0) -> list[Turn]:
    return [Turn(first + n, f"t{n}", 0.0, (user("x" * 40),) * size) for n, size in enumerate(sizes)]


def _tokens(turn: Turn) -> int:
    return estimate(turn.messages).tokens


def _kept_prefixes(window: Window, sizes: list[int]) -> float:
    """Return the share of requests that begin with all messages of the previous request."""
    turns, before, kept = _turns(sizes), 0, 0
    for end in range(1, len(turns) + 1):
        start = window.start(turns[max(0, end - 40) : end], _tokens) + max(0, end - 40)
        kept += start == before
        before = start
    return kept / len(turns)


def test_the_start_moves_in_steps() -> None:
    """The share over 200 turns with a window of 20 messages, compared with a window that moves on every turn."""
    assert _kept_prefixes(Window(messages=20), [2] * 200) >= 0.75
    assert _kept_prefixes(Window(messages=20, least=0.25), [2] * 200) >= 0.85
    assert _kept_prefixes(Window(turns=10), [2, 4, 1, 3] * 50) >= 0.75
    assert _kept_prefixes(Window(tokens=300), [2] * 200) >= 0.75
    assert _kept_prefixes(Window(messages=20, least=1), [2] * 200) < 0.06


sizes = st.lists(st.integers(1, 9), min_size=1, max_size=30)
limits = st.none() | st.integers(1, 40)


@given(sizes, st.integers(0, 1000), limits, limits, st.none() | st.integers(1, 400), st.floats(0.01, 1))
def test_limits(
    sizes: list[int], first: int, messages: int | None, turns: int | None, tokens: int | None, least: float
) -> None:
    """Only a single last turn may exceed a limit.  An omitted turn would not fit, or the start has moved."""
    window = Window(messages=messages, turns=turns, tokens=tokens, least=least)
    all_turns = _turns(sizes, first)
    start = window.start(all_turns, _tokens)
    sent = all_turns[start:]
    used = {
        "messages": sum(len(turn.messages) for turn in sent),
        "turns": len(sent),
        "tokens": sum(map(_tokens, sent)),
    }
    set_limits = {name: limit for name in used if (limit := getattr(window, name)) is not None}
    assert len(sent) == 1 or all(used[name] <= limit for name, limit in set_limits.items())
    if start:
        fits = Window(messages=messages, turns=turns, tokens=tokens, least=1).start(all_turns, _tokens)
        assert start >= fits
        assert start == fits or all(used[name] >= least * limit for name, limit in set_limits.items())


def test_what_is_not_limited_is_sent_whole() -> None:
    assert Window(turns=50).start(_turns([2] * 50), _tokens) == 0
    assert Window().messages == 20
    assert Window(tokens=5).messages is None
    assert Window().start([], _tokens) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": 0},
        {"turns": -1},
        {"tokens": 1.5},
        {"tokens": True},
        {"least": 0},
        {"least": 1.1},
        {"least": float("nan")},
        {"least": "1"},
        {"interrupted": "drop"},
        {"oversize": "cut"},
    ],
)
def test_a_window_checks_itself(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=rf"Window\({next(iter(wrong))}=\)"):
        Window(**wrong)
