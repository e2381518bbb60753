"""The Redis store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from redis.asyncio import Redis, RedisCluster

from turnlog import (
    Change,
    CorruptRecord,
    Key,
    OutcomeUnknown,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    SessionInfo,
    Store,
    Unavailable,
    Version,
)
from turnlog.errors import InvalidInput, TooLarge, TurnlogError
from turnlog.rules import Header, check_delete, check_whole, created_by, fits, missing, reused
from turnlog.runtime import BoundedMap, SSLMode
from turnlog.values import check_read

from . import _layout, _scripts, _server_warnings
from ._connection import Argument, Command
from ._layout import Keys, keys_of
from ._location import location_of_client, location_of_url
from ._retry import RetryingServer
from ._scripts import Script

_SEEN: Final = 4_096  # sessions that a commit need not look at first; about a kilobyte each
_TRIES: Final = 100  # so often another writer may come between a look and the commit that follows from it
_NO_CHANGE: Final = b""


class _Seen(NamedTuple):
    """A session as it was last seen: with it, a commit need not look first."""

    header: Header
    raw: bytes


class _Plan(NamedTuple):
    """What a commit asks of the server, and what follows from it."""

    header: Header
    number: int | None
    previous: Version | None
    keys: tuple[bytes, ...]
    arguments: list[Argument]


class RedisStore(Store):
    """Sessions in Redis, for many instances: one key a session, one round trip an operation.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://...` with TLS, `unix:///path/to/socket`,
            `redis+sentinel://host:26379,host2:26379/0`, `redis+cluster://host:6379,host2:6379`, or the latter two with
            `rediss+`; None: that of `client`.
        namespace: As in `Store`.
        ttl: As in `Store`; the server's clock counts it.
        retain: As in `Store`.
        max_session_bytes: As in `Store`.
        timeout: Seconds to wait for a connection, and for an answer; then it is `Unavailable`, or `OutcomeUnknown`.
        db: The number of the database, where the URL says none; None: 0.
        service: What the sentinels call the master.
        sslmode: `disable`, `require`, or `verify-full`, which is the one that cannot be listened to; None:
            `verify-full` with `rediss://`, and `disable` otherwise.
        sslrootcert: The file with the certificates that `verify-full` trusts; None: the system's.
        client: A client of the caller's own in place of a URL: connections are made with its settings.  None of its own
            is used, and it is not closed.
        clock: The time of turns; sessions' own times are the server's.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    can_seal = True

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str = "default",
        ttl: float | None = None,
        retain: int | None = None,
        max_session_bytes: int | None = None,
        timeout: float = 30.0,
        db: int | None = None,
        service: str = "mymaster",
        sslmode: SSLMode | None = None,
        sslrootcert: str | None = None,
        client: Redis | RedisCluster | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(namespace=namespace, ttl=ttl, retain=retain, max_session_bytes=max_session_bytes, clock=clock)
        if type(timeout) not in (int, float) or not 0 < timeout <= 3600:
            raise InvalidInput(f"timeout must be above 0 and up to 3600 seconds, not {timeout!r}")
        if (url is None) == (client is None):
            raise InvalidInput("url must be given, or client, and not both")
        if url is not None:
            location = location_of_url(url, service=service, db=db, mode=sslmode, root=sslrootcert)
        elif (db, sslmode, sslrootcert) != (None, None, None):
            raise InvalidInput("client has db and sslmode of its own: give them to it")
        else:
            location = location_of_client(client)
        self._server = RetryingServer(location, float(timeout), self.check_open)
        self._seen: BoundedMap[Key, _Seen] = BoundedMap(_SEEN)
        self._closed = True

    async def open(self) -> None:
        await super().open()
        try:
            await self._all([(b"PING",)])
            await _server_warnings.warn(self._server)
        except BaseException:
            await self.close()
            raise

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
        self.check_open()
        keys = keys_of(key.namespace, key.session.encode())
        if before is None and since is None:
            session = await self._end(key, keys, last, touch=touch)
            if session is not None:
                return session
        known: tuple[Argument, ...] = (b"", 0, 0)
        if since is not None:
            known = (since.epoch, since.generation, since.rounds)
        answer = await self._run(
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
        self._see(key, found, raw)
        records = _layout.records_from(key, rows)
        continues = since is not None and _continues(found, since, kind, records)
        if kind == b"after" and continues:
            del records[0]  # it ends where the reader is
        elif last is not None and not continues:
            records = _layout.trimmed(records, last)
        check_whole(found, records, last, before, since if continues else None)
        return Session(found.info(0.0), tuple(records), continues)

    async def _end(self, key: Key, keys: Keys, last: int | None, *, touch: bool) -> Session | None:
        """The end of a session, or all of it, by commands that copy nothing twice, as a script would.

        They travel together, but another's may come between them, and turns may hold fewer messages than they do as a
        rule: what does not fit together is not believed, the answer is None, and the script says how it is.
        """
        commands = [_call(_scripts.TOP, (keys.session,), (self._default_ttl, "1" if touch else "0"))]
        if last is None:
            commands.append((b"LRANGE", keys.session, _layout.RECORDS, -1))
        elif last:
            commands.append((b"LRANGE", keys.session, -((last + 1) // 2), -1))
        top, *rest = await self._all(commands)
        if top is None:
            raise missing(key)
        raw, metadata, left, length = top
        rows = rest[0] if rest else []
        if len(rows) > length - _layout.RECORDS:  # what stands before the records is none
            del rows[: len(rows) - max(0, length - _layout.RECORDS)]
        found = self._header(key, raw, metadata, left)
        try:
            # where the script was sent again, and turns came between, what stands before the records is among the rows
            records = _layout.records_from(key, rows)
            if last is not None:
                records = _layout.trimmed(records, last)
            check_whole(found, records, last, None, None)
        except CorruptRecord:
            return None
        self._see(key, found, raw)
        return Session(found.info(0.0), tuple(records))

    def _header(self, key: Key, raw: bytes, metadata: bytes, left: int) -> Header:
        """The header out of what is stored; one that is as it was last seen need not be read again."""
        seen = self._seen.get(key)
        if seen is None or seen.raw != raw:
            return _layout.header_from(key, raw, metadata, left)
        return _layout.completed(seen.header, raw, _layout.metadata_from(key, metadata), left)

    # -------------------------------------------------------------------------------------------------------- writing

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.check_open()
        for record in change.append if change.seal is None else (change.seal,):
            _ = record.payload  # what is too large is refused before any I/O
        _ = change.digest
        keys = keys_of(key.namespace, key.session.encode())
        if change.seal is not None:
            return await self._seal(key, keys, change.seal)
        seen, sure = self._seen.get(key), False
        if seen is None:
            seen, known = await self._look(key, keys, change)
            if known is not None:
                return known
            sure = True
        for _ in range(_TRIES):
            try:
                plan = await self._plan(key, keys, change, seen)
            except TurnlogError:
                if sure:
                    raise
                plan = None  # what was seen may be out of date
            if plan is None:
                seen, known = await self._look(key, keys, change)
                if known is not None:
                    return known
                sure = True
                continue
            try:
                answer = await self._run(_scripts.COMMIT, plan.keys, *plan.arguments, writes=True)
            except OutcomeUnknown as error:
                error.key, error.change = key, change
                raise
            kind = answer[0]
            if kind == b"stored":
                after = _layout.completed(plan.header, answer[1], plan.header.metadata, answer[2])
                self._see(key, after, answer[1])
                return after.receipt(0.0, after.version, plan.number, plan.previous)
            if kind == b"repeat":
                return _repeated(key, change, _layout.header_from(key, answer[1], None, answer[2]), answer[3])
            if kind == b"large":
                raise TooLarge(
                    f"session {key} would take {int(answer[1])} bytes, the limit is {change.max_bytes}: "
                    "retain fewer turns, or begin anew"
                )
            seen, sure = _seen(key, answer[1], answer[3], answer[2]), True
        raise Unavailable(f"{self._server.location.name}: others came first {_TRIES} times: nothing was stored")

    async def _look(self, key: Key, keys: Keys, change: Change) -> tuple[_Seen | None, Receipt | None]:
        """The session as it is, and the answer to a change that was made before."""
        hashed = _layout.change_hash(change.id)
        answer = await self._run(_scripts.LOOK, (keys.session,), hashed, self._default_ttl)
        if answer is None:
            return None, None
        raw, metadata, left, entry = answer
        header = _layout.header_from(key, raw, metadata, left)
        return _Seen(header, raw), _repeated(key, change, header, entry) if entry else None

    async def _plan(self, key: Key, keys: Keys, change: Change, seen: _Seen | None) -> _Plan | None:
        """What a change makes of a session, in the order of `SessionState.apply`; None, if it has moved meanwhile."""
        keep: int | None = None
        if seen is None:
            header, previous, raw = created_by(key, change, os.urandom(16), 0.0), None, b""
        else:
            header, previous, raw = seen.header, seen.header.version, seen.raw
            header.check(change.expect, turns=bool(change.append) or change.keep is not None)
        old = header.owner
        if change.keep is not None and change.keep < header.turns:
            if seen is None:
                header = header.cut(change.keep, None, 0, 0.0)
            else:
                there, keep, size, record = await self._run(_scripts.AROUND, (keys.session,), change.keep)
                if there != raw:
                    return None
                last = _layout.records_from(key, [record])[0] if record else None
                header = header.cut(change.keep, last, size, 0.0)
        placed: list[Record] = []
        if change.append:
            header, placed = header.extend(change, 0.0)
        described = change.metadata is not None or change.owner is not None or change.ttl is not None
        if described:
            header = header.describe(change, 0.0)
        drop = None
        if change.retain is not None and header.turns - change.retain > header.first:
            drop = header.turns - change.retain
        number = change.number_in(placed)
        entry = _layout.entry_bytes(change, header.version, number)
        metadata = _layout.metadata_bytes(header.metadata) if change.metadata is not None or seen is None else b""
        arguments: list[Argument] = [
            entry[:16],  # its hash
            raw,
            entry,
            _layout.header_bytes(header),
            "" if keep is None else keep,
            "" if drop is None else drop,
            "" if change.max_bytes is None else change.max_bytes,
            metadata,
            self._default_ttl,
            keys.member,
            old,
            header.owner,
            keys.prefix,
            keys.owners,
            *map(_layout.record_bytes, placed),
        ]
        owners = [
            _layout.index_of(keys.bucket, key.namespace, it) if it else keys.listing for it in (header.owner, old)
        ]
        return _Plan(header, number, previous, (keys.session, keys.listing, *owners), arguments)

    async def _seal(self, key: Key, keys: Keys, seal: Record) -> Receipt:
        answer = await self._run(_scripts.READ, (keys.session,), "", "0", "", seal.next_turn, "", 0, 0)
        if answer is None:
            raise missing(key)
        header = _layout.header_from(key, answer[0], answer[1], answer[2])
        rows = answer[4]
        run = _layout.records_from(key, rows)
        before = sum(record.number < seal.number for record in run)
        del rows[:before], run[:before]
        if fits(seal, run, last=seal.next_turn >= header.turns):
            sealed = msgspec.structs.replace(seal, messages_until=run[-1].messages_until)
            ends = [_layout.head_of(rows[0]), _layout.head_of(rows[-1])]
            data = _layout.record_bytes(sealed)
            await self._run(_scripts.SEAL, (keys.session,), *ends, len(rows), data, seal.number, writes=True)
            self._seen.pop(key, None)
        return header.receipt(0.0, header.version, None, header.version)

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        self.check_open()
        keys = keys_of(key.namespace, key.session.encode())
        while True:
            seen = None
            if expect is not None:
                answer = await self._run(_scripts.LOOK, (keys.session,), _NO_CHANGE, "")
                seen = None if answer is None else _seen(key, answer[0], answer[1], answer[2])
                check_delete(key, None if seen is None else seen.header, expect, 0.0)
            raw = b"" if seen is None else seen.raw
            answer = await self._run(
                _scripts.DELETE, (keys.session, keys.listing), raw, keys.member, keys.owners, writes=True, again=False
            )
            if answer != 2:  # or it has moved since the look
                self._seen.pop(key, None)
                return bool(answer)

    # -------------------------------------------------------------------------------------------------------- listing

    async def page(self, query: Query) -> Page:
        self.check_open()
        indexes = [_layout.index_of(bucket, query.namespace, query.owner) for bucket in range(_layout.BUCKETS)]
        after = None if query.after is None else (query.after[0], query.after[1].encode())
        infos: list[SessionInfo] = []
        more = True
        while more and len(infos) <= query.limit:
            found = await self._next(indexes, after, query.limit + 1 - len(infos))
            if not found:
                break
            more = await self._infos(query, found, infos)
            after = found[-1][:2]
        shown = tuple(infos[: query.limit])
        more = not more or len(infos) > query.limit
        return Page(shown, query.cursor_behind(shown[-1]) if more else None)

    async def _next(
        self, indexes: Sequence[bytes], after: tuple[float, bytes] | None, many: int
    ) -> list[tuple[float, bytes, bytes]]:
        """The next so many places of the index, the last updated first, out of all buckets: time, session, member."""
        some = min(many, many // (_layout.BUCKETS // 4) + 4)
        top = "+inf" if after is None else repr(after[0])
        behind = None if after is None else (-after[0], after[1])
        found: list[tuple[float, bytes, bytes]] = []
        asked = [(index, 0) for index in indexes]
        while asked:
            commands = [
                (b"ZREVRANGEBYSCORE", index, top, "-inf", b"WITHSCORES", b"LIMIT", skip, some) for index, skip in asked
            ]
            replies = await self._all(commands)
            more, least = [], []
            for (index, skip), reply in zip(asked, replies, strict=True):
                places = [
                    (float(score), member.partition(b"\0")[0], member)
                    for member, score in zip(reply[::2], reply[1::2], strict=True)
                ]
                found += [place for place in places if behind is None or (-place[0], place[1]) > behind]
                if len(places) == some:
                    more.append((index, skip + some))
                    least.append(places[-1][0])
            found.sort(key=lambda place: (-place[0], place[1]))
            reached = found[many - 1][0] if len(found) >= many else float("-inf")
            # a bucket whose last place is still among the first so many may have more that are
            asked = [one for one, score in zip(more, least, strict=True) if score >= reached]
        return found[:many]

    async def _infos(self, query: Query, found: Sequence[tuple[float, bytes, bytes]], infos: list[SessionInfo]) -> bool:
        """Add the sessions at these places, up to one that is damaged: that is the error of the page that begins there.

        A place without its session is removed from the index.  Whether there was no damage.
        """
        places = [keys_of(query.namespace, session) for _, session, _ in found]
        replies = await self._all([_call(_scripts.LOOK, (one.session,), (_NO_CHANGE, "")) for one in places])
        gone = []
        for place, reply, (score, session, member) in zip(places, replies, found, strict=True):
            header = None
            if reply is not None:
                try:
                    header = _layout.header_from(Key(query.namespace, session.decode()), *reply[:3])
                except CorruptRecord:
                    if not infos:
                        raise
                    return False
            if header is None or header.updated != score:  # one that has moved on since is found at its new place
                index = _layout.index_of(place.bucket, query.namespace, query.owner)
                gone.append(_call(_scripts.FORGET, (place.session, index), (member,)))
            elif query.owner is None or header.owner == query.owner:
                infos.append(header.info(0.0))
        if gone:
            await self._all(gone)  # whatever becomes of it can be done again
        return True

    # ------------------------------------------------------------------------------------------------------ the server

    @property
    def _default_ttl(self) -> str:
        return "" if self.ttl is None else repr(self.ttl)

    def _see(self, key: Key, header: Header, raw: bytes) -> None:
        self._seen[key] = _Seen(header, raw)

    async def _run(
        self, script: Script, keys: Sequence[bytes], *arguments: Argument, writes: bool = False, again: bool = True
    ) -> Any:  # noqa: ANN401 - what a script answers
        """The answer of a script.

        Args:
            script: Which.
            keys: What it works on.
            arguments: What it is told.
            writes: Whether it changes anything.
            again: Whether it may be sent twice: it knows what it has done already, or changes nothing.

        Raises:
            Unavailable: It was not done.
            OutcomeUnknown: The answer was lost.
        """
        (answer,) = await self._all([_call(script, keys, arguments)], writes=writes, again=again)
        return answer

    async def _all(self, commands: Sequence[Command], *, writes: bool = False, again: bool = True) -> list[Any]:
        """The answers to commands that travel together; `_run` says the rest."""
        try:
            return await self._server.ask_all(commands, writes=writes, again=again)
        except Unavailable as error:
            said = str(error.__cause__)
            if said.startswith("WRONGTYPE") or _scripts.DAMAGED in said:
                key = _layout.key_of(commands[0][3])
                raise CorruptRecord("it is damaged, or its place holds something else", key=key) from error
            raise

    def __repr__(self) -> str:
        return f"<RedisStore {self._server.location.name} namespace={self.namespace!r}>"


def _call(script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Command:
    return (b"EVALSHA", script.sha, len(keys), *keys, *arguments)


def _seen(key: Key, raw: bytes, metadata: bytes, left: int) -> _Seen | None:
    return _Seen(_layout.header_from(key, raw, metadata, left), raw) if raw else None


def _repeated(key: Key, change: Change, header: Header, entry: bytes) -> Receipt:
    digest, version, number = _layout.entry_from(key, entry, header.version.epoch)
    if digest != change.digest:
        raise reused(key, change.id)
    return header.receipt(0.0, version, number, version)


def _continues(header: Header, since: Version, kind: bytes, records: Sequence[Record]) -> bool:
    if not header.may_continue(since):
        return False
    if kind == b"after" and records[0].tip != since.tip:
        raise header.regressed(since)
    return kind in (b"same", b"all", b"after")
