"""A record: the unit that a backend stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import isfinite
from operator import attrgetter
from typing import Any, Final
from zlib import crc32

import msgspec

from ..errors import CorruptRecord, InvalidInput, TooLarge
from ..limits import MAX_MESSAGES, MAX_SEALED_MESSAGES, MAX_SEALED_TURNS, MAX_TURN_ID_BYTES, MAX_VALUES
from ..payload import HEAD, PLAIN, codec_of, plain_body, plain_size, wrap
from . import body as _body
from .checks import check_number, shown
from .ids import check_id
from .key import CHECKSUM_BYTES, SOUND, Key, start_of
from .message import Message, check_messages, size_of
from .stored import UNREADABLE, Count, Finite, Several

HEAD_FIELDS: Final = (
    *("id", "part", "open", "time", "count", "rounds", "turns"),
    *("number", "rounds_until", "messages_until", "tip"),
)
"""The fields of the head of a record."""

_set = msgspec.structs.force_setattr


class Record(msgspec.Struct, frozen=True, gc=False, repr_omit_defaults=True, weakref=False, array_like=True):
    """One turn, one round of a turn, or a sealed run of whole turns: a head, which layers do not change, and a body.

    The body has two forms, `messages` and `payload`.  Each form is made from the other at its first use.  A backend
    that stores bytes therefore never decodes, and a backend that keeps messages never encodes.

    Applications do not make records.  `Record.of` makes a record from messages, `with_payload` replaces the encoding of
    the body, `seal` joins records, `placed` sets the place in a session, and `pack` and `unpack` convert to and from
    the form in a database.  The constructor does not check its arguments.

    Attributes:
        id: The id of the turn, 1 to 200 bytes of UTF-8; in a sealed run, of the last turn.
        part: The number of the round in its turn, from 0; in a sealed run, of the last round.
        open: Whether the turn is left open for more rounds.
        time: The time of writing, in seconds since 1970: for display, never for ordering.
        count: Number of messages; 0 in a round that only closes its turn.
        rounds: Number of rounds; more than one only in a sealed run.
        turns: Number of turns that begin in the record: 1, 0 for a later round, or the turns of a sealed run.
        number: The number of the first turn in the session, from 0.  The store sets this and the following fields.
        rounds_until: Number of rounds in the session up to the end of the record.
        messages_until: Number of messages in the session up to the end of the record, from the beginning of the
            history.
        tip: The chain value at the end of the record (see `Version`).
    """

    id: str
    part: Count
    open: bool
    time: Finite
    count: Count
    rounds: Several = 1
    turns: Count = 1
    number: Count = 0
    rounds_until: Count = 0
    messages_until: Count = 0
    tip: bytes = b""
    _payload: bytes | None = None
    _messages: tuple[Message, ...] | None = None
    _inner: tuple[Record, ...] | None = None
    _size: int | None = None
    _damage: str | None = None

    @classmethod
    def of(cls, messages: tuple[Message, ...], *, id: str, time: float, part: int = 0, open: bool = False) -> Record:
        """Return one round of a turn, after checks.

        Args:
            messages: 1 to 10,000 messages.  A later round that closes its turn may have none.
            id: The turn's id.
            time: The time of writing, in seconds since 1970.
            part: The number of the round in the turn, from 0.
            open: Whether more rounds follow.

        Raises:
            InvalidInput: There are no messages, or `id`, `time`, `part` or `open` is invalid.
            TooLarge: There are too many messages, or too many values in them.
        """
        if type(messages) is not tuple:
            raise InvalidInput(f"messages must be a tuple, not {type(messages).__name__}")
        count = len(messages)
        if not count and (part == 0 or open):
            raise InvalidInput("a turn needs at least one message: pass a list such as [user('Hello')]")
        if count > MAX_MESSAGES:
            raise TooLarge(f"a turn has {count} messages, the limit is {MAX_MESSAGES}: write it in rounds")
        check_messages(messages)
        check_id(id, "turn id", limit=MAX_TURN_ID_BYTES)
        if part or type(part) is not int:
            check_number(part, "part", least=0)
        if open is not True and open is not False:
            raise InvalidInput(f"open must be True or False, not {shown(open)}")
        if type(time) not in (float, int) or not isfinite(time):
            raise InvalidInput(f"time must be seconds since 1970, not {shown(time)}")
        return cls(id, part, open, time, count, 1, 0 if part else 1, _messages=messages)

    @property
    def begins_turn(self) -> bool:
        """Whether the first round of the record is the first round of a turn."""
        return self.turns > 0

    def follows(self, before: Record) -> bool:
        """Return whether this is the next round of the open turn at the end of another record."""
        return before.open and before.id == self.id and before.part == self.part - 1

    @property
    def next_turn(self) -> int:
        """The number of the next turn after the record."""
        return self.number + self.turns if self.turns else self.number + 1

    @property
    def size(self) -> int:
        """Size of the plain payload in bytes; an estimate, if the record was not encoded when it was stored.

        Compression and encryption do not change the size.  It does not change after the record is stored.
        """
        if self._size is not None:
            return self._size
        if self._payload is not None:
            return plain_size(self._payload)
        if self._messages is not None:
            return 16 + size_of(self._messages)
        return sum(record.size for record in self._inner or ())

    @property
    def payload(self) -> bytes:
        """The encoded body (`docs/reference/format.md`).

        Raises:
            TooLarge: The body is larger than 16 MiB.
            CorruptRecord: The body cannot be read.
        """
        payload = self._payload
        if payload is None:
            if self._damage is not None:
                raise CorruptRecord(self._damage, turn=self.number)
            if self._inner is not None:  # keep encoded rounds byte for byte
                rounds = [
                    _body.EncodedRound(r.id, r.part, r.open, r.time, msgspec.Raw(plain_body(r.payload)))
                    for r in self._inner
                ]
                payload = wrap(_body.encode(rounds))
            else:
                payload = wrap(_body.encode(self._messages or ()))
            _set(self, "_payload", payload)
        return payload

    @property
    def plain(self) -> bool:
        """Whether the core can read the record: no layer has written its payload in another codec."""
        payload = self._payload
        return payload is None or codec_of(payload) == PLAIN

    @property
    def decoded(self) -> bool:
        """Whether the messages are available without decoding."""
        return self._messages is not None or self._inner is not None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages, in order.

        Raises:
            CorruptRecord: The payload cannot be read.
        """
        messages = self._messages
        if messages is None:
            if self.rounds > 1:
                messages = tuple(message for record in self.split() for message in record.messages)
            else:
                try:
                    body = plain_body(self._payload or self.payload)
                    if len(body) > MAX_VALUES:  # before any object is made
                        self._check_count(_body.length(body), MAX_MESSAGES)
                    messages = _body.decode_messages(body)
                except CorruptRecord as error:
                    error.turn = self.number
                    raise
                except UNREADABLE as error:
                    raise self._misfit(f"a record does not hold messages: {error}") from None
                if len(messages) != self.count:
                    self._check_count(len(messages), MAX_MESSAGES)
            _set(self, "_messages", messages)
        return messages

    @staticmethod
    def messages_of(records: Iterable[Record]) -> list[Message]:
        """Return the messages of several records, in order, as a new list.

        Raises:
            CorruptRecord: A record cannot be read.
        """
        messages: list[Message] = []
        extend = messages.extend
        for record in records:
            extend(record._messages or record.messages)  # the property takes twice as long as the rest of the loop
        return messages

    def canonical(self) -> object:
        """Return the body for a digest: the messages, or the payload if the messages are not available."""
        if self._messages is None and self._inner is None:
            return self.payload
        return [message.canonical() for message in self.messages]

    def split(self) -> tuple[Record, ...]:
        """Return the rounds of a sealed run as separate records; the record itself, if it is not sealed.

        Only the last of them has a `tip`: a sealed run does not keep the chain values inside it.

        Raises:
            CorruptRecord: The payload cannot be read.
        """
        if self.rounds == 1:
            return (self,)
        inner = self._inner
        if inner is None:
            inner = self._unsealed()
        last = inner[-1]
        if (
            last.tip == self.tip
            and last.rounds_until == self.rounds_until
            and last.messages_until == self.messages_until
            and not inner[0].tip
        ):
            return inner  # the rounds have their places already
        placed, number = [], self.number - 1
        rounds, messages = self.rounds_until - self.rounds, self.messages_until - self.count
        for record in inner:
            number, rounds, messages = number + record.turns, rounds + 1, messages + record.count
            placed.append(
                msgspec.structs.replace(record, number=number, rounds_until=rounds, messages_until=messages, tip=b"")
            )
        placed[-1] = msgspec.structs.replace(placed[-1], tip=self.tip)
        inner = tuple(placed)
        _set(self, "_inner", inner)
        return inner

    def _unsealed(self) -> tuple[Record, ...]:
        try:
            body = plain_body(self.payload)
            if len(body) > MAX_VALUES:  # before any object is made
                self._check_rounds(body)
            rounds = _body.decode_rounds(body)
        except CorruptRecord as error:
            error.turn = self.number
            raise
        except UNREADABLE as error:
            raise self._misfit(f"a sealed record does not hold rounds: {error}") from None
        inner = tuple(
            Record(r.id, r.part, r.open, r.time, len(r.messages), 1, 0 if r.part else 1, _messages=r.messages)
            for r in rounds
        )
        turns, count = sum(r.turns for r in inner), sum(r.count for r in inner)
        if (len(inner), turns, count) != (self.rounds, self.turns, self.count):
            raise self._misfit(
                f"it holds {len(inner)} rounds, {turns} turns and {count} messages, "
                f"its head states {self.rounds}, {self.turns} and {self.count}"
            )
        if not inner[0].turns or any(not r.count and (r.turns or r.open) for r in inner):
            raise self._misfit("a sealed run begins inside a turn, or has an empty round that does not close a turn")
        if not all(r.turns or r.follows(before) for before, r in pairwise(inner)):
            raise self._misfit("the rounds of a sealed run do not follow each other")
        last = inner[-1]
        if (last.id, last.part, last.open) != (self.id, self.part, self.open):
            raise self._misfit("a sealed run does not end with the round that its head states")
        return inner

    def _check_rounds(self, body: bytes) -> None:
        held = _body.length(body)
        if held != self.rounds:
            raise self._misfit(f"it holds {held} rounds, its head states {self.rounds}")
        if held > MAX_SEALED_MESSAGES + MAX_SEALED_TURNS:  # each turn may be closed by a round without messages
            raise self._misfit(f"it holds {held} rounds, the limit is {MAX_SEALED_MESSAGES} messages")
        rounds = _body.decode_encoded_rounds(body)
        self._check_count(sum(_body.length(one.messages) for one in rounds), MAX_SEALED_MESSAGES)

    def _check_count(self, held: int, most: int) -> None:
        if held != self.count:
            raise self._misfit(f"it holds {held} messages, its head states {self.count}")
        if held > most:
            raise self._misfit(f"it holds {held} messages, the limit is {most}")

    def _misfit(self, what: str) -> CorruptRecord:
        return CorruptRecord(what, turn=self.number)

    def __eq__(self, other: object) -> bool:
        """Return whether the heads and the bodies are equal; the bodies may be in different forms."""
        if not isinstance(other, Record):
            return NotImplemented
        if _head_of(self) != _head_of(other):
            return False
        if self._messages is not None and other._messages is not None:
            return self._messages == other._messages
        return self.payload == other.payload

    def __hash__(self) -> int:
        return hash(_head_of(self))

    def placed(self, *, number: int, rounds_until: int, messages_until: int, tip: bytes) -> Record:
        """Return the record at its place in a session, with its size fixed.

        Args:
            number: The number of the first turn.
            rounds_until: Number of rounds in the session up to the end of the record.
            messages_until: Number of messages in the session up to the end of the record, from the beginning of the
                history.
            tip: The chain value at the end of the record.
        """
        return Record(
            self.id,
            self.part,
            self.open,
            self.time,
            self.count,
            self.rounds,
            self.turns,
            number,
            rounds_until,
            messages_until,
            tip,
            self._payload,
            self._messages,
            self._inner,
            self.size,
        )

    def pack(self, key: Key) -> bytes:
        """Return the head that a backend stores: the head fields in MessagePack, and two checksums.

        The first checksum covers the key and the head, so the head can be read alone.  The second also covers the
        envelope of the payload.

        Args:
            key: The session that the record belongs to.
        """
        head = _encode_head(_head_of(self))
        head += key.checksum(head)
        return head + key.checksum(self.payload[:HEAD] + head)

    @classmethod
    def unpack(cls, key: Key, head: bytes, payload: bytes | None = None) -> Record:
        """Return the record from stored bytes.

        Args:
            key: The session that the record must belong to.
            head: The result of `pack`.
            payload: The payload that is stored with the head; None: return only the head.

        Raises:
            CorruptRecord: The head is damaged, or belongs to another session or another payload.
        """
        if payload is not None:
            return next(cls.unpack_each(key, [(head, payload)]))
        try:
            if not key.is_sound(head[:-CHECKSUM_BYTES]) or head[0] != _FIELDS:
                raise CorruptRecord("a stored record is damaged: its checksum does not match", key=key)
            return _checked(_decode_head(head[: -2 * CHECKSUM_BYTES]))
        except UNREADABLE as error:
            raise CorruptRecord(f"a stored record cannot be read: {error}", key=key) from None

    @classmethod
    def unpack_each(cls, key: Key, rows: Iterable[Sequence[bytes]]) -> Iterator[Record]:
        """Yield the records from stored heads and payloads, as `unpack` does; read each row only when it is needed.

        Args:
            key: The session that the records must belong to.
            rows: The head and the payload of each record.

        Raises:
            CorruptRecord: A head is damaged, or belongs to another session or another payload.
        """
        start = start_of(key)
        for head, payload in rows:  # a call for each row would double the time
            try:
                if crc32(head, crc32(payload[:HEAD], start)) != SOUND or head[0] != _FIELDS:
                    raise CorruptRecord("a stored record is damaged: its checksum does not match", key=key)
                record = _decode_head(head[: -2 * CHECKSUM_BYTES])
                if not record.count:
                    _checked(record)
            except UNREADABLE as error:
                raise CorruptRecord(f"a stored record cannot be read: {error}", key=key) from None
            _set(record, "_payload", payload)
            yield record

    @classmethod
    def from_parts(
        cls, head: Mapping[str, Any], *, messages: tuple[Message, ...] | None, payload: bytes | None, size: int
    ) -> Record:
        """Return a record from its parts in a text format.

        Args:
            head: The values of `HEAD_FIELDS`.
            messages: The messages, if they are stored as messages.
            payload: Otherwise the payload.
            size: The size of the record when it was stored.

        Raises:
            ValueError: The record is empty, and does not close a turn.
        """
        return _checked(cls(**head, _payload=payload, _messages=messages, _size=size))

    def sealed_at(self, end: Record, size: int) -> Record:
        """Return a sealed record at the place of the records that it replaces.

        Args:
            end: The last of these records.
            size: The `size` of the sealed record.
        """
        return msgspec.structs.replace(self, messages_until=end.messages_until, _size=size)

    def mapped(self, function: Callable[[Message], Message]) -> Record:
        """Return the record with each message replaced by the function's result; the record itself if none changes.

        Raises:
            CorruptRecord: The payload cannot be read.
        """
        if self.rounds > 1:
            parts = self.split()
            inner = tuple([part.mapped(function) for part in parts])
            if all(new is old for new, old in zip(inner, parts, strict=True)):
                return self
            return msgspec.structs.replace(self, _payload=None, _messages=None, _inner=inner, _size=None)
        messages = tuple([function(message) for message in self.messages])
        if messages == self.messages:
            return self
        return msgspec.structs.replace(self, _payload=None, _messages=messages, _inner=None, _size=None)

    def with_payload(self, payload: bytes, *, size: int | None = None) -> Record:
        """Return the record with another encoding of the same body, for layers that compress or encrypt.

        Args:
            payload: The other encoding.
            size: The `size` of the record; None: the envelope of the payload states it, which is not so after
                encryption.
        """
        return msgspec.structs.replace(self, _payload=payload, _messages=None, _inner=None, _size=size)

    def damaged(self, why: str) -> Record:
        """Return the record with an unreadable body, for a layer that cannot decode it.

        Its messages and its payload then raise `CorruptRecord` with the reason.  Other records stay readable.
        """
        return msgspec.structs.replace(self, _payload=None, _messages=None, _inner=None, _size=self.size, _damage=why)

    def unencoded(self) -> Record:
        """Return the record with its messages and without its payload, so that memory holds the body only once.

        Return the record itself if the payload cannot be read.
        """
        if self._payload is None:
            return self
        try:
            _ = self.messages
        except CorruptRecord:
            return self
        return msgspec.structs.replace(self, _payload=None, _size=self.size)

    def until(self, number: int) -> Record:
        """Return the part of a sealed run before a turn, as one record.

        Args:
            number: A turn inside the run.

        Raises:
            CorruptRecord: The payload cannot be read.
        """
        rounds = [record for record in self.split() if record.number < number]
        return Record.seal(rounds) if len(rounds) > 1 else rounds[0]

    @staticmethod
    def seal(records: Sequence[Record]) -> Record:
        """Return one record that holds whole turns of a session, to replace their records by `Backend.seal`.

        Args:
            records: Two or more consecutive records that were read from a session; the first begins a turn.

        Raises:
            InvalidInput: The records are not consecutive, do not begin a turn, or hold more than 1,024 turns.
            TooLarge: The records hold more than 20,000 messages.
            CorruptRecord: One of the records is sealed and cannot be read.
        """
        if len(records) < 2:
            raise InvalidInput(f"seal needs at least two records, not {len(records)}")
        first, last = records[0], records[-1]
        if not first.begins_turn:
            raise InvalidInput(
                f"seal must begin with a turn's first round, not with part {first.part} of turn {first.number}"
            )
        for before, record in pairwise(records):
            if (
                record.rounds_until - record.rounds != before.rounds_until
                or record.messages_until - record.count != before.messages_until
            ):
                raise InvalidInput(
                    f"seal needs records that follow each other: after round {before.rounds_until} comes round "
                    f"{record.rounds_until}"
                )
        turns = sum(record.turns for record in records)
        if turns > MAX_SEALED_TURNS:
            raise InvalidInput(f"seal of {turns} turns, the limit is {MAX_SEALED_TURNS}")
        count = sum(record.count for record in records)
        if count > MAX_SEALED_MESSAGES:
            raise TooLarge(f"seal of {count} messages, the limit is {MAX_SEALED_MESSAGES}: seal fewer turns at once")
        return msgspec.structs.replace(
            last,
            time=first.time,
            count=count,
            rounds=sum(record.rounds for record in records),
            turns=turns,
            number=first.number,
            _payload=None,
            _messages=None,
            _size=None,
            _inner=tuple(inner for record in records for inner in record.split()),
        )


def _checked(record: Record) -> Record:
    """Return a record that was read, if it is valid.

    Raises:
        ValueError: The record is empty, and does not close a turn.
    """
    if not record.count and (record.turns or record.open):
        raise ValueError("it holds no messages, and does not close a turn")
    return record


_head_of = attrgetter(*HEAD_FIELDS)
_encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Record).decode
_FIELDS = 0x90 + len(HEAD_FIELDS)  # MessagePack's head of an array: a longer array would set the body, unchecked
