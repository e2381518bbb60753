"""A stand-in for MySQL 8: it authenticates with `caching_sha2_password`, and a MariaDB answers everything after that.

No package has a MySQL 8 for the tests, and MariaDB 10.11 lacks this plugin.  The stand-in speaks the authentication as
MySQL documents it: dev.mysql.com/doc/dev/mysql-server/latest/page_caching_sha2_authentication_exchanges.html.  It logs
in to MariaDB with the client's own capabilities and with `mysql_native_password`, and then forwards all bytes.
"""

from __future__ import annotations

import hashlib
import secrets
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from asyncmy.auth import scramble_native_password
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_PLUGIN: Final = b"caching_sha2_password"
_VERSION: Final = b"8.4.0-stand-in"

# The capabilities, as in dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html
_SSL: Final = 1 << 11
_LENENC_AUTH: Final = 1 << 21

# The packets of the exchange, without their headers.
_FAST_OK: Final = b"\x01\x03"
_FULL: Final = b"\x01\x04"
_ASK_KEY: Final = b"\x02"


class Sha2Server:
    """A server for one account, whose name, password and database are those in the URL of the MariaDB.

    Args:
        behind: The URL of the MariaDB.
        tls: The files of a certificate and its key, to offer TLS; None: no TLS.
        switches: Whether the server first offers another plugin, and then switches to `plugin`.
        plugin: The plugin that a switch names; one that the driver does not know ends the login.
    """

    def __init__(
        self, behind: str, *, tls: tuple[str, str] | None = None, switches: bool = False, plugin: bytes = _PLUGIN
    ) -> None:
        url = urlsplit(behind)
        self._behind = (url.hostname or "", url.port or 3306)
        self._user = unquote(url.username or "").encode()
        self._password = unquote(url.password or "").encode()
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._switches = switches
        self._plugin = plugin
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(*tls)
        self.ways: list[str] = []
        """The ways of the authentications so far: `fast`, `rsa`, `tls` or `refused`."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url._replace(netloc=f"{url.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}").geturl()
        """The URL of this server."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port of this server."""
        return int(self._listener.getsockname()[1])

    def stop(self) -> None:
        """Accept no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the end of the listener
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with ExitStack() as places, suppress(OSError, EOFError):
            places.enter_context(client)
            server = places.enter_context(socket.create_connection(self._behind))
            greeting = _receive(server)[1]
            salt = secrets.token_bytes(20).replace(b"\0", b"x").replace(b"$", b"x")
            _send(client, 0, self._greeting(greeting, salt))
            number, answer = _receive(client)
            if struct.unpack("<I", answer[:4])[0] & _SSL:
                assert self._context is not None
                client = places.enter_context(self._context.wrap_socket(client, server_side=True))
                number, answer = _receive(client)
            user, scrambled, login = _parsed(answer)
            if self._switches:
                _send(client, number + 1, b"\xfe" + self._plugin + b"\0" + salt + b"\0")
                number, scrambled = _receive(client)
            way, number = self._way(client, number, salt, scrambled)
            self.ways.append(way)
            if way == "refused" or user != self._user:
                text = b"#28000Access denied for user '%s'@'localhost' (using password: YES)" % user
                _send(client, number + 1, b"\xff" + struct.pack("<H", 1045) + text)
                return
            native = scramble_native_password(self._password, _salt_of(greeting))  # type: ignore[no-untyped-call]
            _send(server, 1, login(native))
            _send(client, number + 1, _receive(server)[1])
            _forward(client, server)

    def _greeting(self, greeting: bytes, salt: bytes) -> bytes:
        """Return MariaDB's greeting with the version, the salt, the plugin and the capabilities of this server."""
        end = greeting.index(b"\0", 1)
        fields = bytearray(greeting[end + 1 :])  # thread id, 8 bytes of the salt, 0, and so on
        fields[4:12], fields[31:43] = salt[:8], salt[8:]
        offered = struct.unpack("<H", fields[13:15])[0] & ~_SSL | (_SSL if self._context else 0)
        fields[13:15] = struct.pack("<H", offered)
        fields[27:31] = bytes(4)  # the capabilities that only MariaDB has
        plugin = b"mysql_native_password" if self._switches else _PLUGIN
        return b"\x0a" + _VERSION + b"\0" + bytes(fields[:44]) + plugin + b"\0"

    def _way(self, client: socket.socket, number: int, salt: bytes, scrambled: bytes) -> tuple[str, int]:
        """Check the password; return the way of the check, and the number of the last packet."""
        knows = "rsa" in self.ways or "tls" in self.ways  # then the server has kept a hash of the password
        if knows and scrambled == _scramble(self._password, salt):
            _send(client, number + 1, _FAST_OK)
            return "fast", number + 1
        if not scrambled:
            return "refused", number
        _send(client, number + 1, _FULL)
        number, packet = _receive(client)
        if isinstance(client, ssl.SSLSocket):
            return "tls" if packet == self._password + b"\0" else "refused", number
        assert packet == _ASK_KEY
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _send(client, number + 1, b"\x01" + public)
        number, packet = _receive(client)
        plain = self._key.decrypt(packet, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))  # noqa: S303 - the protocol demands it
        found = bytes(byte ^ salt[place % len(salt)] for place, byte in enumerate(plain))
        return "rsa" if found == self._password + b"\0" else "refused", number


def _scramble(password: bytes, salt: bytes) -> bytes:
    """Return XOR(SHA256(password), SHA256(SHA256(SHA256(password)), salt))."""
    once = hashlib.sha256(password).digest()
    mask = hashlib.sha256(hashlib.sha256(once).digest() + salt).digest()
    return bytes(left ^ right for left, right in zip(once, mask, strict=True))


def _salt_of(greeting: bytes) -> bytes:
    start = greeting.index(b"\0", 1) + 5
    return greeting[start : start + 8] + greeting[start + 27 : start + 39]


def _parsed(answer: bytes) -> tuple[bytes, bytes, Callable[[bytes], bytes]]:
    """Return the user and the scrambled password of a login, and a function that makes it a login to MariaDB."""
    flags = struct.unpack("<I", answer[:4])[0]
    assert flags & _LENENC_AUTH
    user, rest = answer[32:].split(b"\0", 1)
    length = rest[0]  # less than 251, so that it is one byte
    scrambled, rest = rest[1 : 1 + length], rest[1 + length :]
    database, rest = rest.split(b"\0", 1)
    _, attributes = rest.split(b"\0", 1)

    def login(native: bytes) -> bytes:
        head = struct.pack("<I", flags & ~_SSL) + answer[4:32]
        names = database + b"\0mysql_native_password\0"
        return head + user + b"\0" + bytes([len(native)]) + native + names + attributes

    return user, scrambled, login


def _receive(place: socket.socket) -> tuple[int, bytes]:
    """Return the number and the payload of a packet."""
    head = _read(place, 4)
    return head[3], _read(place, int.from_bytes(head[:3], "little"))


def _read(place: socket.socket, size: int) -> bytes:
    """Read exactly this many bytes: the next ones may belong to the handshake of TLS."""
    found = b""
    while len(found) < size:
        more = place.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def _send(place: socket.socket, number: int, payload: bytes) -> None:
    place.sendall(len(payload).to_bytes(3, "little") + bytes([number]) + payload)


def _forward(client: socket.socket, server: socket.socket) -> None:
    """Forward all bytes until one side closes its connection."""
    while True:
        pending = isinstance(client, ssl.SSLSocket) and client.pending()
        ready: list[Any] = [client] if pending else select.select([client, server], [], [])[0]
        for place in ready:
            data = place.recv(1 << 16)
            if not data:
                return
            (server if place is client else client).sendall(data)
