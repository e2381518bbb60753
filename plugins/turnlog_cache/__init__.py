"""Caching as a layer: `layers=cache` keeps the turns of recent sessions in this process, decoded.

With session affinity the process that serves a session has read and written most of it before.  Affinity is a hint
about load and never a lock: a deploy, a retry or a new instance breaks it.  So the store stays the judge of what is
current, by version, and what is kept here is never older than it may be.
"""

from __future__ import annotations

from ._affinity import choose
from ._layer import CacheLayer, CacheStats

__all__ = ["CacheLayer", "CacheStats", "choose"]
