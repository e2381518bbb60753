"""File names for sessions."""

from __future__ import annotations

from hashlib import sha256

from ..values.key import Key


def file_key(key: Key) -> str:
    """Return a file name for a session.  Different keys have different names, on every file system.

    The name is 32 hexadecimal digits of the SHA-256 of the namespace, a hyphen, and 32 of the namespace with the
    session id.  File systems ignore case, forbid characters and limit lengths; digests avoid all three.  The names of
    one namespace share their first 32 characters.
    """
    namespace = key.namespace.encode()
    whole = b"%d:%b%b" % (len(namespace), namespace, key.session.encode())
    return f"{sha256(namespace).hexdigest()[:32]}-{sha256(whole).hexdigest()[:32]}"
