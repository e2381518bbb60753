"""`turnlog new-backend` and `turnlog new-layer`: write a distribution with a plugin that passes the kit at once."""

from __future__ import annotations

from ._project import new_project

__all__ = ["new_project"]
