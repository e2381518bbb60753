"""What only reads makes no file."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote

from turnlog import Unavailable

_FILE: Final = re.compile(r"sqlite:///([^?]+).*", re.IGNORECASE)


def check_file(url: str | None) -> None:
    """Refuse the URL of an SQLite file that is not there: opening the store would make it, with nothing in it.

    Args:
        url: As `--store` gives it, and as `open_store` has accepted it; None: what the configuration names, which is
            not looked up here.

    Raises:
        Unavailable: There is no such file.
    """
    found = _FILE.fullmatch(url or "")
    if found is not None and not os.path.exists(path := unquote(found[1])):
        raise Unavailable(f"there is no file {path!r}: a chat or an import makes it")
