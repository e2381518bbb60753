"""`OpenAIModel`: a model of OpenAI, or of any server that speaks Chat Completions.

The extra is `turnlog[openai]`, and the name `openai` in `turnlog chat --model openai`.
"""

from __future__ import annotations

from ._model import OpenAIModel

__all__ = ["OpenAIModel"]
