"""`OffLayer`: reads compressed records after compression was turned off."""

from __future__ import annotations

from typing import ClassVar

from turnlog import Backend
from turnlog.payload import PLAIN

from ._codec import Codec
from ._layer import CompressionLayer


class _Plain(Codec):
    id = PLAIN
    slow: ClassVar[int] = 1 << 62

    def compress(self, body: bytes) -> bytes:
        return body

    def __str__(self) -> str:
        return "plain"


class OffLayer(CompressionLayer):
    """A layer that writes plain records and reads the records of every compression layer.

    Args:
        inner: The backend to wrap.

    Raises:
        InvalidInput: A layer in `inner` must be outside of this one.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner, _Plain(), seal=False)
