"""A layer for turnlog that encrypts messages with AES-256-GCM (NIST SP 800-38D), from the package cryptography.

Each record is bound to its session and its name, so nobody can move it to another place without a key.
"""

import os
from base64 import b64decode
from binascii import Error
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from turnlog import Backend, Key, PayloadLayer
from turnlog.errors import ConfigError

_KEY_BYTES: Final = 32  # AES-256
_NONCE_BYTES: Final = 12  # SP 800-38D, 8.2: a random nonce allows 2**32 records for each key
_NAME_BYTES: Final = 4  # the name of a key in a record, so that old keys are found


class AESGCMLayer(PayloadLayer):
    """Encrypts the messages of each record.

    Not encrypted are ids, owners, times, sizes, metadata and digests of the last 64 changes.

    Args:
        inner: The backend to wrap.
        key_file: A file with one key per line, 32 random bytes in base64.  The first key encrypts, and all decrypt.  To
            change the key, insert a new first line; remove an old line when no record needs it.

    Raises:
        ConfigError: The file cannot be read, or a line is not a key.
    """

    plugin_api = 1
    position = "encryption"
    codec = 200

    def __init__(self, inner: Backend, *, key_file: str) -> None:
        super().__init__(inner)
        keys = _read_keys(Path(key_file))
        self._ciphers = {_name_of(key): AESGCM(key) for key in keys}
        self._newest = _name_of(keys[0])

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._newest].encrypt(nonce, payload, _place(key, record_id))
        return self._newest + nonce + sealed

    def decode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        name, nonce = payload[:_NAME_BYTES], payload[_NAME_BYTES : _NAME_BYTES + _NONCE_BYTES]
        if name not in self._ciphers:
            raise ValueError("its key is not in the key file: add the key that was removed")
        try:
            return self._ciphers[name].decrypt(nonce, payload[_NAME_BYTES + _NONCE_BYTES :], _place(key, record_id))
        except InvalidTag:
            raise ValueError("its bytes were changed, or it was moved from another session") from None


def _place(key: Key, record_id: str) -> bytes:
    """Return a record's place as bytes that no other place has: each part with its length."""
    parts = [part.encode() for part in (key.namespace, key.session, record_id)]
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _name_of(key: bytes) -> bytes:
    return sha256(b"turnlog-aesgcm" + key).digest()[:_NAME_BYTES]


def _read_keys(path: Path) -> list[bytes]:
    how = "write one with: python -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"
    try:
        lines = [line for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        keys = [b64decode(line, validate=True) for line in lines]
    except (OSError, Error, UnicodeDecodeError) as error:
        raise ConfigError(f"key_file {str(path)!r}: {type(error).__name__}: {how}") from None
    if not keys or any(len(key) != _KEY_BYTES for key in keys):
        raise ConfigError(f"key_file {str(path)!r} must hold keys of {_KEY_BYTES} bytes in base64, one per line: {how}")
    return keys
