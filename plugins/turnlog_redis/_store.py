"""`RedisBackend`: the backend for Redis and Valkey."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, Final

from redis.asyncio import Redis, RedisCluster

from turnlog import (
    AccessError,
    Backend,
    Change,
    Expect,
    Key,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    Totals,
    Version,
)
from turnlog.errors import InvalidInput
from turnlog.rules import page_of_all
from turnlog.runtime import BoundedMap, PerLoop, SSLMode
from turnlog.values import Capability, Finding, Remainder, check_listing, check_read

from . import _layout, _scripts, _upkeep
from ._commit import Commit
from ._commit_plan import Seen
from ._connection import Command
from ._delete import delete
from ._layout import keys_of
from ._location import Requires, location_of_client, location_of_url
from ._pages import Pages
from ._read import Read
from ._retry import RetryingServer
from ._seal import seal
from ._sweep import sweep
from ._totals import totals
from ._writer import Waiting, Writer

_SEEN: Final = 4_096  # the number of sessions whose last seen header is kept; each takes about a kilobyte


class RedisBackend(Backend):
    """Sessions in Redis, for many processes, with one key per session and usually one round trip per operation.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://...` with TLS, `unix:///path/to/socket`,
            `redis+sentinel://host:26379,host2:26379/0`, `redis+cluster://host:6379,host2:6379`, or the latter two with
            `rediss+`; None: pass a `client`.  `valkey` and `valkeys` mean the same as `redis` and `rediss`.
        ttl: As in `Backend`; measured by the server's clock.
        password: The password of the servers, if the URL has none.
        timeout: Limit of the duration of an operation in seconds.  After it, the operation raises `Unavailable` or
            `OutcomeUnknown`.  A connection attempt takes at most 5 of these seconds.
        db: The number of the database, if the URL has none; None: 0.
        service: The name of the master that the sentinels watch.
        sslmode: As in `tls_context`, without `prefer`; only `verify-full` is safe against an attacker in the network.
            None: `verify-full` with `rediss://`, and `disable` otherwise.
        sslrootcert: As in `tls_context`.
        ssl_cert_reqs: The name of two modes in redis-py, with `rediss://`: `required` is `verify-full`, and `none` is
            `require`.
        client: A client whose settings the backend uses instead of a URL.  The backend opens its own connections, and
            does not close the client.
        clock: The time of turns; the server's clock sets the times of sessions.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    capabilities: frozenset[Capability] = frozenset({"shared", "threads", "processes", "durable", "server_clock"})

    def __init__(
        self,
        url: str | None = None,
        *,
        ttl: float | None = None,
        password: str | None = None,
        timeout: float = 30.0,
        db: int | None = None,
        service: str = "mymaster",
        sslmode: SSLMode | None = None,
        sslrootcert: str | None = None,
        ssl_cert_reqs: Requires | None = None,
        client: Redis | RedisCluster | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(ttl=ttl, clock=clock)
        if type(timeout) not in (int, float) or not 0 < timeout <= 3600:
            raise InvalidInput(f"timeout must be a number of seconds greater than 0, at most 3600, not {timeout!r}")
        if (url is None) == (client is None):
            raise InvalidInput("RedisBackend needs either a url or a client, not both")
        if url is not None:
            location = location_of_url(
                url,
                service=service,
                db=db,
                mode=sslmode,
                root=sslrootcert,
                password=password,
                reqs=ssl_cert_reqs,
            )
        elif {password, db, sslmode, sslrootcert, ssl_cert_reqs} != {None}:
            raise InvalidInput(
                "db, password, sslmode, sslrootcert and ssl_cert_reqs cannot be combined with client: set them in the "
                "client"
            )
        else:
            location = location_of_client(client)
        self._server = RetryingServer(location, float(timeout))
        self._writers: PerLoop[Writer] = PerLoop(lambda: Writer(self._server))
        self._seen: BoundedMap[Key, Seen] = BoundedMap(_SEEN)
        self._pages = Pages(self._server, self._seen)
        self._closed = True

    instead: ClassVar[Mapping[str, str]] = {
        "decode_responses": "leave it out",
        "family": "leave it out",
        "health_check_interval": "leave it out",
        "master_name": "write service",
        "max_connections": "leave it out: the tasks of an event loop share a connection",
        "protocol": "leave it out",
        "sentinel_master": "write service",
        "service_name": "write service",
        "socket_connect_timeout": "write timeout, which limits each operation and its connecting",
        "socket_timeout": "write timeout, which limits each operation and its connecting",
        "ssl": "write rediss:// in place of redis://",
        "ssl_ca_certs": "write sslrootcert",
        "ssl_check_hostname": "write sslmode=verify-ca",
        "username": "write the user into the URL, before the host",
    }
    """Options of other programs, and what to write in their place."""

    async def open(self) -> None:
        await super().open()
        self._server.open()
        try:
            # a key of each bucket: one node of a cluster refuses the slots of the others
            buckets = [_layout.namespaces_of(bucket)[0] for bucket in range(_layout.BUCKETS)]
            asked: list[Command] = [(b"EXISTS", name) for name in buckets]
            asked += [
                _scripts.RIGHTS.call((name,), ("",)) for name in (buckets if self._pages.is_spread else buckets[:1])
            ]
            answers = await self._server.ask_all(asked)
            self._check_rights({name for denied in answers[len(buckets) :] for name in denied})
            await _upkeep.warn(self._server)
        except BaseException:
            await self.close()
            raise

    def _check_rights(self, answer: Collection[bytes]) -> None:
        """Refuse a user that may call only some of the commands of a change: the server does not undo the others."""
        denied = _scripts.denied_amid_changes(answer)
        if denied:
            lacks, grant = ", ".join(denied), " ".join(f"+{name}" for name in denied)
            raise AccessError(
                f"{self._server.location.name}: the user may write, but may not call {lacks}, which changes need as "
                f"well: nothing was done; grant it to the user in the URL: {grant}"
            )

    async def close(self) -> None:
        await super().close()
        await self._server.close()
        self._seen.clear()

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        check_read(last, before, since)
        keys, sliding = (
            keys_of(key.namespace, key.session.encode()),
            (_layout.ttl_text(self.ttl), "1" if touch else "0"),
        )
        return await Read(
            self._server, self._seen, key, keys, last, before, since, sliding, self._server.deadline()
        ).run()

    async def commit(self, key: Key, change: Change) -> Receipt:
        for record in change.append:
            _ = record.payload  # raises for a record over the limit, before any I/O
        keys, hashed = keys_of(key.namespace, key.session.encode()), _layout.change_hash(change.id)
        server, seen, writer = self._server, self._seen, await self._writers.get()
        return await Commit(
            server, seen, writer, key, keys, change, hashed, self.ttl, server.deadline(), Waiting(change)
        ).run()

    @asynccontextmanager
    async def alone(self, key: Key) -> AsyncGenerator[None, None]:
        writer = await self._writers.get()
        async with writer.alone(key):
            yield

    async def seal(self, key: Key, record: Record) -> bool:
        done = await seal(self._server, key, record)
        self._seen.pop(key, None)
        return done

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        done = await delete(self._server, key, expect, for_owner)
        while done is None:
            async with self.alone(key):
                done = await delete(self._server, key, expect, for_owner)
        self._seen.pop(key, None)
        return done

    async def page(self, query: Query) -> Page:
        if query.namespace is None:
            return await page_of_all(self.namespaces, self.page, query)
        return await self._pages.page(query)

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        check_listing(after, limit)
        return await self._pages.namespaces(after, limit)

    async def totals(self, namespace: str) -> Totals:
        return await totals(self._server, namespace)

    async def sweep(self, *, now: bool = False) -> int:  # noqa: ARG002 - sessions expire by the server's clock
        """Remove the index entries of expired sessions in all namespaces, with their ids and owners.

        The server has removed the sessions already.  Each script reads about 100 entries.

        Args:
            now: Has no effect: sessions expire by the server's clock.

        Returns:
            The number of removed entries.

        Raises:
            Unavailable: The server could not be reached.
        """
        self.check_open()
        return await sweep(self._server)

    async def scrub(self) -> Sequence[Remainder]:
        """Return the remains of deleted sessions on the server; only its administrator can remove them."""
        self.check_open()
        return await _upkeep.remainders(self._server)

    async def diagnose(self) -> Sequence[Finding]:
        """Return the settings of the server that put sessions at risk."""
        self.check_open()
        return await _upkeep.findings(self._server)

    @property
    def location(self) -> str:
        place = self._server.location
        return f"{place.name}, master {place.service}" if place.kind == "sentinel" else place.name

    def __repr__(self) -> str:
        return f"<RedisBackend {self._server.location.name}>"
