"""`Pages`: lists the sessions and the namespaces of a server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from turnlog import CorruptRecord, Key, Page, Query, SessionInfo, Unavailable
from turnlog.rules import listed_key, page_of
from turnlog.runtime import BoundedMap

from . import _layout, _scripts
from ._commit_plan import Seen, header_of
from ._connection import Argument, Command
from ._layout import Keys, keys_of
from ._retry import RetryingServer

_LOOKED: Final = 10
"""Number of most recent entries, for each requested session, in which a page looks for a prefix.  If they are not
enough, the page scans the whole indexes."""
_SCANNED: Final = 1_000
"""Number of entries that the server reads in one `ZSCAN`: other clients wait for about a millisecond."""

Entry: TypeAlias = tuple[float, bytes, bytes]
"""An entry of an index: the time, the session id, and the whole member."""


class Pages:
    """Lists the sessions and the namespaces of a server.

    Args:
        server: The server.
        seen: The last seen headers.
    """

    def __init__(self, server: RetryingServer, seen: BoundedMap[Key, Seen]) -> None:
        self._server = server
        self._last_seen = seen
        self.is_spread = server.location.kind == "cluster"
        """True if several servers hold the indexes."""

    async def page(self, query: Query) -> Page:
        """Return a page of a namespace, as `Backend.page`."""
        indexes = _layout.indexes_of(query.one_namespace, query.owner)
        after = None if query.after is None else (query.after[0], query.after[1].encode())
        found: list[SessionInfo | CorruptRecord | None] = []
        until = self._server.deadline()
        while True:
            wanted = query.limit + 1 - sum(isinstance(one, SessionInfo) for one in found)
            entries, seen = await self._entries(until, query, indexes, after, wanted)
            found += await self._listed(until, query, entries, seen) if entries else []
            page = page_of(query, found, is_last=len(entries) < wanted)
            if page is not None:
                return page
            after = entries[-1][:2]

    async def namespaces(self, after: str | None, limit: int) -> Sequence[str]:
        """Return the namespaces with sessions, as `Backend.namespaces`."""
        places = [_layout.namespaces_of(bucket) for bucket in range(_layout.BUCKETS)]
        start = "" if after is None else after
        commands = [_scripts.NAMESPACES.call((names,), (start, limit, index)) for names, index in places]
        answers = await self._server.ask_all(commands)
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
            answers = await self._server.ask_all(commands, until)
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
                replies = await self._server.ask_all(commands, until)
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
        if self.is_spread:
            return None
        sessions = _layout.prefix_of(0, query.one_namespace).partition(b"}")[2]
        try:
            answer: list[Any] = await self._server.run(until, _scripts.NEWEST, indexes, *arguments, sessions)
        except Unavailable as error:
            if not str(error.__cause__).startswith("CROSSSLOT"):
                raise
            self.is_spread = True  # the server is a proxy for several servers
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
                    key = listed_key(namespace, session)
                    header = header_of(key, self._last_seen.get(key), *reply)
                except CorruptRecord as error:
                    found[number] = error
                    continue
            if header is None or header.updated != score:  # a session that has changed since has a newer entry
                stale.append((number, header))
            elif query.owner is None or header.owner == query.owner:
                found[number] = header.info(0.0)
        if stale:
            forget = [self._forget(query, *entries[number][1:], places[number]) for number, _ in stale]
            for done, (number, header) in zip(await self._server.ask_all(forget, until), stale, strict=True):
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
        commands = [_scripts.LOOKS.call([keys.session for keys in part], ()) for part in parts]
        answers = await self._server.ask_all(commands, until) if commands else []
        return {
            keys.member: reply
            for part, replies in zip(parts, answers, strict=True)
            for keys, reply in zip(part, replies, strict=True)
        }

    @staticmethod
    def _forget(query: Query, session: bytes, member: bytes, keys: Keys) -> Command:
        index = _layout.index_of(keys.bucket, query.one_namespace, query.owner)
        arguments = (member, session, (query.owner or "").encode(), keys.owners)
        return _scripts.FORGET.call((keys.session, index, keys.listing), arguments)


def _entry(member: bytes, score: bytes) -> Entry:
    return float(score), member.partition(b"\0")[0], member


def _order(entry: Entry) -> tuple[float, bytes]:
    return -entry[0], entry[1]


def _is_after(entry: Entry, after: tuple[float, bytes] | None) -> bool:
    return after is None or (-entry[0], entry[1]) > (-after[0], after[1])
