"""The inspector: pages that show the conversations of a store (extra `inspect`).

`turnlog inspect` serves them on loopback.  `inspector` returns them as an application, to mount in another one.
"""

from __future__ import annotations

from ._app import inspector
from ._visit import Authorize

__all__ = ["Authorize", "inspector"]
