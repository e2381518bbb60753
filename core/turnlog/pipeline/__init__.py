"""The pipeline: load the history, select the window, call the model, save the turn."""

from __future__ import annotations

from .pipeline import Model, Pipeline, Result
from .tokens import TokenCount, TokenCounter, estimate
from .window import Window

__all__ = ["Model", "Pipeline", "Result", "TokenCount", "TokenCounter", "Window", "estimate"]
