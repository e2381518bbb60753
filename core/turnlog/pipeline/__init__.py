"""The pipeline: load the history, select the window, call the model, run its tools, save the turn."""

from __future__ import annotations

from .concurrency import Concurrency, Serialize
from .model import Model, Piece, Reply, Usage, ask
from .pipeline import Pipeline
from .result import Result
from .stream import Stream
from .summaries import Summaries, Summary
from .tokens import TokenCount, TokenCounter, count_texts, estimate
from .tools import Tool
from .window import Window

__all__ = [
    "Concurrency",
    "Model",
    "Piece",
    "Pipeline",
    "Reply",
    "Result",
    "Serialize",
    "Stream",
    "Summaries",
    "Summary",
    "TokenCount",
    "TokenCounter",
    "Tool",
    "Usage",
    "Window",
    "ask",
    "count_texts",
    "estimate",
]
