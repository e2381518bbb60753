"""Token counters: how many tokens messages take in a model's context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from ..values.message import Message

_BYTES_PER_TOKEN: Final = 4
"""English text takes about four characters a token (help.openai.com, "What are tokens and how to count them?")."""

_PER_MESSAGE: Final = 4
"""Tokens that frame a message (OpenAI cookbook, "How to count tokens with tiktoken": 3, and 1 for a name)."""


class TokenCount(NamedTuple):
    """The answer of a token counter.

    Attributes:
        tokens: How many tokens.
        exact: Whether the provider would count the same; False: an estimate.
    """

    tokens: int
    exact: bool


class TokenCounter(Protocol):
    """Counts the tokens of messages for a model: any callable with this signature."""

    def __call__(self, messages: Sequence[Message], *, model: str | None) -> TokenCount:
        """Return how many tokens the messages take.

        Args:
            messages: The messages.
            model: The name of the model; None: not known.
        """
        ...


def estimate(messages: Sequence[Message], *, model: str | None = None) -> TokenCount:  # noqa: ARG001 - for any model
    """Return about how many tokens messages take: four bytes of their encoding each, and four more a message.

    Args:
        messages: The messages.
        model: Ignored: the estimate is the same for every model.
    """
    return TokenCount(sum(message.size // _BYTES_PER_TOKEN + _PER_MESSAGE for message in messages), exact=False)
