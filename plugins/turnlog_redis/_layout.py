"""How a session lies in Redis: one list, so that expiry, eviction and a cluster's slots take all of it or nothing.

    0  the header: numbers at fixed places, which scripts read and write, and their sum; then the owner, with its length
       in a byte before it, and MessagePack, and before both their sum
    1  the metadata, MessagePack of names to encoded values
    2  of each change that is remembered the first 4 bytes of its hash, by which it is looked for
    3  for each of these a place with its hash, its digest and its answer; the oldest gives way to the next
   67  the records, in order: numbers at fixed places, then the head and the payload

Each but the hashes comes with a sum that tells damage from it, a payload with its own: CRC-32, or the exclusive or of
its words where a script must make it.

Beside it stands an index for pages: in each bucket one sorted set a namespace, of session ids and their owners, and one
an owner, of session ids, by the time of their last change.  A session's bucket is in the hash tag of its key and of its
index, so both are on one node of a cluster and change in one script.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache, reduce
from hashlib import blake2b
from operator import attrgetter, xor
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from turnlog import Change, CorruptRecord, Key, Metadata, Record, Version
from turnlog.limits import REMEMBERED_CHANGES
from turnlog.rules import Header

BUCKETS: Final = 128
"""Each is one slot of a cluster: over three nodes they spread to within 12 %, and a page asks all of them, which takes
about a millisecond."""

CHANGES: Final = 3
"""Where the remembered changes begin."""

RECORDS: Final = CHANGES + REMEMBERED_CHANGES
"""Where the records begin."""

# created, updated, first, start, bytes, rounds, generation, epoch, ttl, and how many changes were made, a seal counting
# for 64
_NUMBERS: Final = struct.Struct(">7d16s2d")
_WORDS: Final = struct.Struct(">11Q")  # the same
_SUMS: Final = struct.Struct(">II")  # of the numbers, and of what follows
_REST: Final = _NUMBERS.size + _SUMS.size  # where that begins
_SUM: Final = 4  # bytes of a CRC-32
_ENVELOPE: Final = 12  # bytes of a payload, with a digest of the rest (docs/reference/format.md)
_RECORD: Final = struct.Struct(">6dHI")  # number, turns, count, upto, size and end, for scripts; then `_LENGTH`
_HEAD: Final = _RECORD.size  # where it begins
_LENGTH: Final = struct.Struct(">HI")  # of the head, and its sum with the beginning of the payload
_NUMBERS_END: Final = _HEAD - _LENGTH.size
_CHANGE: Final = struct.Struct(">16s16sddB16sB16sd")  # hash, digest, generation, rounds, tip, stamp, number
_NO_TTL: Final = -1.0
_NONE: Final = Metadata({})

_encode = msgspec.msgpack.Encoder().encode
_Tail = tuple[str, int, bool]
_decode_rest = msgspec.msgpack.Decoder(tuple[str, str, bytes, bytes, int, int, _Tail | None]).decode
_decode_head = msgspec.msgpack.Decoder(Record).decode
_set = msgspec.structs.force_setattr
_decode_metadata = msgspec.msgpack.Decoder(dict[str, bytes]).decode
_head_of = attrgetter(
    "id", "part", "open", "time", "count", "rounds", "turns", "number", "rounds_until", "messages_until", "tip"
)
_DAMAGED = (msgspec.DecodeError, struct.error, ValueError, TypeError, OverflowError, IndexError)


class Keys(NamedTuple):
    """Where a session, and its place in the index, are."""

    bucket: int
    session: bytes
    listing: bytes
    prefix: bytes
    """What all sessions of its namespace and bucket begin with."""
    member: bytes
    """What follows: the session id."""
    owners: bytes
    """What the indexes of all owners in its namespace and bucket begin with."""


@lru_cache(4_096)
def keys_of(namespace: str, session: bytes) -> Keys:
    """Where a session is.  No two share a place: the namespace comes with its length, and the session id is the rest.

    A hash tag is what stands between the first brace and the next closing one (redis.io/docs/reference/cluster-spec):
    ours come first.
    """
    tenant = namespace.encode()
    bucket = crc32(session, crc32(tenant)) % BUCKETS
    prefix = b"turnlog:{%d}:s:%d:%b:" % (bucket, len(tenant), tenant)
    owners = b"turnlog:{%d}:o:%d:%b:" % (bucket, len(tenant), tenant)
    return Keys(bucket, prefix + session, index_of(bucket, namespace, None), prefix, session, owners)


def key_of(place: object) -> Key | None:
    """Which session's a place is; None: no session's."""
    _, tag, rest = place.partition(b"}:s:") if isinstance(place, bytes) else (b"", b"", b"")
    length, _, names = rest.partition(b":")
    return Key(names[: int(length)].decode(), names[int(length) + 1 :].decode()) if tag else None


def index_of(bucket: int, namespace: str, owner: str | None) -> bytes:
    """The index of a bucket's sessions in one namespace; or only of one owner's, where there is an owner."""
    tenant = namespace.encode()
    if not owner:
        return b"turnlog:{%d}:i:%b" % (bucket, tenant)
    return b"turnlog:{%d}:o:%d:%b:%b" % (bucket, len(tenant), tenant, owner.encode())


# ---------------------------------------------------------------------------------------------------------- the header


def _sum(data: bytes) -> bytes:
    return crc32(data).to_bytes(_SUM, "big")


def _sum_of_words(numbers: bytes) -> int:
    both: int = reduce(xor, _WORDS.unpack_from(numbers))
    return (both >> 32) ^ (both & 0xFFFFFFFF)


def header_bytes(header: Header) -> bytes:
    """A header as it is stored, but for the sum of its numbers: the server makes that, once it has put in its own."""
    h, v = header, header.version
    ttl = _NO_TTL if h.ttl is None else h.ttl
    numbers = _NUMBERS.pack(h.created, h.updated, h.first, h.start, h.bytes, v.rounds, v.generation, v.epoch, ttl, 0)
    owner, rest = (
        h.owner.encode(),
        _encode((h.key.namespace, h.key.session, v.tip, v.stamp, h.turns, h.messages_until, h.tail)),
    )
    rest = b"%c%b%b" % (len(owner), owner, rest)
    return numbers + _SUMS.pack(0, crc32(rest)) + rest


def header_from(key: Key, data: bytes, metadata: bytes | None, left: int) -> Header:
    """A header out of what is stored.

    Args:
        key: Whose it must be.
        data: The first element.
        metadata: The second; None: without.
        left: Milliseconds until it expires; below 0: it does not.

    Raises:
        CorruptRecord: It cannot be read, or is another session's.
    """
    try:
        created, updated, first, start, size, rounds, generation, epoch, ttl, _ = _NUMBERS.unpack_from(data)
        rest = data[_REST:]
        if _SUMS.unpack_from(data, _NUMBERS.size) != (_sum_of_words(data), crc32(rest)):
            raise CorruptRecord("its header is damaged", key=key)
        begin = rest[0] + 1
        owner = rest[1:begin].decode()
        namespace, session, tip, stamp, turns, upto, tail = _decode_rest(rest[begin:])
        version = Version(epoch, int(generation), int(rounds), tip, stamp)
        numbers = int(first), int(start), int(size)
    except _DAMAGED as error:
        raise CorruptRecord(f"its header cannot be read: {error}", key=key) from None
    if (namespace, session) != (key.namespace, key.session):
        raise CorruptRecord(f"its place holds the session {Key(namespace, session)}", key=key)
    kept = _NONE if metadata is None else metadata_from(key, metadata)
    own = None if ttl == _NO_TTL else ttl
    expires = None if left < 0 else left / 1000
    return Header(
        key, version, numbers[0], turns, numbers[1], upto, tail, numbers[2], created, updated, owner, kept, own, expires
    )


def completed(header: Header, data: bytes, metadata: Metadata, left: int) -> Header:
    """The same header, with what the server puts into it.

    Args:
        header: All else.
        data: The first element, written for this header.
        metadata: What goes with it.
        left: As in `header_from`.
    """
    h, (created, updated, first, start, size, *_) = header, _NUMBERS.unpack_from(data)
    return Header(
        h.key,
        h.version,
        int(first),
        h.turns,
        int(start),
        h.messages_until,
        h.tail,
        int(size),
        created,
        updated,
        h.owner,
        metadata,
        h.ttl,
        None if left < 0 else left / 1000,
    )


def metadata_from(key: Key, data: bytes) -> Metadata:
    """Metadata out of what is stored.

    Raises:
        CorruptRecord: It cannot be read.
    """
    if data == _NO_METADATA:
        return _NONE
    try:
        if data[-_SUM:] != _sum(data[:-_SUM]):
            raise CorruptRecord("its metadata is damaged", key=key)
        return Metadata(_decode_metadata(data[:-_SUM]))
    except _DAMAGED as error:
        raise CorruptRecord(f"its metadata cannot be read: {error}", key=key) from None


def metadata_bytes(metadata: Metadata) -> bytes:
    """Metadata as it is stored."""
    data = _encode(metadata.encoded)
    return data + _sum(data)


_NO_METADATA: Final = metadata_bytes(_NONE)


# ---------------------------------------------------------------------------------------------------------- the records


def record_bytes(record: Record) -> bytes:
    """A record as it is stored."""
    r, head, size = record, _encode(_head_of(record)), record.size
    length, payload = len(head), r.payload
    both = crc32(head + payload[:_ENVELOPE])
    return (
        _RECORD.pack(r.number, r.turns, r.count, r.messages_until, size, r.rounds_until, length, both) + head + payload
    )


def records_from(key: Key, rows: Sequence[bytes]) -> list[Record]:
    """Records out of what is stored.

    Raises:
        CorruptRecord: One cannot be read.
    """
    records, length_in = [], _LENGTH.unpack_from
    try:
        for data in rows:
            length, both = length_in(data, _NUMBERS_END)
            stop = _HEAD + length
            if crc32(data[_HEAD : stop + _ENVELOPE]) != both:
                raise CorruptRecord("the head of a record is damaged, or stands beside another payload", key=key)
            record = _decode_head(data[_HEAD:stop])
            _set(record, "_payload", data[stop:])
            records.append(record)
    except _DAMAGED as error:
        raise CorruptRecord(f"the head of a record cannot be read: {error}", key=key) from None
    return records


def head_of(data: bytes) -> bytes:
    """What is stored of a record before its payload."""
    return data[: _HEAD + _LENGTH.unpack_from(data, _NUMBERS_END)[0]]


# ---------------------------------------------------------------------------------------------------------- the changes


def change_hash(change_id: str) -> bytes:
    """What a change is found by: 16 bytes of BLAKE2b (RFC 7693) of its id, which may be long."""
    return blake2b(change_id.encode(), digest_size=16).digest()


def entry_bytes(change: Change, version: Version, number: int | None) -> bytes:
    """What is remembered of a change: its hash, its digest, and what it was answered."""
    tip, stamp = version.tip, version.stamp
    data = _CHANGE.pack(
        change_hash(change.id),
        change.digest,
        version.generation,
        version.rounds,
        len(tip),
        tip,
        len(stamp),
        stamp,
        -1 if number is None else number,
    )
    return data + _sum(data)


def entry_from(key: Key, data: bytes, epoch: bytes) -> tuple[bytes, Version, int | None]:
    """The digest of a change that is remembered, and what it was answered.

    Raises:
        CorruptRecord: It cannot be read.
    """
    if len(data) != _CHANGE.size + _SUM or data[-_SUM:] != _sum(data[:-_SUM]):
        raise CorruptRecord("a change that it remembers is damaged", key=key)
    _, digest, generation, rounds, tips, tip, stamps, stamp, number = _CHANGE.unpack(data[:-_SUM])
    version = Version(epoch, int(generation), int(rounds), tip[:tips], stamp[:stamps])
    return digest, version, None if number < 0 else int(number)


def trimmed(records: Sequence[Record], last: int) -> list[Record]:
    """The fewest whole turns at the end that hold so many messages."""
    if records and records[0].turns and records[-1].messages_until - records[0].messages_until < last:
        return list(records)  # as a rule: without the first they would be too few
    place, count = len(records), 0
    while place and (count < last or not records[place].turns):
        place -= 1
        count += records[place].count
    return list(records[place:])
