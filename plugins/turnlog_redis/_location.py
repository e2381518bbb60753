"""Who to connect to: a server, the master that sentinels name, or the nodes of a cluster."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection

from turnlog.errors import InvalidInput

from ._tls import EncryptedConnection, SSLMode, context

Address: TypeAlias = "tuple[str, int]"
Kind: TypeAlias = Literal["server", "sentinel", "cluster"]

_OWN: Final[dict[str, Any]] = {
    "retry": None,
    "socket_timeout": None,
    "protocol": 2,
}  # one layer sends again, and that is ours
_TAKEN: Final = re.compile(  # of a caller's client; the rest is its pool's, or what our link does in its own way
    "username|password|credential_provider|client_name|driver_info|lib_name|lib_version|db|path|host|port|"
    "socket_connect_timeout|socket_keepalive|socket_keepalive_options|socket_type|ssl_.*"
)
_HOST: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?")
_WRITE: Final = "write redis://user:password@host:6379/0"


class Place(NamedTuple):
    """Where sessions are."""

    name: str
    """What messages call it; without a password."""
    kind: Kind
    addresses: tuple[Address, ...]
    """Of the server, of its sentinels, or of some nodes of the cluster; of a socket in the file system, none."""
    maker: type[AbstractConnection]
    settings: dict[str, Any]
    """What the servers are connected to with."""
    sentinel: tuple[type[AbstractConnection], dict[str, Any]]
    """The same of the sentinels."""
    service: str
    """What the sentinels call the master."""

    def connection(self, address: Address | None) -> AbstractConnection:
        """One to a server, not connected yet; None: the only one."""
        return self.maker(**self.settings, **_at(address), **_OWN)

    def to_sentinel(self, address: Address) -> AbstractConnection:
        """One to a sentinel, not connected yet."""
        maker, settings = self.sentinel
        return maker(**settings, **_at(address), **_OWN)

    @property
    def authenticates(self) -> bool:
        """Whether the servers are told who this is."""
        known = ("password", "credential_provider", "ssl_certfile")
        return any(self.settings.get(name) is not None for name in known)


def _at(address: Address | None) -> dict[str, Any]:
    return {} if address is None else {"host": address[0], "port": address[1]}


def place_of_url(url: str, *, service: str, db: int | None, mode: SSLMode | None, root: str | None) -> Place:
    """The place that a URL names.

    Raises:
        InvalidInput: It cannot be read, or something else in contradiction to it.  The message holds no piece of it: it
            may be the password.
    """
    if not isinstance(url, str):
        raise InvalidInput(f"url must be a str, not {type(url).__name__}")
    try:
        found = urlsplit(url)
    except ValueError:
        raise InvalidInput(f"url cannot be read: {_WRITE}") from None
    scheme, _, plus = found.scheme.partition("+")
    if scheme not in ("redis", "rediss", "unix") or plus not in (("",) if scheme == "unix" else _KINDS):
        raise InvalidInput(
            "url must begin with redis://, redis+sentinel:// or redis+cluster://, with rediss for TLS, or with unix://"
        )
    if found.query or found.fragment:
        raise InvalidInput("url has a query: give options by keyword, or the whole URL to open_store")
    user, _, hosts = found.netloc.rpartition("@")
    username, _, password = (unquote(part) for part in user.partition(":"))
    settings: dict[str, Any] = {"username": username or None, "password": password or None}
    if scheme == "unix":
        if mode not in (None, "disable") or root is not None:
            raise InvalidInput("sslmode is of no use with unix://: nobody else can listen")
        if hosts or not found.path:
            raise InvalidInput("url cannot be read: write unix:///path/to/socket")
        settings |= {"path": unquote(found.path), "db": _database("", db)}
        name = f"redis {settings['path']}/{settings['db']}"
        return Place(name, "server", (), UnixDomainSocketConnection, settings, (Connection, {}), service)
    kind = _KINDS[plus]
    addresses = _addresses(hosts, 26379 if kind == "sentinel" else 6379)
    if kind == "server" and len(addresses) != 1:
        raise InvalidInput("url has several hosts: write redis+sentinel:// or redis+cluster://")
    settings["db"] = _database(found.path.strip("/"), db)
    if kind == "cluster" and settings["db"]:
        raise InvalidInput("a cluster has one database, 0: leave the number out")
    maker, encrypts = _encryption(scheme, mode, root)
    name = f"redis {','.join(map(written, addresses))}/{settings['db']}"
    return Place(name, kind, addresses, maker, settings | encrypts, (maker, encrypts), service)


_KINDS: Final[dict[str, Kind]] = {"": "server", "sentinel": "sentinel", "cluster": "cluster"}


def _addresses(hosts: str, port: int) -> tuple[Address, ...]:
    found = [_HOST.fullmatch(host) for host in (hosts or "localhost").split(",")]
    read = tuple((unquote(one[1] or one[2]), int(one[3] or port)) for one in found if one is not None)
    if len(read) != len(found) or not all(0 < number < 65_536 for _, number in read):
        raise InvalidInput(f"url cannot be read: {_WRITE}")
    return read


def _database(path: str, db: int | None) -> int:
    if db is not None and (path or type(db) is not int or db < 0):
        raise InvalidInput("db must be an int from 0 up, and stand in the URL or beside it, not in both")
    if not re.fullmatch("[0-9]{0,9}", path):
        raise InvalidInput(f"url cannot be read: what follows the host is the number of a database: {_WRITE}")
    return int(path or db or 0)


def _encryption(scheme: str, mode: SSLMode | None, root: str | None) -> tuple[type[Connection], dict[str, Any]]:
    if scheme == "rediss" and mode == "disable":
        raise InvalidInput("sslmode is disable, and the url asks for TLS: write redis:// without it")
    made = context(mode or ("verify-full" if scheme == "rediss" else "disable"), root)
    return (Connection, {}) if made is None else (EncryptedConnection, {"context": made})


def place_of_client(client: object) -> Place:
    """The place that a client of the caller's own is for, with its settings.

    Raises:
        InvalidInput: It is no such client.
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
        raise InvalidInput("client has connections of a sentinel without its pool: take Sentinel.master_for")
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
) -> Place:
    where = ",".join(map(written, addresses)) or given["path"]
    path = {"path": given["path"]} if not addresses else {}
    settings = _settings(given) | path
    return Place(f"redis {where}/{given.get('db') or 0}", kind, addresses, maker, settings, sentinel, service)


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in given.items()
        if _TAKEN.fullmatch(name) and name not in ("host", "port", "path") and value is not None
    }


def written(address: Address) -> str:
    """An address as it stands in a URL."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
