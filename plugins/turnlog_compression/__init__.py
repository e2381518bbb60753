"""Compression as a layer: `layers=zstd`, `layers=gzip`, and `layers=off`, which writes plain and reads both.

The envelope of a record names its codec, so one session may hold records of every codec, and each of the three layers
reads them all.  Old turns are sealed, many in one record, because they compress better together.
"""

from __future__ import annotations

from ._gzip import GzipLayer
from ._layer import CompressionLayer
from ._off import OffLayer
from ._recompressing import Recompressed

__all__ = ["CompressionLayer", "GzipLayer", "OffLayer", "Recompressed"]
