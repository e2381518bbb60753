"""A cache layer: `layers=cache` keeps the decoded turns of recent sessions in this process.

With session affinity, the process that serves a session has already read or written most of it.  Affinity only reduces
load and is not a lock: a deploy, a retry or a new instance breaks it.  The backend therefore decides by version whether
an entry is current, and no answer is older than the mode allows.
"""

from __future__ import annotations

from ._affinity import choose
from ._layer import CacheLayer, CacheStats

__all__ = ["CacheLayer", "CacheStats", "choose"]
