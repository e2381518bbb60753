"""Which instance a session belongs to, for who routes requests in Python."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from turnlog.errors import InvalidInput


def choose(session_id: str, instances: Iterable[str]) -> str:
    """The instance that serves a session: the same for all who know the same instances, in whatever order.

    By rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): each
    instance draws a number for the session, and the highest wins.  When one leaves only its sessions move, evenly to
    the others; when one comes it takes its share, evenly from all.

    Args:
        session_id: Which session.
        instances: Their names, such as `host:port`; at least one.

    Raises:
        InvalidInput: There is none.
    """
    session = session_id.encode()
    chosen, highest = "", (b"", "")
    for instance in instances:
        drawn = blake2b(session, key=blake2b(instance.encode(), digest_size=32).digest(), digest_size=8).digest()
        if (drawn, instance) > highest:
            chosen, highest = instance, (drawn, instance)
    if not highest[0]:
        raise InvalidInput("there are no instances to choose from")
    return chosen
