"""The layout of a session in Redis: one list.  Expiry, eviction and cluster slots therefore apply to a whole session.

    0  the header: the numbers of `HEADER` and their sum, the owner after a byte with its length, `Header.pack`
    1  the metadata: `Metadata.pack`
    2  the first 4 bytes of the hash of each remembered change; scripts search them
    3  64 places for remembered changes: the hash and `Remembered.pack`; the newest change replaces the oldest
   67  the records, in order: the numbers of `RECORD`, `Record.pack`, the payload

The numbers of `HEADER` and `RECORD` are at fixed offsets, because scripts read and write them.  Two kinds of checksums
detect damage.  Those of the core also cover the session's key.  The exclusive or of the header's numbers can be
computed by a script.

Pages have an index.  Each bucket has one sorted set per namespace, of session ids and owners, and one per owner, of
session ids, ordered by `updated`.  The hash tags of a session's key and of its index hold the same bucket, so one
script can change both on one node of a cluster.  Another sorted set per bucket has the namespaces with sessions there.
Their score is always 0, so they are sorted by their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, reduce
from hashlib import blake2b
from operator import xor
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from turnlog import CorruptRecord, InvalidInput, Key, Record
from turnlog.limits import MAX_NUMBER, REMEMBERED_CHANGES
from turnlog.rules import Header

BUCKETS: Final = 128
"""Number of buckets; each is one slot of a cluster.  On three nodes, the buckets are distributed evenly to within 12 %.
A page reads all buckets."""

CHANGES: Final = 3
"""Index of the first remembered change in the list."""

RECORDS: Final = CHANGES + REMEMBERED_CHANGES
"""Index of the first record in the list."""

HASH_BYTES: Final = 16
"""Size of a change's hash in bytes."""


class Table:
    """Numbers at fixed offsets of an element: Python packs them, and scripts read and write them.

    Args:
        fields: The `struct` code of each field by its name, in order.
    """

    def __init__(self, **fields: str) -> None:
        self.struct = struct.Struct(">" + "".join(fields.values()))
        self.size = self.struct.size
        self._offsets: dict[str, int] = {}
        before = ">"
        for name, code in fields.items():
            self._offsets[name] = struct.calcsize(before) + 1
            before += code

    def __getitem__(self, name: str) -> int:
        """Return the offset of a field, counted from 1 as in Lua."""
        return self._offsets[name]


HEADER: Final = Table(
    created="d",
    updated="d",
    first="d",
    start="d",
    bytes="d",
    messages_until="d",  # repeated from `Header.pack`, which the script that counts messages cannot read
    rounds="d",
    generation="d",
    epoch="16s",
    ttl="d",  # the session's own time to live; `_NO_TTL`: none
    changes="d",  # a seal counts as 64
    sum="I",  # the exclusive or of the preceding words
    owner="B",  # the length of the owner, whose text follows
)
"""The numbers of a header.  Scripts set `created`, `updated`, `first`, `start`, `bytes` and `changes`; the values in
`Header.pack` may be older."""

WORDS: Final = (HEADER["sum"] - 1) // 4
"""Number of words of a header that its sum covers."""

RECORD: Final = Table(number="d", turns="d", count="d", messages_until="d", size="d", rounds_until="d", head="H")
"""The numbers of a record; `head` is the length of `Record.pack`."""

_PAIRS: Final = struct.Struct(f">{WORDS // 2}Q")  # of the words of a header: half as many numbers
_HEAD: Final = struct.Struct(">H")  # of a record, at `_HEAD_AT`
_HEAD_AT: Final = RECORD["head"] - 1
_NO_TTL: Final = -1.0
_replace = msgspec.structs.replace


class Keys(NamedTuple):
    """The Redis keys of a session and of its index."""

    bucket: int
    session: bytes
    listing: bytes
    prefix: bytes
    """The common prefix of the keys of all sessions in the same namespace and bucket."""
    member: bytes
    """The rest of the session's key: the session id."""
    owners: bytes
    """The common prefix of the keys of the indexes of all owners in the same namespace and bucket."""


@lru_cache(4_096)
def keys_of(namespace: str, session: bytes) -> Keys:
    """Return the Redis keys of a session.

    No two sessions share a key, because the key contains the length of the namespace and ends with the session id.  A
    hash tag is the text between the first opening brace and the next closing one
    (redis.io/docs/reference/cluster-spec).  The first braces of a key enclose the bucket.
    """
    tenant = namespace.encode()
    bucket = crc32(session, crc32(tenant)) % BUCKETS
    prefix, owners = prefix_of(bucket, namespace), owners_prefix_of(bucket, namespace)
    return Keys(bucket, prefix + session, index_of(bucket, namespace, None), prefix, session, owners)


def prefix_of(bucket: int, namespace: str) -> bytes:
    """Return the common prefix of the keys of all sessions in a bucket and namespace."""
    tenant = namespace.encode()
    return b"turnlog:{%d}:s:%d:%b:" % (bucket, len(tenant), tenant)


def owners_prefix_of(bucket: int, namespace: str) -> bytes:
    """Return the common prefix of the keys of the indexes of all owners in a bucket and namespace."""
    tenant = namespace.encode()
    return b"turnlog:{%d}:o:%d:%b:" % (bucket, len(tenant), tenant)


def key_of(place: object) -> Key | None:
    """Return the session of a Redis key; None if it is not the key of a session."""
    _, tag, rest = place.partition(b"}:s:") if isinstance(place, bytes) else (b"", b"", b"")
    length, _, names = rest.partition(b":")
    return Key(names[: int(length)].decode(), names[int(length) + 1 :].decode()) if tag else None


def listed_namespace(name: bytes) -> str:
    """Return a namespace from the set of a bucket.

    Raises:
        CorruptRecord: The entry is not a namespace.
    """
    try:
        return Key(name.decode(), "-").namespace  # `Key` checks the namespace; the session id is arbitrary
    except (UnicodeDecodeError, InvalidInput):
        raise CorruptRecord(f"the list of namespaces has the damaged entry {name!r}") from None


def index_of(bucket: int, namespace: str, owner: str | None) -> bytes:
    """Return the Redis key of an index: of all sessions of a bucket and namespace, or of the sessions of one owner."""
    if not owner:
        return b"turnlog:{%d}:i:%b" % (bucket, namespace.encode())
    return owners_prefix_of(bucket, namespace) + owner.encode()


@lru_cache(256)
def indexes_of(namespace: str, owner: str | None) -> tuple[bytes, ...]:
    """Return the Redis keys of the indexes of all buckets, as `index_of`."""
    return tuple(index_of(bucket, namespace, owner) for bucket in range(BUCKETS))


def namespaces_of(bucket: int) -> tuple[bytes, bytes]:
    """Return the Redis key of a bucket's namespaces, and the common prefix of the keys of their indexes."""
    return b"turnlog:{%d}:n" % bucket, b"turnlog:{%d}:i:" % bucket


# ---------------------------------------------------------------------------------------------------------- the header


def header_bytes(header: Header) -> bytes:
    """Return the first element for a header, without the sum; a script adds the sum after it has set its numbers."""
    h, v, owner = header, header.version, header.owner.encode()
    ttl, length = _NO_TTL if h.ttl is None else h.ttl, len(owner)
    numbers = HEADER.struct.pack(
        *(h.created, h.updated, h.first, h.start, h.bytes, h.messages_until),
        *(v.rounds, v.generation, v.epoch, ttl, h.changes, 0, length),
    )
    return b"%b%b%b" % (numbers, owner, h.pack())


def header_from(key: Key, data: bytes, metadata: bytes | None, left: int) -> Header:
    """Return the stored header.

    Args:
        key: The session.
        data: The first element.
        metadata: The second element; None: the metadata are not needed.
        left: Milliseconds until the session expires; negative: it never expires.

    Raises:
        CorruptRecord: The header is damaged, or belongs to another session.
    """
    try:
        *numbers, total, length = HEADER.struct.unpack_from(data)
        owner, packed = data[HEADER.size : HEADER.size + length], data[HEADER.size + length :]
        header = Header.unpack(key, packed, updated=0.0, expires=None)
        words = reduce(xor, _PAIRS.unpack_from(data))
        if total != (words >> 32 ^ words & 0xFFFF_FFFF) or owner != header.owner.encode():
            raise CorruptRecord("its header is damaged", key=key)
        header = _with_numbers(header, numbers, left)
        if not (  # spelled out, because each session of a page is checked
            0 <= header.first <= MAX_NUMBER
            and 0 <= header.start <= MAX_NUMBER
            and -MAX_NUMBER <= header.bytes <= MAX_NUMBER
            and 0 <= header.changes <= MAX_NUMBER
            and -MAX_NUMBER <= header.created <= MAX_NUMBER
            and 0 <= header.updated <= MAX_NUMBER
        ):
            raise CorruptRecord("a number in its header is out of bounds", key=key)
    except (struct.error, ValueError, OverflowError) as error:
        raise CorruptRecord(f"its header cannot be read: {error}", key=key) from None
    return header if metadata is None else header.with_metadata(metadata)


def owners_of(key: Key, data: bytes) -> set[bytes]:
    """Return the owners that a damaged header names: in the element's text, and in the packed header if it is readable.

    Args:
        key: The session.
        data: The first element.
    """
    start = HEADER["owner"]
    length = data[start - 1] if len(data) >= start else 0
    owners = {data[start : start + length]}
    with suppress(CorruptRecord):
        owners.add(Header.unpack(key, data[start + length :], updated=0.0, expires=None).owner.encode())
    return owners


def completed(header: Header, data: bytes, left: int) -> Header:
    """Return the header with the numbers that scripts set, and its expiry.

    Args:
        header: The header without these numbers.
        data: The first element of this header.
        left: As in `header_from`.
    """
    return _with_numbers(header, HEADER.struct.unpack_from(data)[:-2], left)


def _with_numbers(header: Header, numbers: Sequence[Any], left: int) -> Header:
    created, updated, first, start, size, *_, changes = numbers
    return _replace(
        header,
        first=int(first),
        start=int(start),
        bytes=int(size),
        created=created,
        updated=updated,
        expires=expiry(left),
        changes=int(changes),
    )


def expiry(left: int) -> float | None:
    """Return the seconds until a session expires; None: it never expires.

    Args:
        left: As in `header_from`.
    """
    return None if left < 0 else left / 1000


def ttl_text(ttl: float | None) -> str:
    """Return the backend's time to live as an argument of a script."""
    return "" if ttl is None else repr(ttl)


# ---------------------------------------------------------------------------------------------------------- the records


def record_bytes(key: Key, record: Record) -> bytes:
    """Return the element for a record."""
    r, head = record, record.pack(key)
    numbers = RECORD.struct.pack(r.number, r.turns, r.count, r.messages_until, r.size, r.rounds_until, len(head))
    return b"%b%b%b" % (numbers, head, r.payload)


def records_from(key: Key, rows: Iterable[bytes]) -> list[Record]:
    """Return the stored records.

    Raises:
        CorruptRecord: A record is damaged, or belongs to another session.
    """
    try:
        return list(Record.unpack_each(key, _heads_and_payloads(rows)))
    except struct.error:
        raise CorruptRecord("the head of a record is truncated", key=key) from None


def _heads_and_payloads(rows: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    size, length, place = RECORD.size, _HEAD.unpack_from, _HEAD_AT
    for data in rows:
        stop = size + length(data, place)[0]
        yield data[size:stop], data[stop:]


def head_of(data: bytes) -> bytes:
    """Return the part of a record's element before the payload."""
    return data[: RECORD.size + _HEAD.unpack_from(data, _HEAD_AT)[0]]


# ---------------------------------------------------------------------------------------------------------- the changes


def change_hash(change_id: str) -> bytes:
    """Return the hash that identifies a change: 16 bytes of BLAKE2b (RFC 7693) of its id."""
    return blake2b(change_id.encode(), digest_size=HASH_BYTES).digest()
