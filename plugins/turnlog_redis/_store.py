"""`RedisBackend`: the backend for Redis and Valkey."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import msgspec
from redis.asyncio import Redis, RedisCluster

from turnlog import (
    AccessError,
    Backend,
    Change,
    CorruptRecord,
    Expect,
    Key,
    OutcomeUnknown,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    SessionInfo,
    Totals,
    Unavailable,
    Version,
)
from turnlog.errors import InvalidInput, TurnlogError
from turnlog.rules import (
    NOTHING,
    Header,
    Remembered,
    check_delete,
    check_seal,
    check_whole,
    fits,
    missing,
    needs,
    page_of,
    page_of_all,
    regressed,
    window,
)
from turnlog.runtime import BoundedMap, PerLoop, SSLMode
from turnlog.values import Capability, Finding, Remainder, check_listing, check_read

from . import _layout, _scripts, _upkeep
from ._commit_plan import CommitPlan, Seen, commit_plan, receipt_of
from ._connection import Argument, Command
from ._layout import Keys, keys_of
from ._location import Requires, location_of_client, location_of_url
from ._retry import RetryingServer
from ._scripts import Script
from ._writer import Waiting, Writer

_SEEN: Final = 4_096  # the number of sessions whose last seen header is kept; each takes about a kilobyte
_NO_CHANGE: Final = b""


_AT_ONCE: Final = 500
"""Number of sessions that one script counts: other clients wait for one or two milliseconds."""
_LOOKED: Final = 10
"""Number of most recent entries, for each requested session, in which a page looks for a prefix.  If they are not
enough, the page scans the whole indexes."""
_SCANNED: Final = 1_000
"""Number of entries that the server reads in one `ZSCAN`: other clients wait for about a millisecond."""
_SWEPT: Final = 100  # the number of entries that one script sweeps, and of indexes in one round trip
_EVERY: Final = 16  # the memory of every 16th session is measured


Entry: TypeAlias = tuple[float, bytes, bytes]
"""An entry of an index: the time, the session id, and the whole member."""


class _Part(NamedTuple):
    """The uncounted part of a bucket's index."""

    bucket: int
    many: int
    """Approximate number of entries that are left."""
    top: Argument = "+inf"
    """The score of the last counted entry."""
    skip: int = 0
    """Number of counted entries with this score."""


class _Job(msgspec.Struct, gc=False):
    """The commit of a change."""

    key: Key
    keys: Keys
    change: Change
    hashed: bytes
    """The hash of the change."""
    writer: Writer
    until: float
    """The deadline of the operation."""
    waiting: Waiting
    """The change while it waits for its turn."""
    sure: bool = False
    """Whether the session was read for this change; if not, the header was seen earlier."""
    together: bool = True
    """Whether changes of other tasks may be committed together with it."""
    done: Receipt | None = None
    """The receipt, if the session remembers the change."""


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
        self._timeout = float(timeout)
        self._server = RetryingServer(location, self._timeout)
        self._writers: PerLoop[Writer] = PerLoop(lambda: Writer(location.name))
        self._seen: BoundedMap[Key, Seen] = BoundedMap(_SEEN)
        self._is_spread = location.kind == "cluster"  # over several servers
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
            asked += [_call(_scripts.RIGHTS, (name,), ("",)) for name in (buckets if self._is_spread else buckets[:1])]
            answers = await self._all(monotonic() + self._timeout, asked)
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

    # -------------------------------------------------------------------------------------------------------- reading

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
        keys, until = keys_of(key.namespace, key.session.encode()), monotonic() + self._timeout
        if before is None and since is None:
            session = await self._end(key, keys, until, last, touch=touch)
            if session is not None:
                return session
        known: tuple[Argument, ...] = (b"", 0, 0)
        if since is not None:
            known = (since.epoch, since.generation, since.rounds)
        answer = await self._run(
            until,
            _scripts.READ,
            (keys.session,),
            self._default_ttl,
            "1" if touch else "0",
            "" if last is None else last,
            "" if before is None else before,
            *known,
        )
        if answer is None:
            raise missing(key)
        raw, metadata, left, kind, rows = answer
        found = self._header(key, raw, metadata, left)
        self._seen[key] = Seen(found, raw, metadata)
        records = _layout.records_from(key, rows)
        continues = since is not None and _continues(found, since, kind, records)
        if kind == b"after" and continues:
            del records[0]  # this record ends at `since`
        elif last is not None and not continues:
            del records[: window(records, last)]
        check_whole(found, records, last, before, since if continues else None)
        return Session(found.info(0.0), tuple(records), continues)

    async def _end(self, key: Key, keys: Keys, until: float, last: int | None, *, touch: bool) -> Session | None:
        """Return the end of a session, or all of it; None if the two answers do not fit together.

        Two commands are sent in one round trip, because a script would copy every row once more.  Another writer may
        change the session between the commands, and turns may have fewer than two messages.  In both cases the caller
        runs `READ`, a single atomic step.
        """
        commands = [_call(_scripts.TOP, (keys.session,), (self._default_ttl, "1" if touch else "0"))]
        if last is None:
            commands.append((b"LRANGE", keys.session, _layout.RECORDS, -1))
        elif last:
            commands.append((b"LRANGE", keys.session, -self._expected_rows(key, last), -1))
        top, *rest = await self._all(until, commands)
        if top is None:
            raise missing(key)
        raw, metadata, left, length = top
        rows = rest[0] if rest else []
        if len(rows) > length - _layout.RECORDS:  # the first rows are not records
            del rows[: len(rows) - max(0, length - _layout.RECORDS)]
        found = self._header(key, raw, metadata, left)
        try:
            # if the script was sent again after another writer has appended, some rows may not be records
            records = _layout.records_from(key, rows)
            if last is not None:
                del records[: window(records, last)]
            check_whole(found, records, last, None, None)
        except CorruptRecord:
            return None
        self._seen[key] = Seen(found, raw, metadata)
        return Session(found.info(0.0), tuple(records))

    def _expected_rows(self, key: Key, last: int) -> int:
        """Return the number of records that probably hold the last messages of a session, as whole turns.

        It follows from the averages of the last seen header.  If no header was seen, a turn is assumed to be one record
        of a question and an answer.
        """
        seen = self._seen.get(key)
        if seen is None or not seen.header.messages_until:
            return (last + 1) // 2
        rounds, header = seen.header.version.rounds, seen.header
        return -(-last * rounds // header.messages_until) + (rounds - 1) // max(1, header.turns)

    def _header(self, key: Key, raw: bytes, metadata: bytes, left: int) -> Header:
        """Return the stored header; it is not decoded again if it has not changed."""
        seen = self._seen.get(key)
        if seen is None or seen.raw != raw or seen.metadata != metadata:
            return _layout.header_from(key, raw, metadata, left)
        return msgspec.structs.replace(seen.header, expires=_layout.expiry(left))

    # -------------------------------------------------------------------------------------------------------- writing

    async def commit(self, key: Key, change: Change) -> Receipt:
        for record in change.append:
            _ = record.payload  # raises for a record over the limit, before any I/O
        keys, hashed = keys_of(key.namespace, key.session.encode()), _layout.change_hash(change.id)
        writer, until = await self._writers.get(), monotonic() + self._timeout
        job = _Job(key, keys, change, hashed, writer, until, Waiting(change))
        turn = writer.turns.take(key) or await self._turn(job)
        if isinstance(turn, Receipt):
            return turn
        try:
            seen = self._seen.get(key)
            while not job.done:
                work = await self._plan(job, seen)
                if work is None:
                    seen = await self._look_again(job)
                    continue
                sent = monotonic()
                answer = await self._send(job, work)
                if answer[0] == b"stored":
                    return self._stored(job, work, seen, answer[1], answer[2])
                seen = await self._otherwise(job, work, seen, sent, answer)
        except TurnlogError as error:
            await self._pass(writer, key, until)
            if isinstance(error, AccessError | Unavailable) and job.waiting.sent:
                raise _unknown(job, str(error)) from error
            if isinstance(error, OutcomeUnknown):
                error.key, error.change = key, change
            raise
        else:
            return job.done
        finally:
            if turn:
                writer.turns.leave(key)

    async def _turn(self, job: _Job) -> Receipt | bool:
        """Wait until no other task of this event loop writes to the session, as `Turns.wait`."""
        try:
            return await job.writer.turns.wait(job.key, job.until, job.waiting)
        except Unavailable as error:
            if not job.waiting.sent:
                raise
            raise _unknown(job, f"{self._server.location.name}: no answer in time") from error

    async def _send(self, job: _Job, work: CommitPlan) -> list[Any]:
        """Run the script of a commit and return its answer.

        If the answer is lost, the changes of other tasks stay marked as sent: they may have been stored.
        """
        marked = [other.waiting for other in work.others if not other.waiting.sent]
        for waiting in marked:
            waiting.sent = True
        stored = True
        try:
            answer: list[Any] = await self._run(job.until, _scripts.COMMIT, work.keys, *work.arguments, writes=True)
            stored = answer[0] == b"stored"
        except (AccessError, Unavailable):
            stored = False
            raise
        finally:
            if not stored:
                for waiting in marked:
                    waiting.sent = False
        return answer

    async def _look_again(self, job: _Job) -> Seen | None:
        """Read the header of the session; set `job.done` if the session remembers the change."""
        seen, entry = await self._look(job.key, job.keys, job.until, job.hashed)
        job.sure = True
        if seen is not None and entry:
            job.done = await self._repeat(job, seen.header, entry)
        return seen

    async def _otherwise(
        self, job: _Job, work: CommitPlan, seen: Seen | None, sent: float, found: list[Any]
    ) -> Seen | None:
        """Return the last seen header after the script stored nothing; set `job.done` if the change is a repeat."""
        kind, *answer = found
        if kind == b"repeat":
            raw, left, entry = answer
            job.done = await self._repeat(job, _layout.header_from(job.key, raw, None, left), entry)
        elif kind == b"wait":
            await self._wait(answer[0], sent, job.until)
        elif kind == b"moved":
            job.writer.first.add(job.key)
            raw, left, metadata = answer
            seen, job.sure = _seen(job.key, raw, metadata, left), True
            await self._wait(0, sent, job.until)
        elif work.others:  # another change is a repeat, or all changes together are too large
            job.together = False
        else:
            before = 0 if seen is None else seen.header.bytes
            header = msgspec.structs.replace(work.todo.header, bytes=int(answer[0]))
            header.check_bytes(job.change.max_bytes, before)
        return seen

    def _stored(self, job: _Job, work: CommitPlan, seen: Seen | None, raw: bytes, left: int) -> Receipt:
        """Return the receipt of a stored change, and give the other tasks their receipts."""
        job.writer.first.discard(job.key)
        todo = work.others[-1].todo if work.others else work.todo
        after = _layout.completed(todo.header, raw, left)
        self._seen[job.key] = Seen(after, raw, work.metadata or (b"" if seen is None else seen.metadata))
        for other in work.others:
            if not other.turn.done():
                other.turn.set_result(receipt_of(other.todo, after))
        return receipt_of(work.todo, after)

    @asynccontextmanager
    async def alone(self, key: Key) -> AsyncGenerator[None, None]:
        writer, until = await self._writers.get(), monotonic() + self._timeout
        place = keys_of(key.namespace, key.session.encode()).session
        try:
            async with writer.turns.alone(key, until, Waiting(None)):
                ahead = 1
                while ahead:
                    sent = monotonic()
                    ahead = await self._run(until, _scripts.STAND, (place,), writer.name)
                    await self._wait(ahead, sent, until)
                writer.first.add(key)
                yield
                await self._pass(writer, key, until)
        except TurnlogError:
            await self._pass(writer, key, until)
            raise

    async def _wait(self, ahead: int, sent: float, until: float) -> None:
        """Wait until this writer is probably the first in a session's queue.

        Args:
            ahead: The number of writers before it in the queue; each needs about one round trip.
            sent: The time of its last request.
            until: The deadline of the operation.

        Raises:
            Unavailable: The answer to another request would arrive after the deadline.
        """
        now = monotonic()
        trip = now - sent
        if now + (ahead + 2) * trip > until:
            raise Unavailable(
                f"{self._server.location.name}: other writers used the session until the timeout: nothing was stored"
            )
        if ahead:
            await asyncio.sleep(ahead * trip)

    async def _pass(self, writer: Writer, key: Key, until: float) -> None:
        """Give up the first place in the queue; otherwise the next writer would wait for `LEASE`."""
        if key in writer.first:
            writer.first.discard(key)
            with suppress(TurnlogError):
                place = keys_of(key.namespace, key.session.encode()).session
                await self._run(until, _scripts.PASS, (place,), writer.name)

    async def _look(self, key: Key, keys: Keys, until: float, hashed: bytes) -> tuple[Seen | None, bytes]:
        """Return a session's header (None if the session does not exist), and the remembered change with a hash."""
        answer = await self._run(until, _scripts.LOOK, (keys.session,), hashed)
        if answer is None:
            return None, b""
        raw, metadata, left, entry = answer
        return Seen(_layout.header_from(key, raw, metadata, left), raw, metadata), entry

    async def _repeat(self, job: _Job, header: Header, entry: bytes) -> Receipt:
        """Return the receipt of a remembered change, and restart the session's time to live."""
        slid = header.slide(0.0, self.ttl)
        receipt = Remembered.unpack(header.key, entry).receipt(slid, job.change, 0.0)
        if slid is not header:
            await self._run(job.until, _scripts.TOP, (job.keys.session,), self._default_ttl, "1")
        return receipt

    async def _plan(self, job: _Job, seen: Seen | None) -> CommitPlan | None:
        """Return the plan of a commit; None if the header must be read first."""
        if seen is None and not job.sure:
            return None
        key, keys, change = job.key, job.keys, job.change
        try:
            near, elements = needs(key, None if seen is None else seen.header, change), None
            others = job.writer.turns.waiting(key) if near is NOTHING and job.together else []
            if near.keep is not None and seen is not None:
                there, elements, cut, row = await self._run(job.until, _scripts.AROUND, (keys.session,), near.keep)
                if there != seen.raw:
                    return None
                below = _layout.records_from(key, [row])[0] if row else None
                near = msgspec.structs.replace(near, below=below, cut=cut)
            return commit_plan(
                key, keys, change, job.hashed, seen, near, elements, others=others, ttl=self.ttl, writer=job.writer.name
            )
        except TurnlogError:
            if job.sure:  # if not, the header may be outdated, or the session may remember the change
                raise
            return None

    async def seal(self, key: Key, record: Record) -> bool:
        check_seal(key, record)
        keys, until = keys_of(key.namespace, key.session.encode()), monotonic() + self._timeout
        answer = await self._run(until, _scripts.READ, (keys.session,), "", "0", "", record.next_turn, "", 0, 0)
        if answer is None:
            raise missing(key)
        raw, metadata, left, _, rows = answer
        header = _layout.header_from(key, raw, metadata, left)
        run = _layout.records_from(key, rows)
        before = sum(one.number < record.number for one in run)
        del rows[:before], run[:before]
        if not fits(record, run, last=record.next_turn >= header.turns):
            return False
        ends = [_layout.head_of(rows[0]), _layout.head_of(rows[-1])]
        data = _layout.record_bytes(key, record.sealed_at(run[-1], record.size))
        arguments: list[Argument] = [*ends, len(rows), data, record.number]
        done = await self._run(until, _scripts.SEAL, (keys.session,), *arguments, writes=True)
        self._seen.pop(key, None)
        return bool(done)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        done = await self._delete(key, expect, for_owner)
        while done is None:
            async with self.alone(key):
                done = await self._delete(key, expect, for_owner)
        return done

    async def _delete(self, key: Key, expect: Expect, for_owner: str | None) -> bool | None:
        """Remove a session; return None if another writer has changed it after `_deletable`."""
        keys, until = keys_of(key.namespace, key.session.encode()), monotonic() + self._timeout
        raw = b""
        if expect is not None or for_owner is not None:
            found = await self._deletable(key, keys, until, expect, for_owner)
            if found is None:
                return False
            raw = found
        names, text = (keys.session, keys.listing), (raw, keys.member, keys.owners)
        answer = await self._run(until, _scripts.DELETE, names, *text, writes=True, again=False)
        if answer == 2:
            return None
        self._seen.pop(key, None)
        return bool(answer)

    async def _deletable(
        self, key: Key, keys: Keys, until: float, expect: Expect, for_owner: str | None
    ) -> bytes | None:
        """Return the element of the header if the session may be deleted; None if it does not exist for the caller.

        Raises:
            CorruptRecord: The session is damaged, so that its version or its owner cannot be compared.
        """
        answer = await self._run(until, _scripts.LOOK, (keys.session,), _NO_CHANGE)
        raw, _, left, _ = answer or (b"", b"", 0, b"")
        try:
            header = _layout.header_from(key, raw, None, left) if answer else None
        except CorruptRecord:
            owners = _layout.owners_of(key, raw)
            if expect is not None or len(owners) > 1:
                raise
            return raw if for_owner is not None and owners == {for_owner.encode()} else None
        return raw if check_delete(key, header, expect, for_owner, 0.0) else None

    # -------------------------------------------------------------------------------------------------------- listing

    async def page(self, query: Query) -> Page:
        if query.namespace is None:
            return await page_of_all(self.namespaces, self.page, query)
        indexes = _layout.indexes_of(query.one_namespace, query.owner)
        after = None if query.after is None else (query.after[0], query.after[1].encode())
        found: list[SessionInfo | CorruptRecord | None] = []
        until = monotonic() + self._timeout
        while True:
            wanted = query.limit + 1 - sum(isinstance(one, SessionInfo) for one in found)
            entries, seen = await self._entries(until, query, indexes, after, wanted)
            found += await self._listed(until, query, entries, seen) if entries else []
            page = page_of(query, found, is_last=len(entries) < wanted)
            if page is not None:
                return page
            after = entries[-1][:2]

    async def totals(self, namespace: str) -> Totals:
        namespace, until = Query(namespace=namespace).one_namespace, monotonic() + self._timeout
        indexes = _layout.indexes_of(namespace, None)
        entries = await self._all(until, [(b"ZCARD", index) for index in indexes])
        every = 1 if sum(entries) <= _AT_ONCE else _EVERY
        left = [_Part(bucket, many) for bucket, many in enumerate(entries) if many]
        sums = [0] * 6
        while left:
            parts = [left.pop()]
            while left and sum([part.many for part in parts]) + left[-1].many <= _AT_ONCE:
                parts.append(left.pop())
            commands = []
            for part in parts:
                prefix = _layout.prefix_of(part.bucket, namespace)
                commands.append(_call(_scripts.COUNT, (indexes[part.bucket],), (prefix, *part[2:], _AT_ONCE, every)))
            for part, (*found, read, last, ties) in zip(parts, await self._all(until, commands), strict=True):
                sums = [before + more for before, more in zip(sums, found, strict=True)]
                if read == _AT_ONCE:
                    left.append(_Part(part.bucket, max(1, part.many - read), last, ties))
        sessions, messages, size, sampled, memory, index = sums
        stored = None if sessions and not sampled else index + memory * sessions // max(sampled, 1)
        return Totals(sessions=sessions, messages=messages, bytes=size, stored=stored)

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        check_listing(after, limit)
        places = [_layout.namespaces_of(bucket) for bucket in range(_layout.BUCKETS)]
        start = "" if after is None else after
        commands = [_call(_scripts.NAMESPACES, (names,), (start, limit, index)) for names, index in places]
        answers = await self._all(monotonic() + self._timeout, commands)
        return [
            _layout.listed_namespace(name) for name in sorted({name for names in answers for name in names})[:limit]
        ]

    async def _entries(
        self,
        until: float,
        query: Query,
        indexes: Sequence[bytes],
        after: tuple[float, bytes] | None,
        many: int,
    ) -> tuple[list[Entry], dict[bytes, Any]]:
        """Return the next entries of all buckets that match the query, most recently updated first.

        Also return the answers of `LOOK` for some of the sessions, by their ids.

        Args:
            until: The deadline of the operation.
            query: The query.
            indexes: The index of each bucket.
            after: The time and the session of the entry before; None: from the beginning.
            many: The largest number of entries to return.
        """
        if not query.prefix:
            return await self._next(until, query, indexes, after, many)
        start = query.prefix.encode()
        found: list[Entry] = []
        seen: dict[bytes, Any] = {}
        begin = after
        for some in (many, _LOOKED * many):
            entries, read = await self._next(until, query, indexes, begin, some)
            found += [entry for entry in entries if entry[1].startswith(start)]
            seen |= read
            if len(found) >= many or len(entries) < some:
                return found[:many], seen
            begin = entries[-1][:2]
        found = [entry for entry in await self._scanned(until, indexes, start) if _is_after(entry, after)]
        return sorted(found, key=_order)[:many], {}

    async def _scanned(self, until: float, indexes: Sequence[bytes], start: bytes) -> list[Entry]:
        """Return all entries whose sessions begin with a prefix, in any order.

        The server reads the whole indexes, about `_SCANNED` entries in a command, and sends the found entries only.
        """
        pattern = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", start) + b"*"
        found: dict[bytes, Entry] = {}  # ZSCAN may return an entry twice
        left = [(index, b"0") for index in indexes]
        while left:
            commands = [(b"ZSCAN", index, cursor, b"MATCH", pattern, b"COUNT", _SCANNED) for index, cursor in left]
            answers = await self._all(until, commands)
            for _, reply in answers:
                found |= {member: _entry(member, score) for member, score in zip(reply[::2], reply[1::2], strict=True)}
            left = [(index, cursor) for (index, _), (cursor, _) in zip(left, answers, strict=True) if cursor != b"0"]
        return list(found.values())

    async def _next(
        self,
        until: float,
        query: Query,
        indexes: Sequence[bytes],
        after: tuple[float, bytes] | None,
        many: int,
    ) -> tuple[list[Entry], dict[bytes, Any]]:
        """Return the next entries of all buckets, with or without the prefix; as `_entries`."""
        some = min(many, many // 48 + 5)  # at least about three times the expected number of each bucket
        top = "+inf" if after is None else repr(after[0])
        found: list[Entry] = []
        seen: dict[bytes, Any] = {}
        asked = [(index, 0) for index in indexes]
        newest = await self._newest(until, query, indexes, (top, some, many))
        while asked:
            if newest is not None:
                asked = [(indexes[bucket], 0) for bucket, *_ in newest]
                replies = [entries for _, entries, *_ in newest]
            else:
                commands = [
                    (b"ZREVRANGEBYSCORE", index, top, "-inf", b"WITHSCORES", b"LIMIT", skip, some)
                    for index, skip in asked
                ]
                replies = await self._all(until, commands)
            more, least = [], []
            for number, ((index, skip), reply) in enumerate(zip(asked, replies, strict=True)):
                places = [_entry(member, score) for member, score in zip(reply[::2], reply[1::2], strict=True)]
                if newest is not None and len(newest[number]) > 2:
                    seen |= zip([session for _, session, _ in places], newest[number][2], strict=True)
                found += places if after is None else [place for place in places if _is_after(place, after)]
                if len(places) == some:
                    more.append((index, skip + some))
                    least.append(places[-1][0])
            newest = None
            found.sort(key=_order)
            reached = found[many - 1][0] if len(found) >= many else float("-inf")
            # if the last entry from a bucket is among those to return, the next entries of the bucket may be as well
            asked = [one for one, score in zip(more, least, strict=True) if score >= reached]
        return found[:many], seen

    async def _newest(
        self, until: float, query: Query, indexes: Sequence[bytes], arguments: tuple[Argument, ...]
    ) -> list[Any] | None:
        """Return the answer of `NEWEST`; None if the indexes are on several servers."""
        if self._is_spread:
            return None
        sessions = _layout.prefix_of(0, query.one_namespace).partition(b"}")[2]
        try:
            answer: list[Any] = await self._run(until, _scripts.NEWEST, indexes, *arguments, sessions)
        except Unavailable as error:
            if not str(error.__cause__).startswith("CROSSSLOT"):
                raise
            self._is_spread = True  # the server is a proxy for several servers
            return None
        return answer

    async def _listed(
        self,
        until: float,
        query: Query,
        entries: Sequence[Entry],
        seen: Mapping[bytes, Any],
    ) -> list[SessionInfo | CorruptRecord | None]:
        """Return the session of each entry: an error if it cannot be read, None if it does not exist any more.

        The entry of a session that does not exist is removed from the index.  An entry with a wrong time is corrected
        and reported.
        """
        namespace = query.one_namespace
        places = [keys_of(namespace, session) for _, session, _ in entries]
        seen = {**seen, **await self._look_at(until, [keys for keys in places if keys.member not in seen])}
        found: list[SessionInfo | CorruptRecord | None] = [None] * len(entries)
        stale = []
        for number, (score, session, _) in enumerate(entries):
            header, reply = None, seen[session]
            if reply is not None:
                try:
                    header = self._header(_layout.listed_key(namespace, session), *reply)
                except CorruptRecord as error:
                    found[number] = error
                    continue
            if header is None or header.updated != score:  # a session that has changed since has a newer entry
                stale.append((number, header))
            elif query.owner is None or header.owner == query.owner:
                found[number] = header.info(0.0)
        if stale:
            forget = [self._forget(query, *entries[number][1:], places[number]) for number, _ in stale]
            for done, (number, header) in zip(await self._all(until, forget), stale, strict=True):
                if done == _scripts.MOVED and header is not None:
                    text = "its index entry was damaged and has been repaired: list the sessions again"
                    found[number] = CorruptRecord(text, key=header.key)
        return found

    async def _look_at(self, until: float, places: Sequence[Keys]) -> dict[bytes, Any]:
        """Return the answers of `LOOK` by the session ids; each script reads sessions of one bucket."""
        buckets: dict[int, list[Keys]] = {}
        for keys in places:
            buckets.setdefault(keys.bucket, []).append(keys)
        parts = [
            some[start : start + _scripts.AT_ONCE]
            for some in buckets.values()
            for start in range(0, len(some), _scripts.AT_ONCE)
        ]
        commands = [_call(_scripts.LOOKS, [keys.session for keys in part], ()) for part in parts]
        answers = await self._all(until, commands) if commands else []
        return {
            keys.member: reply
            for part, replies in zip(parts, answers, strict=True)
            for keys, reply in zip(part, replies, strict=True)
        }

    @staticmethod
    def _forget(query: Query, session: bytes, member: bytes, keys: Keys) -> Command:
        index = _layout.index_of(keys.bucket, query.one_namespace, query.owner)
        arguments = (member, session, (query.owner or "").encode(), keys.owners)
        return _call(_scripts.FORGET, (keys.session, index, keys.listing), arguments)

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
        swept, left = 0, dict.fromkeys(range(_layout.BUCKETS), b"")
        while left:
            places = [(after, *_layout.namespaces_of(bucket)) for bucket, after in left.items()]
            commands = [_call(_scripts.NAMESPACES, (names,), (after, _SWEPT, index)) for after, names, index in places]
            answers = await self._all(monotonic() + self._timeout, commands)
            found = dict(zip(left, answers, strict=True))
            swept += await self._sweep([(bucket, name, b"0") for bucket, names in found.items() for name in names])
            left = {bucket: names[-1] for bucket, names in found.items() if len(names) == _SWEPT}
        return swept

    async def _sweep(self, parts: list[tuple[int, bytes, bytes]]) -> int:
        """Sweep indexes and return the number of removed entries.

        Args:
            parts: The bucket, the namespace and the start cursor of each index.
        """
        swept = 0
        while parts:
            some, parts = parts[:_SWEPT], parts[_SWEPT:]
            commands = []
            for bucket, name, cursor in some:
                namespace = _layout.listed_namespace(name)
                prefixes = _layout.prefix_of(bucket, namespace), _layout.owners_prefix_of(bucket, namespace)
                index = _layout.index_of(bucket, namespace, None)
                commands.append(_call(_scripts.SWEEP, (index,), (*prefixes, cursor, _SWEPT)))
            answers = await self._all(monotonic() + self._timeout, commands)
            for (bucket, name, _), (cursor, count) in zip(some, answers, strict=True):
                swept += count
                if cursor != b"0":
                    parts.append((bucket, name, cursor))
        return swept

    # ------------------------------------------------------------------------------------------------------ the server

    async def scrub(self) -> Sequence[Remainder]:
        """Return the remains of deleted sessions on the server; only its administrator can remove them."""
        self.check_open()
        return await _upkeep.remainders(self._server)

    async def diagnose(self) -> Sequence[Finding]:
        """Return the settings of the server that put sessions at risk."""
        self.check_open()
        return await _upkeep.findings(self._server)

    @property
    def _default_ttl(self) -> str:
        return "" if self.ttl is None else repr(self.ttl)

    async def _run(
        self,
        until: float,
        script: Script,
        keys: Sequence[bytes],
        *arguments: Argument,
        writes: bool = False,
        again: bool = True,
    ) -> Any:  # noqa: ANN401 - an answer of a script
        """Run a script and return its answer.

        Args:
            until: The deadline of the operation.
            script: The script.
            keys: Its keys.
            arguments: Its arguments.
            writes: Whether the script writes.
            again: Whether the script may run twice, because it writes nothing or recognizes a repeat.

        Raises:
            Unavailable: The script did not run.
            OutcomeUnknown: The answer was lost.
            CorruptRecord: The script found damage, or a key that is not a session's list.
        """
        (answer,) = await self._all(until, [_call(script, keys, arguments)], writes=writes, again=again)
        return answer

    async def _all(
        self, until: float, commands: Sequence[Command], *, writes: bool = False, again: bool = True
    ) -> list[Any]:
        """Send commands together and return their answers.  The arguments and errors are those of `_run`."""
        try:
            return await self._server.ask_all(commands, until, writes=writes, again=again)
        except Unavailable as error:
            said = str(error.__cause__)
            if said.startswith("WRONGTYPE") or _scripts.DAMAGED in said:
                key = _layout.key_of(commands[0][3])
                raise CorruptRecord("the session is damaged, or its key has another type of value", key=key) from error
            raise

    @property
    def location(self) -> str:
        place = self._server.location
        return f"{place.name}, master {place.service}" if place.kind == "sentinel" else place.name

    def __repr__(self) -> str:
        return f"<RedisBackend {self._server.location.name}>"


def _entry(member: bytes, score: bytes) -> Entry:
    return float(score), member.partition(b"\0")[0], member


def _order(entry: Entry) -> tuple[float, bytes]:
    return -entry[0], entry[1]


def _is_after(entry: Entry, after: tuple[float, bytes] | None) -> bool:
    return after is None or (-entry[0], entry[1]) > (-after[0], after[1])


def _call(script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Command:
    return (b"EVALSHA", script.sha, len(keys), *keys, *arguments)


def _unknown(job: _Job, said: str) -> OutcomeUnknown:
    """Return the error for a change that another task has sent, without an answer."""
    error = OutcomeUnknown(said)
    error.key, error.change = job.key, job.change
    return error


def _seen(key: Key, raw: bytes, metadata: bytes, left: int) -> Seen | None:
    return Seen(_layout.header_from(key, raw, metadata, left), raw, metadata) if raw else None


def _continues(header: Header, since: Version, kind: bytes, records: Sequence[Record]) -> bool:
    if not header.may_continue(since):
        return False
    if kind == b"after" and records[0].tip != since.tip:
        raise regressed(header.key, header.version, since)
    return kind in (b"same", b"all", b"after")
