"""Which state of a session a reader saw."""

from __future__ import annotations

import base64

import msgspec

from ..errors import InvalidInput
from .json_value import check_number, shown


class Version(msgspec.Struct, frozen=True, gc=False):
    """Opaque: compare it for equality, hand it back as `expect` or `since`, never order it.

    Attributes:
        epoch: Random, made when the session is; a session that is deleted and made again never repeats a version.
        generation: Raised whenever turns are cut off the end.
        rounds: How many rounds the session has seen.
        tip: A chain value over the change ids up to there, from the epoch on.  A counter alone could not tell "it grew"
            from "it was lost in a fail-over and grew again".
        stamp: The same over the changes of metadata, owner and time to live.
    """

    epoch: bytes
    generation: int
    rounds: int
    tip: bytes
    stamp: bytes

    def same_turns(self, other: Version) -> bool:
        """Whether both saw the same turns; metadata, owner and time to live may differ."""
        return (
            self.tip == other.tip
            and self.rounds == other.rounds
            and self.generation == other.generation
            and self.epoch == other.epoch
        )

    def __str__(self) -> str:
        """A text without spaces, for an ETag or a form field; `Version.parse` reads it."""
        return base64.urlsafe_b64encode(_encode(self)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Version:
        """The version behind its text.

        Raises:
            InvalidInput: It is not a version's text.
        """
        try:
            version = _decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
            check_version(version, "text")
        except (ValueError, TypeError, msgspec.DecodeError):  # InvalidInput is a ValueError
            raise InvalidInput(f"{text!r} is not the text of a version") from None
        return version

    def __repr__(self) -> str:
        epoch, tip, stamp = (part.hex()[:8] for part in (self.epoch, self.tip, self.stamp))
        return f"<Version {epoch}:{self.generation}.{self.rounds}:{tip}:{stamp}>"


def check_version(value: object, name: str, wanted: str = "a Version") -> None:
    """Refuse what is no version: its text goes through `Version.parse` first.  One made by hand may hold anything."""
    if type(value) is not Version:
        hint = ": give its version" if isinstance(getattr(value, "version", None), Version) else ""
        raise InvalidInput(f"{name} must be {wanted}, not {shown(value)}{hint}")
    for number in (value.generation, value.rounds):
        check_number(number, f"a number in {name}", least=0)
    for part in (value.epoch, value.tip, value.stamp):
        if type(part) is not bytes:
            raise InvalidInput(f"{name} holds {shown(part)}, which must be bytes: take a version as a store gave it")


_wire = tuple[bytes, int, int, bytes, bytes]
_encode_wire = msgspec.msgpack.Encoder().encode
_decode_wire = msgspec.msgpack.Decoder(_wire).decode


def _encode(version: Version) -> bytes:
    return _encode_wire(msgspec.structs.astuple(version))


def _decode(data: bytes) -> Version:
    return Version(*_decode_wire(data))
