"""What is asked of a store in one commit, and what it answers."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
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
from .version import Version, check_version

_MAX_FIRST = 2**52  # so that no session comes to limits.MAX_NUMBER, however many turns it is given

_set = msgspec.structs.force_setattr


class Mark(enum.Enum):
    """What `expect` can name beside a version."""

    ABSENT = "absent"
    ANY = "any"

    def __repr__(self) -> str:
        return self.name


ABSENT: Final = Mark.ABSENT
"""`expect=ABSENT`: the session must not exist."""

ANY: Final = Mark.ANY
"""`save(..., expect=ANY)`: overwrite whatever is there."""

Expect: TypeAlias = "Version | Literal[Mark.ABSENT] | None"
"""Where the session must be for the change to be stored; None: anywhere."""


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, repr_omit_defaults=True):
    """What one commit does, all of it or nothing, once per id.

    In this order: keep the turns numbered below `keep`, append, retain the last `retain` turns, merge metadata, set
    owner and time to live.  It checks itself when it is made.  It may be committed again: it is stored once.

    Attributes:
        id: 1 to 255 bytes of UTF-8; made once, before the first try.
        append: Records to put at the end.
        keep: Cut the turns that are numbered `keep` and above; None keeps all.
        retain: Afterwards drop what lies wholly before the last `retain` turns; None keeps all.
        max_bytes: Refuse the change (`TooLarge`) if the session would take more than this, and more than before; None:
            no limit.
        metadata: Values to set, by name; None removes a name.
        owner: Whose the session is; the empty string clears it.
        ttl: The session's own time to live, in seconds; 0 means that it never expires; None leaves it as it is.
        expect: The version the session must be at (`ABSENT`: it must not exist).  A change that adds or cuts turns is
            compared on turns, any other on the whole version.
        seal: One record to put in place of those that hold the same rounds.  Such a change has no other part.
        first: The number of the first turn, if this change creates the session; at most 2**52.
        restored: So many of the records to append were not asked for: a layer that had to cut more than `keep` puts
            them back.  They count for nothing in the receipt's `number`.

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
    seal: Record | None = None
    first: int = 0
    restored: int = 0
    asked: bytes | Change | None = None
    """Where `digest` comes from, if not from this change: itself, or the change that a layer made this one of."""

    def __post_init__(self) -> None:
        check_id(self.id, "change id")
        if self.append or type(self.append) is not tuple:
            self._check_append()
        elif all(part is None for part in (self.metadata, self.owner, self.ttl, self.keep, self.retain, self.seal)):
            raise InvalidInput("a change must ask for something: append, keep, retain, metadata, owner, ttl or seal")
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
        if self.expect is not None and self.expect is not ABSENT:
            check_version(self.expect, "expect", "a Version or ABSENT")
        if self.seal is not None:
            self._check_seal()

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

    def _check_seal(self) -> None:
        others = (self.append, self.keep, self.retain, self.metadata, self.owner, self.ttl, self.expect)
        if any(other not in (None, ()) for other in others):
            raise InvalidInput("a change that seals must do nothing else, and expect nothing")
        if type(self.seal) is not Record or not self.seal.turns:
            raise InvalidInput("seal must be a record that begins a turn")

    @property
    def digest(self) -> bytes:
        """16 bytes that are the same for the same request, made on first need and carried over by layers.

        They cover what is appended, `keep`, `metadata`, `owner` and `ttl`; not `expect`, `retain`, `max_bytes`, `first`
        and `seal`, which callers vary or configuration sets, nor the times of turns.
        """
        asked = self.asked
        if type(asked) is bytes:
            return asked
        if type(asked) is Change:
            return asked.digest
        metadata = None if self.metadata is None else sorted(Metadata.of(self.metadata).canonical().items())
        body = [[r.id, r.part, r.open, r.canonical()] for r in self.append]
        digest = digest_of(body, self.keep, metadata, self.owner, self.ttl)
        _set(self, "asked", digest)
        return digest

    def number_in(self, placed: Sequence[Record]) -> int | None:
        """What a receipt answers as `number`, where these are the records as they were placed."""
        return placed[self.restored].number if len(placed) > self.restored else None

    def rewrite(
        self,
        *,
        append: tuple[Record, ...] | None = None,
        keep: int | None = None,
        seal: Record | None = None,
        expect: Expect = None,
        restored: int = 0,
    ) -> Change:
        """The same request in another form, for layers: the id and the digest stay.

        Args:
            append: Other records; None leaves them.
            keep: Another cut; None leaves it.
            seal: Another sealed record; None leaves it.
            expect: Another expectation; None leaves it.
            restored: So many records before those that were asked for are put back; 0 leaves it.
        """
        return msgspec.structs.replace(
            self,
            append=self.append if append is None else append,
            keep=self.keep if keep is None else keep,
            seal=self.seal if seal is None else seal,
            expect=self.expect if expect is None else expect,
            restored=restored or self.restored,
            asked=self if self.asked is None else self.asked,
        )


def digest_of(*parts: object) -> bytes:
    """The first 16 bytes of the SHA-256 of the parts in canonical MessagePack."""
    return sha256(canonical(parts)).digest()[:16]


def copy_digest(source: Key, at: int | None) -> bytes:
    """The digest of a copy (see `Change.digest`): what it was asked to do, not what it found there.

    Args:
        source: Which session is copied.
        at: Only the turns numbered below this; None: all.
    """
    return digest_of("copy", source.namespace, source.session, at)


def check_ttl(value: object) -> float:
    """A time to live in seconds as a float: 0, or a millisecond to ten years."""
    if type(value) is not int and type(value) is not float:
        raise InvalidInput(f"ttl must be a number of seconds, not {shown(value)}")
    if value and not MIN_TTL <= value <= MAX_TTL:
        raise InvalidInput(f"ttl must be 0 (never) or from {MIN_TTL} s to {MAX_TTL:.0f} s, not {shown(value)}")
    return float(value)


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What a commit answers.

    Attributes:
        version: Where the session is now; in a repeat, where this change brought it.
        number: The number of the first turn that it appended to or began; None if it appended nothing.
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
