"""The SQL backend keeps the contract on PostgreSQL."""

from __future__ import annotations

from sql_places import EveryByte, OverPostgreSQL


class TestPostgreSQL(OverPostgreSQL, EveryByte):
    """The SQL backend on PostgreSQL."""
