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
        InvalidInput: There is none, or something is no text.
    """
    if type(instances) is str:
        raise InvalidInput(f"instances are several: put {instances!r} into [ ]")
    session = blake2b(_bytes(session_id, "session id"), digest_size=32).digest()
    drawn = [(blake2b(session + _bytes(name, "instance"), digest_size=8).digest(), name) for name in instances]
    if not drawn:
        raise InvalidInput("there are no instances to choose from")
    return max(drawn)[1]


def _bytes(value: str, name: str) -> bytes:
    try:
        return value.encode()
    except AttributeError:
        raise InvalidInput(f"{name} must be a str, not {type(value).__name__}") from None
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} {value!a} holds a lone surrogate: it is no text") from None
