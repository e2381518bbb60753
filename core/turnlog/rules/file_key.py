"""File names for sessions."""

from __future__ import annotations

from hashlib import sha256

from ..values.key import Key


def file_key(key: Key) -> str:
    """Return a file name for a session: no two keys share one, on any file system, whatever characters they hold.

    32 hexadecimal digits of the SHA-256 of the namespace, and as many of namespace and session id: names keep no case,
    may not hold every character and are at most 255 bytes, so they are digested; sessions of one namespace begin alike.
    """
    namespace = key.namespace.encode()
    whole = b"%d:%b%b" % (len(namespace), namespace, key.session.encode())
    return f"{sha256(namespace).hexdigest()[:32]}-{sha256(whole).hexdigest()[:32]}"
