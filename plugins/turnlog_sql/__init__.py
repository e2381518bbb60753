"""The SQL store: sessions in a database; SQLite, the embedded default."""

from __future__ import annotations

from ._store import SQLStore

__all__ = ["SQLStore"]
