"""`OpenAIModel`: a model of OpenAI, or of any server with the Chat Completions API.

To install it, run `pip install 'turnlog[openai]'`.  On the command line, its name is `openai`: `turnlog chat --model
openai`.
"""

from __future__ import annotations

from ._model import OpenAIModel

__all__ = ["OpenAIModel"]
