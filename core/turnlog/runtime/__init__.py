"""Tools for backends on a server: one resource per event loop, a TLS context, and a bounded map.

`import turnlog` does not import this package, which needs `asyncio` and `ssl`.
"""

from __future__ import annotations

from .bounded import BoundedMap
from .per_loop import PerLoop
from .tls import SSLMode, tls_context

__all__ = ["BoundedMap", "PerLoop", "SSLMode", "tls_context"]
