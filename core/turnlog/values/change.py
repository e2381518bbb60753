"""`Change` and `Receipt`: the input and the output of a commit."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Literal, TypeAlias

import msgspec

from ..errors import InvalidInput, TooLarge
from ..limits import MAX_MESSAGES, MAX_TTL, MIN_TTL
from .checks import check_number, shown
from .ids import check_id, new_id
from .json_value import JSON, canonical
from .key import Key
from .metadata import Metadata
from .record import Record
from .session import SessionInfo
from .times import Times
from .version import Condition, ExactVersion, SameSession, Version, check_version, version_of

_MAX_FIRST = 2**52  # leaves enough numbers below limits.MAX_NUMBER for all turns that follow

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
"""`save(..., expect=ANY)`: overwrite the stored history."""

Expect: TypeAlias = Condition | Literal[Mark.ABSENT, Mark.PRESENT] | None
"""The condition of a write.

`ABSENT`, `PRESENT`, `version.session` (the same session, even with other turns), `version` (the same turns),
`version.exact` (the same turns, metadata, owner and time to live), or None: no condition.
"""


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, repr_omit_defaults=True):
    """The input of a commit, which applies all of it or nothing, once per id.

    A backend applies the parts in this order: keep the turns numbered below `keep`, append, retain the last `retain`
    turns, merge the metadata, set owner and time to live, set the times.  The constructor checks the parts.  A change
    that is committed again is stored once.

    Attributes:
        id: 1 to 255 bytes of UTF-8; made once, before the first attempt.
        append: The records to append.
        keep: Cut the turns numbered `keep` and above; None: keep all turns.
        retain: After that, drop the records that end before the last `retain` turns; None: keep all turns.
        max_bytes: Refuse the change (`TooLarge`) if it makes the session larger than before, and larger than this
            number of bytes of encoded records before compression and encryption; None: no limit.
        metadata: Values to set, by name; None removes a name.
        owner: The new owner of the session; the empty string removes the owner; None: no change.
        ttl: The session's own time to live in seconds; 0: the session never expires; None: no change.
        expect: The condition on the session (`Expect`).
        for_owner: Apply the change only to a session of this owner; sessions of others do not exist for this change.  A
            session that the change creates belongs to the owner.
        times: For tools that move sessions: the times of the session in another store; None: the backend sets the times
            by its clock.  The next use of the session moves the expiry as usual, and the next change of turns sets
            `updated`.  If a tool writes a session in several changes, each change must have the times, and the last
            change decides.  `times.expires` takes precedence over `ttl`; if it is in the past, no session remains.
        first: For layers and backends: the number of the first turn of a session that this change creates; at most
            2**52.
        restored: For layers and backends: number of records in `append` that a layer has added to the request, because
            it cuts more turns than the request and appends the rest of them again.  The receipt's `number` skips them.
        asked: For layers and backends: the digest of the request, if a layer made this change from another one; None:
            the digest of this change.

    Raises:
        InvalidInput: A part breaks a rule, or the change has no part.
        TooLarge: The change has more than 10,000 messages, or too much metadata.
    """

    id: str = msgspec.field(default_factory=new_id)
    append: tuple[Record, ...] = ()
    keep: int | None = None
    retain: int | None = None
    max_bytes: int | None = None
    metadata: Mapping[str, JSON] | None = None
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
                raise InvalidInput(f"first must be at most 2**52, not {self.first}: later turns need higher numbers")
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
            raise TooLarge(f"a change has {count} messages, the limit is {MAX_MESSAGES}: write several changes")

    @property
    def describes(self) -> bool:
        """Whether the change sets metadata, owner or time to live."""
        return self.metadata is not None or self.owner is not None or self.ttl is not None

    @property
    def digest(self) -> bytes:
        """The digest of the request: 16 bytes, made at the first use.  Layers keep it.

        It covers `append`, `keep`, `metadata`, `owner` and `ttl`.  It does not cover `expect`, `for_owner`, `retain`,
        `max_bytes` and `first`, which callers vary or the configuration sets.  It also does not cover the times of
        turns and of the session.
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
        metadata: Mapping[str, JSON] | None = None,
        expect: Expect = None,
        restored: int = 0,
    ) -> Change:
        """Return the same request in another form, for layers: the id and the digest stay.

        The new change keeps no reference to the old one.

        Args:
            append: Other records; None: no change.
            keep: Another cut; None: no change.
            metadata: Other metadata; None: no change.
            expect: Another condition; None: no change.
            restored: Number of records before the records of the request; 0: no change.
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
    """Refuse a value that is neither a condition nor None.

    Raises:
        InvalidInput: The value has another type, such as the text of a version.
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
    """Return the digest of a copy (see `Change.digest`).  It covers the request, but not the copied turns.

    Args:
        source: The session to copy.
        at: Copy only the turns numbered below this; None: all.
    """
    return digest_of("copy", source.namespace, source.session, at)


def check_ttl(value: object) -> float:
    """Return a time to live in seconds as a float.

    Raises:
        InvalidInput: The value is neither 0 nor from a millisecond to ten years.
    """
    if type(value) is not int and type(value) is not float:
        hint = ": 30 days are 30 * 86400; a text such as '30d' can stand in a URL" if isinstance(value, str) else ""
        raise InvalidInput(f"ttl must be a number of seconds, not {shown(value)}{hint}")
    if value and not MIN_TTL <= value <= MAX_TTL:
        raise InvalidInput(f"ttl must be 0 (never expires), or {MIN_TTL} to {MAX_TTL:.0f} seconds, not {shown(value)}")
    return float(value)


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The output of a commit.

    Attributes:
        version: The version of the session after the commit; for a repeat, the version after the first commit.
        number: The number of the first turn that the change began or continued; None if it appended nothing.
        first: The number of the first stored turn.
        turns: One more than the number of the last turn.
        messages: Number of stored messages.
        previous: The version before the commit; None if the session did not exist; for a repeat, `version`.
        expires_in: Seconds until the session expires if it is not used; None if it does not expire.
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
            info: The info of the session.
            number: The number of the turn of the write; None if the write has no turn.
        """
        version = info.version
        return cls(version, number, info.first, info.turns, info.messages, version, info.expires_in)
