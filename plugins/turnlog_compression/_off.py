"""The layer that stays when compression is given up."""

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
    """Writes plain, and reads what the other compression layers wrote.

    Args:
        inner: The backend to wrap.

    Raises:
        InvalidInput: A cache or another compression layer is below.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner, _Plain(), seal=False)
