"""Why a server refuses what turnlog asks it, for messages."""

from __future__ import annotations

from typing import Final

from turnlog.runtime import Reason

NO_DATABASE: Final = Reason("there is no such database", "create it, or set another one in the URL")
NO_PERMISSION: Final = Reason("the server denies permission", "grant it to the user in the URL")
DENIED: Final = Reason("the server denies access", "set the right user and password in the URL, before the host")
