"""The backend for Redis and Valkey: `redis://host:6379/0`, `rediss://` with TLS, `unix:///path`."""

from __future__ import annotations

from ._store import RedisBackend

__all__ = ["RedisBackend"]
