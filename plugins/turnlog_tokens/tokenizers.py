"""`TokenizersCounter`: the token counter for models with a tokenizer file, such as those on the Hugging Face Hub."""

from __future__ import annotations

import os
from collections.abc import Sequence

import tokenizers

from turnlog import InvalidInput, Message, TokenCount
from turnlog.pipeline import count_texts

__all__ = ["TokenizersCounter"]


class TokenizersCounter:
    """A token counter that encodes texts with a tokenizer; it counts other content like `turnlog.pipeline.count_texts`.

    Args:
        tokenizer: A tokenizer, or the path of a `tokenizer.json`.

    Raises:
        InvalidInput: The file cannot be read, or the tokenizer truncates or pads texts.
    """

    def __init__(self, tokenizer: str | os.PathLike[str] | tokenizers.Tokenizer) -> None:
        if not isinstance(tokenizer, tokenizers.Tokenizer):
            tokenizer = _read(os.fspath(tokenizer))
        elif tokenizer.truncation is not None or tokenizer.padding is not None:
            raise InvalidInput(
                "tokenizer must not truncate or pad texts, because this would change the count: call its "
                "no_truncation() and no_padding()"
            )
        self._tokenizer = tokenizer

    def __call__(self, messages: Sequence[Message], *, model: str | None) -> TokenCount:  # noqa: ARG002 - one tokenizer
        """Return the number of tokens of the messages, never as an exact count.

        Args:
            messages: The messages.
            model: Ignored: the tokenizer belongs to one model.
        """
        return count_texts(messages, self._length)

    def _length(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _read(path: str) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # from_file raises only this class
        raise InvalidInput(f"tokenizer {path!r} is not the path of a readable tokenizer.json: {error}") from error
    tokenizer.no_truncation()  # a tokenizer.json holds the settings of its training
    tokenizer.no_padding()
    return tokenizer
