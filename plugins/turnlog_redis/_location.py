"""`Location`: a server, a master that sentinels watch, or a cluster, with the settings of connections to it."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection

from turnlog.config import URL, parse_url
from turnlog.errors import InvalidInput
from turnlog.runtime import SSLMode, tls_context

from ._encrypted import EncryptedConnection

Address: TypeAlias = "tuple[str, int]"
Requires: TypeAlias = Literal["required", "none"]
Kind: TypeAlias = Literal["server", "sentinel", "cluster"]

_OWN: Final[dict[str, Any]] = {"retry": None, "socket_timeout": None, "protocol": 2}  # `RetryingServer` retries
_TAKEN: Final = (
    re.compile(  # settings of a caller's client; the others belong to its pool, or `SharedConnection` replaces them
        "username|password|credential_provider|client_name|driver_info|lib_name|lib_version|db|path|host|port|"
        "socket_connect_timeout|socket_keepalive|socket_keepalive_options|socket_type|ssl_.*"
    )
)
_MODES: Final[dict[Requires, SSLMode]] = {"required": "verify-full", "none": "require"}
_EXAMPLE: Final = "write redis://user:password@host:6379/0"


class Location(NamedTuple):
    """A server, a master that sentinels watch, or a cluster."""

    name: str
    """The name in messages, without a password."""
    kind: Kind
    addresses: tuple[Address, ...]
    """The server, its sentinels, or some nodes of the cluster; empty for a Unix socket."""
    maker: type[AbstractConnection]
    """The class of connections to servers."""
    settings: dict[str, Any]
    """The arguments of connections to servers."""
    sentinel: tuple[type[AbstractConnection], dict[str, Any]]
    """The class and the arguments of connections to sentinels."""
    service: str
    """The name of the master, for sentinels."""

    def connection(self, address: Address | None) -> AbstractConnection:
        """Return an unopened connection to a server; None: the only server."""
        return self.maker(**self.settings, **_at(address), **_OWN)

    def sentinel_connection(self, address: Address) -> AbstractConnection:
        """Return an unopened connection to a sentinel."""
        maker, settings = self.sentinel
        return maker(**settings, **_at(address), **_OWN)

    @property
    def authenticates(self) -> bool:
        """Whether connections to servers authenticate."""
        known = ("password", "credential_provider", "ssl_certfile")
        return any(self.settings.get(name) is not None for name in known)


def _at(address: Address | None) -> dict[str, Any]:
    return {} if address is None else {"host": address[0], "port": address[1]}


def location_of_url(
    url: str,
    *,
    service: str,
    db: int | None,
    mode: SSLMode | None,
    root: str | None,
    password: str | None = None,
    reqs: Requires | None = None,
) -> Location:
    """Return the location of a URL.

    Args:
        url: The URL, without a query.
        service: The name of the master, for sentinels.
        db: The number of the database, if the URL has none.
        mode: The TLS mode; None: `verify-full` with `rediss`, otherwise `disable`.
        root: As in `tls_context`.
        password: The password, if the URL has none.
        reqs: The option `ssl_cert_reqs`.

    Raises:
        InvalidInput: The URL is malformed, or an option contradicts it.  The message does not contain the URL.
    """
    found = parse_url(url).with_password(password)
    if found.scheme not in (*_ENCRYPTED, "unix") or found.driver not in (("",) if found.scheme == "unix" else _KINDS):
        raise InvalidInput(
            "url must begin with redis://, redis+sentinel:// or redis+cluster://, with rediss for TLS, with valkey or "
            "valkeys in their place, or with unix://"
        )
    if found.query:
        raise InvalidInput("url has a query: pass options by keyword, or pass the whole URL to open_store")
    settings: dict[str, Any] = {"username": found.username, "password": found.password or None}
    if found.scheme == "unix":
        if mode not in (None, "disable") or root is not None or reqs is not None:
            raise InvalidInput("sslmode has no effect with unix://, which does not use the network: leave it out")
        if found.hosts or not found.path:
            raise InvalidInput("the URL names no socket: write unix:///path/to/socket")
        settings |= {"path": found.path, "db": _database("", db)}
        name = f"redis {settings['path']}/{settings['db']}"
        return Location(name, "server", (), UnixDomainSocketConnection, settings, (Connection, {}), service)
    kind = _KINDS[found.driver]
    addresses = _addresses(found, 26379 if kind == "sentinel" else 6379)
    if kind == "server" and len(addresses) != 1:
        raise InvalidInput("url has several hosts: write redis+sentinel:// or redis+cluster://")
    settings["db"] = _database(found.database.strip("/"), db)
    if kind == "cluster" and settings["db"]:
        raise InvalidInput("a cluster has one database, 0: leave the number out")
    maker, encrypts = _encryption(found.scheme, mode, root, reqs)
    name = f"redis {','.join(map(written, addresses))}/{settings['db']}"
    return Location(name, kind, addresses, maker, settings | encrypts, (maker, encrypts), service)


_ENCRYPTED: Final = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}
_KINDS: Final[dict[str, Kind]] = {"": "server", "sentinel": "sentinel", "cluster": "cluster"}


def _addresses(url: URL, default: int) -> tuple[Address, ...]:
    hosts = url.hosts or (("", None),)
    return tuple((host or "localhost", port or default) for host, port in hosts)


def _database(path: str, db: int | None) -> int:
    if db is not None and (type(db) is not int or db < 0):
        raise InvalidInput(f"db must be a whole number of at least 0, not {db!r}")
    if db is not None and path:
        raise InvalidInput("db is given twice, in the URL after the host as well: remove one of them")
    if not re.fullmatch("[0-9]{0,9}", path):
        raise InvalidInput(f"the URL must have the number of a database, or nothing, after the host: {_EXAMPLE}")
    return int(path or db or 0)


def _encryption(
    scheme: str, mode: SSLMode | None, root: str | None, reqs: Requires | None
) -> tuple[type[Connection], dict[str, Any]]:
    encrypted = _ENCRYPTED[scheme]
    if reqs is not None:
        if mode is not None or not encrypted:
            raise InvalidInput("ssl_cert_reqs needs rediss://, and no sslmode next to it: remove one of them")
        mode = _MODES[reqs]
    if mode == "prefer":
        raise InvalidInput(
            "sslmode prefer is not available, because a port of Redis either uses TLS or not: write redis:// or rediss://"
        )
    if encrypted and mode == "disable":
        raise InvalidInput(
            "sslmode is 'disable', but the url requests TLS: for a connection without TLS, write redis://"
        )
    context = tls_context(mode or ("verify-full" if encrypted else "disable"), root)
    return (Connection, {}) if context is None else (EncryptedConnection, {"context": context})


def location_of_client(client: object) -> Location:
    """Return the location and the settings of a caller's client.

    Raises:
        InvalidInput: The client is not one of redis-py's asynchronous clients.
    """
    if isinstance(client, RedisCluster):
        given = client.get_connection_kwargs()
        nodes = tuple((node.host, int(node.port)) for node in client.startup_nodes)
        maker: type[AbstractConnection] = given.get("connection_class") or Connection
        return _taken("cluster", nodes, maker, given, (Connection, {}), "")
    if not isinstance(client, Redis):
        raise InvalidInput(f"client must be a redis.asyncio.Redis or RedisCluster, not {type(client).__name__}")
    pool = client.connection_pool
    given = pool.connection_kwargs
    if isinstance(pool, SentinelConnectionPool):
        pools = [sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]
        sentinels = tuple((one.connection_kwargs["host"], int(one.connection_kwargs["port"])) for one in pools)
        how = pools[0].connection_class, _settings(pools[0].connection_kwargs)
        maker = SSLConnection if issubclass(pool.connection_class, SSLConnection) else Connection
        return _taken("sentinel", sentinels, maker, given, how, pool.service_name)
    if issubclass(pool.connection_class, SentinelManagedConnection):
        raise InvalidInput(
            "client has sentinel connections without a sentinel pool: create it with Sentinel.master_for"
        )
    local = given.get("path") is not None
    where = () if local else ((given.get("host", "localhost"), int(given.get("port", 6379))),)
    return _taken("server", where, pool.connection_class, given, (Connection, {}), "")


def _taken(
    kind: Kind,
    addresses: tuple[Address, ...],
    maker: type[AbstractConnection],
    given: dict[str, Any],
    sentinel: tuple[type[AbstractConnection], dict[str, Any]],
    service: str,
) -> Location:
    where = ",".join(map(written, addresses)) or given["path"]
    path = {"path": given["path"]} if not addresses else {}
    settings = _settings(given) | path
    return Location(f"redis {where}/{given.get('db') or 0}", kind, addresses, maker, settings, sentinel, service)


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in given.items()
        if _TAKEN.fullmatch(name) and name not in ("host", "port", "path") and value is not None
    }


def written(address: Address) -> str:
    """Return an address in the form of a URL."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
