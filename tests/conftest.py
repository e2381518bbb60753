"""What all tests share: settings of hypothesis, and the real conversations."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every machine and in every run: a failure is never a matter of luck, and costs nobody a second
# look.
settings.register_profile(
    "default",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> list[dict[str, Any]]:
    """200 customer-service conversations with tool calls, as `{"session_id": ..., "messages": [...]}`."""
    path = _DATA / "airline_conversations.jsonl"
    if not path.exists():
        pytest.skip("shared/data/airline_conversations.jsonl is not beside this checkout")
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
