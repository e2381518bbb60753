"""Setup of the tests with LangGraph: nothing is traced."""

from __future__ import annotations

import os

os.environ["LANGSMITH_TRACING"] = "false"
