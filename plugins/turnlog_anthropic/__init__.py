"""`AnthropicModel`: a model of Anthropic, or of any server with its Messages API.

To install it, run `pip install 'turnlog[anthropic]'`.  On the command line, its name is `anthropic`: `turnlog chat
--model anthropic`.
"""

from __future__ import annotations

from ._model import AnthropicModel

__all__ = ["AnthropicModel"]
