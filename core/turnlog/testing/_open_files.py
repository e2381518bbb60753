"""The number of open files, to show that none stays open."""

from __future__ import annotations

import os
from typing import Final

_OPEN_FILES: Final = "/proc/self/fd"  # Linux


def open_files() -> int:
    """Return the number of open files and connections of this process; 0 if the system does not show it."""
    return len(os.listdir(_OPEN_FILES)) if os.path.isdir(_OPEN_FILES) else 0
