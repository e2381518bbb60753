"""The SQL backend meets the short contract on PostgreSQL through pgbouncer."""

from __future__ import annotations

from further_ways import FurtherWay
from sql_places import OverPgBouncer


class TestPgBouncer(FurtherWay):
    """The short contract: the PostgreSQL tests cover the statements, these tests cover the connection through
    pgbouncer.
    """

    below = OverPgBouncer
