"""The SQL backend meets the contract on PostgreSQL."""

from __future__ import annotations

from sql_places import OverPostgreSQL, keeps_every_byte
from turnlog import Store


class TestPostgreSQL(OverPostgreSQL):
    """The SQL backend on PostgreSQL."""

    async def test_every_byte_of_a_payload(self, store: Store) -> None:
        await keeps_every_byte(store)
