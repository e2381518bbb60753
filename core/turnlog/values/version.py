"""Versions: the state of a session that a reader saw, and the conditions on such a state."""

from __future__ import annotations

import base64
from typing import TypeAlias

import msgspec

from ..errors import InvalidInput
from ..limits import MAX_NUMBER
from .checks import check_number, shown
from .stored import UNREADABLE, Count, Token


class Version(msgspec.Struct, frozen=True, gc=False):
    """The state of a session that a reader saw: opaque, compared for equality only.

    Pass it as `since` to read the records after it, or as `expect` to write only if the session still has the same
    turns.  `version.session` is a weaker condition, and `version.exact` a stronger one.

    Attributes:
        epoch: Random bytes that are made with the session.  A session that is deleted and created again never repeats a
            version.
        generation: A number that rises whenever turns are cut off the end.
        rounds: Number of rounds up to the end of the session, dropped ones included.
        tip: A chain value over the epoch and the change ids so far.  A counter alone cannot distinguish a history that
            grew from a history that a fail-over lost and that grew again.
        stamp: A chain value over the changes of metadata, owner and time to live.
    """

    epoch: Token
    generation: Count
    rounds: Count
    tip: Token
    stamp: Token

    @property
    def session(self) -> SameSession:
        """The condition that the session is the same, even if turns were added or cut since."""
        return SameSession(self)

    @property
    def exact(self) -> ExactVersion:
        """The condition that the turns, the metadata, the owner and the time to live are the same."""
        return ExactVersion(self)

    def met_by(self, current: Version) -> bool:
        """Return whether the session still has the same turns; metadata, owner and time to live may differ."""
        return (
            self.tip == current.tip
            and self.rounds == current.rounds
            and self.generation == current.generation
            and self.epoch == current.epoch
        )

    def is_later_than(self, other: Version) -> bool:
        """Return whether this is a later state of the turns of the same session.  For layers.

        Return False for versions of different sessions, or if only metadata, owner or time to live differ.
        """
        return self.epoch == other.epoch and (self.generation, self.rounds) > (other.generation, other.rounds)

    def __str__(self) -> str:
        """Return a text without spaces, for an ETag or a form field; `Version.parse` reads it."""
        return base64.urlsafe_b64encode(_encode(msgspec.structs.astuple(self))).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Version:
        """Return the version for its text.

        Raises:
            InvalidInput: `text` is not the text of a version.
        """
        try:
            version = cls(*_decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)))
            check_version(version, "text")
        except UNREADABLE:  # InvalidInput is a ValueError
            raise InvalidInput(f"{shown(text)} is not the text of a version: pass the result of str(version)") from None
        return version

    def __repr__(self) -> str:
        epoch, tip, stamp = (part.hex()[:8] for part in (self.epoch, self.tip, self.stamp))
        return f"<Version {epoch}:{self.generation}.{self.rounds}:{tip}:{stamp}>"


class SameSession(msgspec.Struct, frozen=True, gc=False):
    """The condition `version.session`: the session was not deleted and created again since.

    Attributes:
        version: The version that a reader saw.
    """

    version: Version

    def met_by(self, current: Version) -> bool:
        """Return whether the session is still the same session."""
        return self.version.epoch == current.epoch

    def __repr__(self) -> str:
        return f"{self.version!r}.session"


class ExactVersion(msgspec.Struct, frozen=True, gc=False):
    """The condition `version.exact`: the turns, metadata, owner and time to live have not changed since.

    Attributes:
        version: The version that a reader saw.
    """

    version: Version

    def met_by(self, current: Version) -> bool:
        """Return whether the session is still at this version."""
        return self.version == current

    def __repr__(self) -> str:
        return f"{self.version!r}.exact"


Condition: TypeAlias = Version | SameSession | ExactVersion
"""A condition on an existing session; each has `met_by(current)`."""


def version_of(condition: Condition) -> Version:
    """Return the version of a condition."""
    return condition if type(condition) is Version else condition.version  # type: ignore[union-attr]


def check_version(value: object, name: str, wanted: str = "a Version") -> None:
    """Refuse a value that is not a version from a store.

    Raises:
        InvalidInput: The value has another type, such as the text of a version, or has a field that no store makes.
    """
    if type(value) is not Version:
        hint = ""
        if isinstance(getattr(value, "version", None), Version):
            hint = ": pass its attribute version"
        elif isinstance(value, str):
            hint = ": for the text of a version, pass Version.parse(text)"
        raise InvalidInput(f"{name} must be {wanted}, not {shown(value)}{hint}")
    for number in (value.generation, value.rounds):
        if type(number) is not int or not 0 <= number <= MAX_NUMBER:
            check_number(number, f"a number in {name}", least=0)
    for part in (value.epoch, value.tip, value.stamp):
        if type(part) is not bytes:
            raise InvalidInput(f"{name} holds {shown(part)}, which must be bytes: pass a version that a store returned")


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Token, Count, Count, Token, Token]).decode
