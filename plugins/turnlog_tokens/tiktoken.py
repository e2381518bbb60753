"""`TiktokenCounter`: the token counter for models of OpenAI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import tiktoken

from turnlog import InvalidInput, Message, TokenCount
from turnlog.errors import ConfigError
from turnlog.pipeline import count_texts

__all__ = ["TiktokenCounter"]

_NEWEST: Final = "o200k_base"
"""The encoding of the current models (`tiktoken.model.MODEL_TO_ENCODING`)."""


class TiktokenCounter:
    """A token counter that encodes texts with tiktoken; it counts other content like `turnlog.pipeline.count_texts`.

    tiktoken downloads the vocabulary of an encoding on first use.  It keeps the file in the folder TIKTOKEN_CACHE_DIR,
    by default in the temporary folder.  The constructor loads the encoding, so a missing vocabulary is reported early.

    Args:
        encoding: The encoding of every text, or its name, such as `o200k_base`.  None: the encoding of the model that
            is named in the call; o200k_base if the call names no model, or one that tiktoken does not know.

    Raises:
        InvalidInput: tiktoken has no such encoding.
        ConfigError: The vocabulary is not in the cache and cannot be downloaded.  A call that names a model with
            another encoding may also raise it.
    """

    def __init__(self, encoding: str | tiktoken.Encoding | None = None) -> None:
        self._fixed = encoding is not None
        name = _NEWEST if encoding is None else encoding
        self._encoding = name if isinstance(name, tiktoken.Encoding) else _loaded(name)

    def __call__(self, messages: Sequence[Message], *, model: str | None) -> TokenCount:
        """Return the number of tokens of the messages, never as an exact count.

        Args:
            messages: The messages.
            model: OpenAI's name of the model; None: unknown.
        """
        encoding = self._encoding if self._fixed or model is None else self._of(model)
        return count_texts(messages, lambda text: len(encoding.encode_ordinary(text)))

    def _of(self, model: str) -> tiktoken.Encoding:
        try:
            name = tiktoken.encoding_name_for_model(model)
        except KeyError:
            return self._encoding
        return _loaded(name)


def _loaded(name: str) -> tiktoken.Encoding:
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise InvalidInput(f"encoding must be one of tiktoken's, {', '.join(sorted(known))}, not {name!r}")
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # no network, an unreadable file, or a file with another checksum
        raise ConfigError(
            f"tiktoken cannot load the vocabulary {name} ({type(error).__name__}), which it downloads on first "
            "use. On a machine with access to the network, set TIKTOKEN_CACHE_DIR to an empty folder and run: "
            f"python -c \"import tiktoken; tiktoken.get_encoding('{name}')\". Copy the folder to this machine and set "
            "TIKTOKEN_CACHE_DIR to it, or use the token counter 'estimate'."
        ) from error
