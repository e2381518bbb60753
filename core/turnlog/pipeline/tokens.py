"""Token counters: how many tokens messages take in a model's context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from ..values.message import Message
from .content import content_of
from .surrogates import paired

_BYTES_PER_TOKEN: Final = 4
"""English text has about four characters per token (help.openai.com, "What are tokens and how to count them?").

For other scripts, bytes of UTF-8 give a better estimate than characters.  With o200k_base, on the interface texts of
Django, the estimate from bytes was 17 % too low to 8 % too high for Chinese, Japanese and Korean, 60 % too high for
Russian and 75 % too high for Hindi.  An estimate of four characters per token was about 50 % too low for Chinese,
Japanese and Korean.  For JSON the estimate from bytes was 16 % too low.  The older cl100k_base needs more tokens: twice
the estimate for Greek and Hebrew.
"""

_PER_MESSAGE: Final = 4
"""Tokens that frame a message (OpenAI cookbook, "How to count tokens with tiktoken": 3, and 1 for the role)."""

_PER_ATTACHMENT: Final = 1_600
"""Maximum tokens of an image (docs.anthropic.com, "Vision"; platform.openai.com, "Images and vision": 1,536).

Newer models count more tokens for the largest images.  Sounds, videos and documents of several pages also have more
tokens: a counter does not know their length.
"""


class TokenCount(NamedTuple):
    """The result of a token counter.

    Attributes:
        tokens: Number of tokens.
        exact: Whether the provider counts the same number; False: an estimate.
    """

    tokens: int
    exact: bool


class TokenCounter(Protocol):
    """A callable that counts the tokens of messages for a model."""

    def __call__(self, messages: Sequence[Message], *, model: str | None) -> TokenCount:
        """Return the number of tokens of messages.

        Args:
            messages: The messages.
            model: The name of the model; None: unknown.
        """
        ...


def count_texts(messages: Sequence[Message], tokens: Callable[[str], int]) -> TokenCount:
    """Count the tokens of messages with a function that counts the tokens of a text.

    Tool calls and unknown entries count as JSON.  Each message adds 4 tokens.  Each image, sound, video or file adds
    1,600 tokens; its encoded data is not counted.  The count is an estimate, because each provider encodes tool calls
    and attachments differently.

    Args:
        messages: The messages.
        tokens: Returns the number of tokens of a text.
    """
    count = _PER_MESSAGE * len(messages)
    for message in messages:
        if message.is_plain:  # the fast path, for most messages
            count += tokens(message.text)
            continue
        texts, attachments = content_of(message)
        count += sum([tokens(paired(text)) for text in texts]) + _PER_ATTACHMENT * attachments
    return TokenCount(count, exact=False)


def estimate(messages: Sequence[Message], *, model: str | None = None) -> TokenCount:  # noqa: ARG001 - for any model
    """Estimate the tokens of messages with `count_texts`: one token for every four bytes of text in UTF-8.

    Args:
        messages: The messages.
        model: Ignored: the estimate is the same for every model.
    """
    return count_texts(messages, _estimate)


def _estimate(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode())
    return -(-size // _BYTES_PER_TOKEN)
