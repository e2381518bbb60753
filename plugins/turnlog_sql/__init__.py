"""The SQL backends: `sqlite:///path`, `postgresql://host/database` and `mysql://host/database`.

Each database is a module of its own, which imports its driver: `turnlog_sql.sqlite.SQLiteBackend`,
`turnlog_sql.postgresql.PostgreSQLBackend` and `turnlog_sql.mysql.MySQLBackend`.
"""

__all__: list[str] = []
