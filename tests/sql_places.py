"""A database for each test of the SQL store, on each server."""

from __future__ import annotations

from typing import Any

import servers


def emptied_postgresql() -> str:
    """The URL of a PostgreSQL without a session in it."""
    url = servers.postgresql()
    servers.run(_empty_postgresql(url))
    return url


async def _empty_postgresql(url: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relname LIKE 'turnlog\\_%' AND relkind = 'r'"
        )
        for (table,) in tables:
            if table != "turnlog_schema":
                await connection.execute(f"DELETE FROM {table}")
    finally:
        await connection.close()


async def advance(store: Any, seconds: float) -> None:
    """Let time pass for a store whose server has the clock: what it would have expired by then, now has."""
    statement = f"UPDATE turnlog_sessions SET expires = expires - {seconds!r} WHERE expires IS NOT NULL"
    database = store._database
    await database.with_connection(lambda connection: database.fetch(connection, statement, ()))
