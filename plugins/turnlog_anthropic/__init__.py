"""`AnthropicModel`: a model of Anthropic, or of any server that speaks its Messages API.

The extra is `turnlog[anthropic]`, and the name `anthropic` in `turnlog chat --model anthropic`.
"""

from __future__ import annotations

from ._model import AnthropicModel

__all__ = ["AnthropicModel"]
