"""Versions: which state of a session a reader saw, and the conditions that can be made of one."""

from __future__ import annotations

import base64
from typing import TypeAlias

import msgspec

from ..errors import InvalidInput
from ..limits import MAX_NUMBER
from .json_value import check_number, shown
from .stored import UNREADABLE, Count, Token


class Version(msgspec.Struct, frozen=True, gc=False):
    """The state of a session that a reader saw: opaque, compared for equality only.

    Hand it back as `since` to read what follows, or as `expect` to write only if the session still has the same turns.
    `version.session` and `version.exact` are a weaker and a stronger condition.

    Attributes:
        epoch: Random, made with the session; a session that is deleted and made again never repeats a version.
        generation: Raised whenever turns are cut off the end.
        rounds: How many rounds the session has seen.
        tip: A chain value over the change ids up to there, from the epoch on.  A counter alone could not tell "it grew"
            from "it was lost in a fail-over and grew again".
        stamp: The same over the changes of metadata, owner and time to live.
    """

    epoch: Token
    generation: Count
    rounds: Count
    tip: Token
    stamp: Token

    @property
    def session(self) -> SameSession:
        """The condition that the session is this same one, whatever was added to it or cut from it since."""
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
        """Return whether this is a later state of the same session, by its turns.  For layers.

        False if they are of different sessions, or if only metadata, owner or time to live differ.
        """
        return self.epoch == other.epoch and (self.generation, self.rounds) > (other.generation, other.rounds)

    def __str__(self) -> str:
        """Return a text without spaces, for an ETag or a form field; `Version.parse` reads it."""
        return base64.urlsafe_b64encode(_encode(msgspec.structs.astuple(self))).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Version:
        """Return the version behind its text.

        Raises:
            InvalidInput: It is not a version's text.
        """
        try:
            version = cls(*_decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)))
            check_version(version, "text")
        except UNREADABLE:  # InvalidInput is a ValueError
            raise InvalidInput(f"{shown(text)} is not the text of a version") from None
        return version

    def __repr__(self) -> str:
        epoch, tip, stamp = (part.hex()[:8] for part in (self.epoch, self.tip, self.stamp))
        return f"<Version {epoch}:{self.generation}.{self.rounds}:{tip}:{stamp}>"


class SameSession(msgspec.Struct, frozen=True, gc=False):
    """The condition `version.session`: the session was not deleted and made again since.

    Attributes:
        version: The version that a reader saw.
    """

    version: Version

    def met_by(self, current: Version) -> bool:
        """Return whether the session is still the same one."""
        return self.version.epoch == current.epoch

    def __repr__(self) -> str:
        return f"{self.version!r}.session"


class ExactVersion(msgspec.Struct, frozen=True, gc=False):
    """The condition `version.exact`: neither turns nor metadata, owner or time to live have changed since.

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
    """Return the version that a condition was made of."""
    return condition if type(condition) is Version else condition.version  # type: ignore[union-attr]


def check_version(value: object, name: str, wanted: str = "a Version") -> None:
    """Refuse what is not a version as a store gives it.

    Raises:
        InvalidInput: It is of another type, such as a version's text, or holds a value that no store puts there.
    """
    if type(value) is not Version:
        hint = ""
        if isinstance(getattr(value, "version", None), Version):
            hint = ": pass its attribute version"
        elif isinstance(value, str):
            hint = ": Version.parse makes a version of its text"
        raise InvalidInput(f"{name} must be {wanted}, not {shown(value)}{hint}")
    for number in (value.generation, value.rounds):
        if type(number) is not int or not 0 <= number <= MAX_NUMBER:
            check_number(number, f"a number in {name}", least=0)
    for part in (value.epoch, value.tip, value.stamp):
        if type(part) is not bytes:
            raise InvalidInput(f"{name} holds {shown(part)}, which must be bytes: take a version as a store gave it")


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Token, Count, Count, Token, Token]).decode
