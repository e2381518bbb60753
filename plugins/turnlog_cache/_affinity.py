"""Session affinity: choose the instance that serves a session, for routers written in Python."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from turnlog.errors import InvalidInput


def choose(session_id: str, instances: Iterable[str]) -> str:
    """Return the instance that serves a session.

    Every caller that passes the same instances gets the same answer; their order has no effect.  The method is
    rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): a hash of the
    session and the name of the instance gives each instance a number, and the highest number wins.  If an instance is
    removed, only its sessions move, evenly to the others.  If an instance is added, it receives an even share of the
    sessions of each other instance.

    Args:
        session_id: The session.
        instances: The names of the instances, such as `host:port`; at least one.

    Raises:
        InvalidInput: `instances` is empty or a single text, or a value is not text.
    """
    if type(instances) is str:
        raise InvalidInput(f"instances must be a list of names, not a str: write [{instances!r}]")
    session = blake2b(_bytes(session_id, "session id"), digest_size=32).digest()
    drawn = [(blake2b(session + _bytes(name, "instance"), digest_size=8).digest(), name) for name in instances]
    if not drawn:
        raise InvalidInput("instances is empty: pass the name of at least one instance")
    return max(drawn)[1]


def _bytes(value: str, name: str) -> bytes:
    try:
        return value.encode()
    except AttributeError:
        raise InvalidInput(f"{name} must be a str, not {type(value).__name__}") from None
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} {value!a} contains a lone surrogate, which UTF-8 cannot encode") from None
