"""The SQL backends: `sqlite:///path`, `postgresql://host/database` and `mysql://host/database`.

Each database has a module, which imports its driver: `turnlog_sql.sqlite.SQLiteBackend`,
`turnlog_sql.postgresql.PostgreSQLBackend` and `turnlog_sql.mysql.MySQLBackend`.
"""

__all__: list[str] = []
