"""Compression as a layer: `layers=zstd`, `layers=gzip`, and `layers=off`, which writes plain and reads what they wrote.

Payload to payload: a record says in its envelope how it is written, so records of every codec stand side by side in one
session, and each of the three layers reads them all.  Old turns are sealed, many in one record, and compress better so.
"""

from __future__ import annotations

from ._gzip import GzipLayer
from ._layer import CompressionLayer
from ._off import OffLayer
from ._recompressing import Recompressed

__all__ = ["CompressionLayer", "GzipLayer", "OffLayer", "Recompressed"]
