"""The Redis store: `redis://host:6379/0`, `rediss://` with TLS, `unix:///path`; Valkey, too."""

from __future__ import annotations

from ._store import RedisBackend

__all__ = ["RedisBackend"]
