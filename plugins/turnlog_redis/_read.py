"""`Read`: the read of a session, usually in one round trip."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from turnlog import CorruptRecord, Key, Record, Session, Version
from turnlog.rules import Header, check_whole, missing, regressed, window
from turnlog.runtime import BoundedMap

from . import _layout, _scripts
from ._commit_plan import Seen, header_of
from ._connection import Argument
from ._layout import Keys
from ._retry import RetryingServer


class Read(msgspec.Struct, gc=False):
    """The read of a session."""

    server: RetryingServer
    seen: BoundedMap[Key, Seen]
    """The last seen headers; the read updates that of its session."""
    key: Key
    keys: Keys
    last: int | None
    before: int | None
    since: Version | None
    sliding: tuple[str, str]
    """The backend's time to live, and whether to restart that of the session, as arguments of a script."""
    until: float
    """The deadline of the operation."""

    async def run(self) -> Session:
        """Return the session, or a part of it, as `Backend.read`."""
        if self.before is None and self.since is None:
            session = await self._end()
            if session is not None:
                return session
        key, last, before, since = self.key, self.last, self.before, self.since
        known: tuple[Argument, ...] = (b"", 0, 0)
        if since is not None:
            known = (since.epoch, since.generation, since.rounds)
        part = ("" if last is None else last, "" if before is None else before)
        answer = await self.server.run(self.until, _scripts.READ, (self.keys.session,), *self.sliding, *part, *known)
        if answer is None:
            raise missing(key)
        raw, metadata, left, kind, rows = answer
        found = header_of(self.key, self.seen.get(self.key), raw, metadata, left)
        self.seen[key] = Seen(found, raw, metadata)
        records = _layout.records_from(key, rows)
        continues = since is not None and _continues(found, since, kind, records)
        if kind == b"after" and continues:
            del records[0]  # this record ends at `since`
        elif last is not None and not continues:
            del records[: window(records, last)]
        check_whole(found, records, last, before, since if continues else None)
        return Session(found.info(0.0), tuple(records), continues)

    async def _end(self) -> Session | None:
        """Return the end of a session, or all of it; None if the two answers do not fit together.

        Two commands are sent in one round trip, because a script would copy every row once more.  Another writer may
        change the session between the commands, and the last records may have fewer messages than expected.  In both
        cases the caller runs `READ`, a single atomic step.
        """
        place, last = self.keys.session, self.last
        commands = [_scripts.TOP.call((place,), self.sliding)]
        if last is None:
            commands.append((b"LRANGE", place, _layout.RECORDS, -1))
        elif last:
            commands.append((b"LRANGE", place, -self._expected_records(), -1))
        top, *rest = await self.server.ask_all(commands, self.until)
        if top is None:
            raise missing(self.key)
        raw, metadata, left, length = top
        rows = rest[0] if rest else []
        if len(rows) > length - _layout.RECORDS:  # the first rows are not records
            del rows[: len(rows) - max(0, length - _layout.RECORDS)]
        found = header_of(self.key, self.seen.get(self.key), raw, metadata, left)
        try:
            # if the script was sent again after another writer has appended, some rows may not be records
            records = _layout.records_from(self.key, rows)
            if last is not None:
                del records[: window(records, last)]
            check_whole(found, records, last, None, None)
        except CorruptRecord:
            return None
        self.seen[self.key] = Seen(found, raw, metadata)
        return Session(found.info(0.0), tuple(records))

    def _expected_records(self) -> int:
        """Return the number of records that probably hold the last messages, as whole turns.

        It follows from the averages of the last seen header.  If no header was seen, a turn is assumed to be one record
        of a question and an answer.
        """
        last, seen = self.last or 0, self.seen.get(self.key)
        if seen is None or not seen.header.messages_until:
            return (last + 1) // 2
        header, rounds = seen.header, seen.header.version.rounds
        return -(-last * rounds // header.messages_until) + (rounds - 1) // max(1, header.turns)


def _continues(header: Header, since: Version, kind: bytes, records: Sequence[Record]) -> bool:
    if not header.may_continue(since):
        return False
    if kind == b"after" and records[0].tip != since.tip:
        raise regressed(header.key, header.version, since)
    return kind in (b"same", b"all", b"after")
