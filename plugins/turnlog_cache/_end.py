"""The end of a session in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from turnlog import Message, Record, Session


class End(NamedTuple):
    """The end of a session, as far back as it was asked for: it is in fewer places of memory than in its records.

    Attributes:
        last: What was asked for.
        records: What that is; none of them sealed.
        messages: Those in the records.
        session: The same as it is answered, with the entry's own info; None: it was not asked for with that.
    """

    last: int | None
    records: tuple[Record, ...]
    messages: tuple[Message, ...]
    session: Session | None = None

    def untold(self) -> End:
        """The same for another entry: without the answer, which would keep this one's metadata."""
        return self if self.session is None else End(self.last, self.records, self.messages)

    def followed_by(self, new: list[Record]) -> End | None:
        """The same, where records follow; None, if one of them is sealed or cannot be read."""
        if not new:
            return self
        if not are_plain(new):
            return None
        records, place = (*self.records, *new), 0
        if self.last is not None:
            upto = records[-1].upto
            for at, record in enumerate(records):
                if upto - record.upto + record.count < self.last:
                    break
                if record.turns:
                    place = at
        gone = sum(record.count for record in records[:place])
        messages = (self.messages + tuple([message for record in new for message in record.messages]))[gone:]
        return End(self.last, records[place:], messages)


def are_plain(records: Sequence[Record]) -> bool:
    """Whether they are turns and rounds, none of them in a sealed run, and can be read."""
    return all(record.rounds == 1 and record.decoded for record in records)
