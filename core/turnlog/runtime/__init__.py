"""Tools for plugins that talk to servers: one resource per event loop, locks, TLS, keepalive, API keys, a bounded map.

`import turnlog` does not import this package, because it needs `asyncio` and `ssl`.
"""

from __future__ import annotations

from .api_keys import check_api_key
from .bounded import BoundedMap
from .installed import check_installed
from .keepalive import IDLE, PROBE, REACH, keep_alive
from .locks import Gate, KeyedLocks
from .per_loop import PerLoop
from .tls import SSLMode, tls_context
from .unreachable import Reason, why_unreachable

__all__ = [
    "IDLE",
    "PROBE",
    "REACH",
    "BoundedMap",
    "Gate",
    "KeyedLocks",
    "PerLoop",
    "Reason",
    "SSLMode",
    "check_api_key",
    "check_installed",
    "keep_alive",
    "tls_context",
    "why_unreachable",
]
