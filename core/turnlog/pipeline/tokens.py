"""Token counters: how many tokens messages take in a model's context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from ..values.message import Message
from .content import content_of

_BYTES_PER_TOKEN: Final = 4
"""English text takes about four characters a token (help.openai.com, "What are tokens and how to count them?").

Bytes of UTF-8 suit other scripts better than characters.  On the interface texts of Django, with o200k_base, the
estimate was from 17 % too low to 8 % too high for Chinese, Japanese and Korean, 60 % too high for Russian and 75 % for
Hindi; four characters a token were about half too low for the first three.  It was 16 % too low for JSON.  The older
cl100k_base takes more: twice the estimate for Greek and Hebrew.
"""

_PER_MESSAGE: Final = 4
"""Tokens that frame a message (OpenAI cookbook, "How to count tokens with tiktoken": 3, and 1 for the role)."""

_PER_ATTACHMENT: Final = 1_600
"""The most that an image takes (docs.anthropic.com, "Vision"; platform.openai.com, "Images and vision": 1,536).

Newer models take more of the largest images.  Sounds, videos and documents of several pages take more, too: no counter
here knows their length.
"""


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


def count_texts(messages: Sequence[Message], tokens: Callable[[str], int]) -> TokenCount:
    """Return how many tokens messages take, with a function that counts those of a text.

    Tool calls and entries of no known meaning count as JSON.  Each message takes 4 more.  Each image, sound, video or
    file takes 1,600 more; its encoded data counts nothing.  The count is not exact, because each provider has its own
    way to write tool calls and attachments.

    Args:
        messages: The messages.
        tokens: Returns the tokens of a text.
    """
    count = _PER_MESSAGE * len(messages)
    for message in messages:
        if message.is_plain:  # a shorter way, for most messages
            count += tokens(message.text)
            continue
        texts, attachments = content_of(message)
        count += sum(map(tokens, texts)) + _PER_ATTACHMENT * attachments
    return TokenCount(count, exact=False)


def estimate(messages: Sequence[Message], *, model: str | None = None) -> TokenCount:  # noqa: ARG001 - for any model
    """Return about how many tokens messages take: one for each four bytes of text in UTF-8, as `count_texts` counts.

    Args:
        messages: The messages.
        model: Ignored: the estimate is the same for every model.
    """
    return count_texts(messages, _estimate)


def _estimate(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode())
    return -(-size // _BYTES_PER_TOKEN)
