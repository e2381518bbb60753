"""`Change` and `Receipt`: the input and the output of a commit."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Literal, TypeAlias

import msgspec

from ..errors import InvalidInput, TooLarge
from ..limits import MAX_MESSAGES, MAX_TTL, MIN_TTL
from .ids import check_id, new_id
from .json_value import canonical, check_number, shown
from .key import Key
from .metadata import Metadata, Value
from .record import Record
from .session import SessionInfo
from .times import Times
from .version import Condition, ExactVersion, SameSession, Version, check_version, version_of

_MAX_FIRST = 2**52  # so that no session comes to limits.MAX_NUMBER, however many turns it is given

_set = msgspec.structs.force_setattr


class Mark(enum.Enum):
    """The conditions that need no version."""

    ABSENT = "absent"
    PRESENT = "present"
    ANY = "any"

    def __repr__(self) -> str:
        return self.name


ABSENT: Final = Mark.ABSENT
"""`expect=ABSENT`: the session must not exist."""

PRESENT: Final = Mark.PRESENT
"""`expect=PRESENT`: the session must exist."""

ANY: Final = Mark.ANY
"""`save(..., expect=ANY)`: overwrite whatever is stored."""

Expect: TypeAlias = Condition | Literal[Mark.ABSENT, Mark.PRESENT] | None
"""The condition of a write.

`ABSENT`, `PRESENT`, `version.session` (the same session, whatever was added since), `version` (the same turns),
`version.exact` (the same turns, metadata, owner and time to live), or None: no condition.
"""


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, repr_omit_defaults=True):
    """What one commit does: all of it or nothing, once per id.

    A backend applies the parts in this order: keep the turns numbered below `keep`, append, retain the last `retain`
    turns, merge the metadata, set owner and time to live, set the times.  A change checks itself when it is made.  It
    may be committed again: it is stored once.

    Attributes:
        id: 1 to 255 bytes of UTF-8; made once, before the first try.
        append: Records to put at the end.
        keep: Cut the turns that are numbered `keep` and above; None keeps all.
        retain: Afterwards drop what lies wholly before the last `retain` turns; None keeps all.
        max_bytes: Refuse the change (`TooLarge`) if the session's records would take more bytes than this, encoded and
            before a layer compresses or encrypts them, and more than before; None: no limit.
        metadata: Values to set, by name; None removes a name.
        owner: The session's new owner; the empty string clears it.
        ttl: The session's own time to live, in seconds; 0 means that it never expires; None leaves it as it is.
        expect: The condition on the session (`Expect`).
        for_owner: Only if the session belongs to this owner: otherwise it does not exist for this change.  A session
            that the change makes belongs to the owner.
        times: For tools that move sessions: the session's times in another store, in place of those that the backend
            sets by its clock.  They hold until the next use, which moves the expiry as always, and the next change of
            turns, which sets `updated`.  If a tool stores a session in several changes, each carries the times, and
            the last one decides.  `times.expires` prevails over `ttl`; if it has passed, no session is left.  None:
            the backend sets them.
        first: For layers and backends: the number of the first turn, if this change makes the session; at most 2**52.
        restored: For layers and backends: how many of the records to append were not in the request, because a layer
            had to cut more than `keep` and puts them back.  The receipt's `number` does not count them.
        asked: For layers and backends: the digest of the request that a layer made this change from; None: of itself.

    Raises:
        InvalidInput: A part breaks a rule, or there is none.
        TooLarge: More than 10,000 messages, or too much metadata.
    """

    id: str = msgspec.field(default_factory=new_id)
    append: tuple[Record, ...] = ()
    keep: int | None = None
    retain: int | None = None
    max_bytes: int | None = None
    metadata: Mapping[str, Value] | None = None
    owner: str | None = None
    ttl: float | None = None
    expect: Expect = None
    for_owner: str | None = None
    times: Times | None = None
    first: int = 0
    restored: int = 0
    asked: bytes | None = None

    def __post_init__(self) -> None:
        check_id(self.id, "change id")
        if self.append or type(self.append) is not tuple:
            self._check_append()
        elif all(part is None for part in (self.metadata, self.owner, self.ttl, self.keep, self.retain, self.times)):
            raise InvalidInput("a change must have a part: append, keep, retain, metadata, owner, ttl or times")
        if self.keep is not None:
            check_number(self.keep, "keep", least=0)
        if self.retain is not None:
            check_number(self.retain, "retain", least=1)
        if self.max_bytes is not None:
            check_number(self.max_bytes, "max_bytes", least=1)
        if self.first or type(self.first) is not int:
            check_number(self.first, "first", least=0)
            if self.first > _MAX_FIRST:
                raise InvalidInput(f"first must be at most 2**52, not {self.first}: turns behind it need numbers, too")
        if self.metadata is not None:
            _set(self, "metadata", Metadata.of(self.metadata))
        if self.owner is not None and self.owner != "":
            check_id(self.owner, "owner")
        if self.ttl is not None:
            _set(self, "ttl", check_ttl(self.ttl))
        if self.expect is not None:
            check_expect(self.expect)
        if self.for_owner is not None:
            check_id(self.for_owner, "for_owner")
        if self.times is not None and type(self.times) is not Times:
            raise InvalidInput(f"times must be Times, not {type(self.times).__name__}")

    def _check_append(self) -> None:
        if type(self.append) is not tuple:
            raise InvalidInput(f"append must be a tuple of records, not {type(self.append).__name__}")
        before: Record | None = None
        count = 0
        for place, record in enumerate(self.append):
            if type(record) is not Record:
                raise InvalidInput(f"append must hold records, not {type(record).__name__}")
            count += record.count
            if before is not None and not record.turns and not record.follows(before) and place != self.restored:
                raise InvalidInput(
                    f"part {record.part} of turn {record.id!r} must follow its part {record.part - 1}, still open"
                )
            before = record
        if count > MAX_MESSAGES and self.asked is None:
            raise TooLarge(f"a change of {count} messages, the limit is {MAX_MESSAGES}: write them in several")

    @property
    def describes(self) -> bool:
        """Whether it sets metadata, owner or time to live."""
        return self.metadata is not None or self.owner is not None or self.ttl is not None

    @property
    def digest(self) -> bytes:
        """16 bytes that are the same for the same request, made when first needed; layers carry them over.

        They cover `append`, `keep`, `metadata`, `owner` and `ttl`.  They do not cover `expect`, `for_owner`, `retain`,
        `max_bytes` and `first`, which callers vary or the configuration sets, nor the times of turns and of the
        session.
        """
        if self.asked is None:
            metadata = None if self.metadata is None else sorted(Metadata.of(self.metadata).canonical().items())
            body = [[r.id, r.part, r.open, r.canonical()] for r in self.append]
            _set(self, "asked", digest_of(body, self.keep, metadata, self.owner, self.ttl))
        return self.asked  # type: ignore[return-value]  # set above

    def rewrite(
        self,
        *,
        append: tuple[Record, ...] | None = None,
        keep: int | None = None,
        metadata: Mapping[str, Value] | None = None,
        expect: Expect = None,
        restored: int = 0,
    ) -> Change:
        """Return the same request in another form, for layers: the id and the digest stay.

        The new change keeps no reference to the old one.

        Args:
            append: Other records; None leaves them.
            keep: Another cut; None leaves it.
            metadata: Other metadata; None leaves them.
            expect: Another condition; None leaves it.
            restored: How many records precede those of the request; 0 leaves it.
        """
        return msgspec.structs.replace(
            self,
            append=self.append if append is None else append,
            keep=self.keep if keep is None else keep,
            metadata=self.metadata if metadata is None else metadata,
            expect=self.expect if expect is None else expect,
            restored=restored or self.restored,
            asked=self.digest,
        )


def check_expect(expect: object) -> None:
    """Refuse what is neither a condition nor None.

    Raises:
        InvalidInput: It is of another type, such as a version's text.
    """
    if expect is None or expect is ABSENT or expect is PRESENT:
        return
    if type(expect) is SameSession or type(expect) is ExactVersion:
        expect = version_of(expect)
    if expect is ANY:
        raise InvalidInput(
            "expect must not be ANY: only Store.save takes it; to write without a condition, leave it out"
        )
    check_version(expect, "expect", "a Version, version.session, version.exact, ABSENT or PRESENT")


def digest_of(*parts: object) -> bytes:
    """Return the first 16 bytes of the SHA-256 of the parts in canonical MessagePack."""
    return sha256(canonical(parts)).digest()[:16]


def copy_digest(source: Key, at: int | None) -> bytes:
    """Return the digest of a copy (see `Change.digest`): of the request, not of the turns that it found.

    Args:
        source: The session that is copied.
        at: Only the turns numbered below this; None: all.
    """
    return digest_of("copy", source.namespace, source.session, at)


def check_ttl(value: object) -> float:
    """Return a time to live in seconds as a float.

    Raises:
        InvalidInput: It is neither 0 nor from a millisecond to ten years.
    """
    if type(value) is not int and type(value) is not float:
        hint = ": 30 days are 30 * 86400; a text such as '30d' can stand in a URL" if isinstance(value, str) else ""
        raise InvalidInput(f"ttl must be a number of seconds, not {shown(value)}{hint}")
    if value and not MIN_TTL <= value <= MAX_TTL:
        raise InvalidInput(f"ttl must be 0 (never expires), or {MIN_TTL} to {MAX_TTL:.0f} seconds, not {shown(value)}")
    return float(value)


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The answer to a commit.

    Attributes:
        version: The session's version now; in a repeat, the version that this change made.
        number: The number of the first turn that the change began or continued; None if it appended nothing.
        first: The number of the first turn that is still there.
        turns: How many turns the session has seen: one more than the last one's number.
        messages: How many messages are there.
        previous: The version that the change was applied to; None if there was no session; `version` in a repeat.
        expires_in: Seconds until the session expires unless it is used; None if it does not.
    """

    version: Version
    number: int | None
    first: int
    turns: int
    messages: int
    previous: Version | None
    expires_in: float | None

    @classmethod
    def of(cls, info: SessionInfo, number: int | None = None) -> Receipt:
        """Return the receipt of a session that was read, for a write that changes nothing.

        Args:
            info: What was read of the session.
            number: The number of the turn that was to be written; None if there is none.
        """
        version = info.version
        return cls(version, number, info.first, info.turns, info.messages, version, info.expires_in)
