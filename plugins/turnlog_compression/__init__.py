"""Compression layers: `layers=zstd`, `layers=gzip`, and `layers=off`, which writes plain records and reads all codecs.

The envelope of a record names its codec.  One session may therefore hold records of several codecs, and each of the
three layers reads all of them.  Many old turns are sealed in one record, because they compress better together.
"""

from __future__ import annotations

from ._gzip import GzipLayer
from ._layer import CompressionLayer
from ._off import OffLayer
from ._recompressing import Recompressed

__all__ = ["CompressionLayer", "GzipLayer", "OffLayer", "Recompressed"]
