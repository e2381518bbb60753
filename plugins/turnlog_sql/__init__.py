"""The SQL store: `sqlite:///path`, `postgresql://host/database` and `mysql://host/database`.

Each database is a module of its own, which imports its driver: `turnlog_sql.sqlite.SQLiteStore`,
`turnlog_sql.postgresql.PostgreSQLStore` and `turnlog_sql.mysql.MySQLStore`.
"""

from __future__ import annotations

from ._store import SQLStore

__all__ = ["SQLStore"]
