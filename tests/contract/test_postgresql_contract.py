"""The SQL store keeps the contract on PostgreSQL."""

from __future__ import annotations

from sql_places import EveryByte, OverPostgreSQL


class TestPostgreSQLStore(OverPostgreSQL, EveryByte):
    """The SQL store on PostgreSQL."""
