"""The turns of a session as a page shows them: speakers, parts, calls with their results, and problems."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple

from turnlog import CorruptRecord, Message, Session, Turn
from turnlog.rules import outline_of

from ._json import json_line, json_text
from ._langgraph import error_of
from ._parts import Call, Data, Part, Result, Text, parts_of, unwrapped

MOST: Final = 200
"""The largest number of messages of a turn that a page shows at first: its first 20, and its last 180."""

_FIRST: Final = 20

_LABELS: Final = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}


@dataclass
class Shown:
    """Successive messages of one speaker.

    Attributes:
        speaker: `user`, `assistant`, `system`, `tool`, or `other` for an unknown speaker.
        name: The name in the messages, such as the name of an agent; empty if they have none.
        role: The role of an unknown speaker, such as `checkpoint` of LangGraph; else empty.
        parts: The parts.
        skipped: Number of messages after these that the page leaves out.
    """

    speaker: str
    name: str
    role: str = ""
    parts: list[Part] = field(default_factory=list)
    skipped: int = 0

    @property
    def label(self) -> str:
        """The name of the speaker for people; an unknown speaker has the role of the message, or `item`."""
        return _LABELS.get(self.speaker, self.role or "item")

    def is_followed_by(self, other: Shown) -> bool:
        """Return whether the next messages have the same speaker, and no message between them is left out."""
        return not self.skipped and (self.speaker, self.name, self.role) == (other.speaker, other.name, other.role)


class Problem(NamedTuple):
    """A sign that something went wrong, such as a tool that failed.

    Attributes:
        turn: The number of the turn.
        text: A description.
        detail: The beginning of the error; empty if there is none.
    """

    turn: int
    text: str
    detail: str = ""


@dataclass
class ShownTurn:
    """A turn as a page shows it.

    Attributes:
        number: The number of the turn.
        time: The time of its first round, in seconds since 1970; 0 if the turn is damaged.
        id: The id under which it was written.
        state: `open`, `interrupted`, `damaged`, or empty.
        count: Number of messages.
        messages: The messages, by speaker.
        problems: The signs that something went wrong in it.
        error: The error of a damaged turn, or of a task of LangGraph.
    """

    number: int
    time: float = 0.0
    id: str = ""
    state: str = ""
    count: int = 0
    messages: list[Shown] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    error: str = ""

    @property
    def is_long(self) -> bool:
        """True if the page shows only the first messages of the turn."""
        return self.count > MOST

    @property
    def parts(self) -> Iterator[Part]:
        """The parts of all messages."""
        for shown in self.messages:
            yield from shown.parts


def turns_of(session: Session) -> Iterator[Turn | CorruptRecord]:
    """Yield the turns one by one, so that damaged turns do not affect the others."""
    for number, records in groupby(session.records, key=lambda record: record.number):
        try:
            yield from Session(session.info, tuple(records)).turns
        except CorruptRecord as error:
            error.turn = number
            yield error


def conversation(turns: Iterable[Turn | CorruptRecord], *, whole: bool = False) -> list[ShownTurn]:
    """Return turns as a page shows them.  Each call holds its result, also if a later turn has the result.

    Args:
        turns: The turns, and an error for each damaged one.
        whole: Show all messages of a turn, also if there are more than 200.
    """
    waiting: defaultdict[str, deque[Call]] = defaultdict(deque)
    shown = [_turn(turn, waiting, whole=whole) for turn in turns]
    for turn in shown:
        turn.problems += _problems(turn)
    return shown


def _turn(turn: Turn | CorruptRecord, waiting: defaultdict[str, deque[Call]], *, whole: bool) -> ShownTurn:
    if isinstance(turn, CorruptRecord):
        return ShownTurn(turn.turn or 0, state="damaged", error=str(turn))
    state = "interrupted" if turn.interrupted else "open" if turn.open else ""
    shown = ShownTurn(turn.number, turn.time, turn.id, state, len(turn.messages), error=error_of(turn.messages))
    cut = 0 if whole else max(0, len(turn.messages) - MOST)
    for place, message in enumerate(turn.messages):
        if _FIRST <= place < _FIRST + cut:
            continue
        _add(shown.messages, message, waiting)
        if cut and place == _FIRST - 1:
            shown.messages.append(Shown("other", "", skipped=cut))
    return shown


def _add(shown: list[Shown], message: Message, waiting: defaultdict[str, deque[Call]]) -> None:
    """Add a message: a result goes into its call."""
    message = unwrapped(message)
    parts, name = [*parts_of(message)], message.get("name")
    thinks = any(isinstance(part, Text) and part.kind == "reasoning" for part in parts)  # an item without a role
    speaker = outline_of(message).speaker or ("assistant" if thinks else "other")
    left: list[Part] = []
    for part in parts:
        if isinstance(part, Result) and (calls := waiting.get(part.id)):
            calls.popleft().result = part
            continue
        if isinstance(part, Call):
            waiting[part.id].append(part)
        left.append(part)
    called = {part.name for part in left if isinstance(part, Call)}  # an item of a call has its name
    named = name if isinstance(name, str) and speaker != "tool" and name not in called else ""
    role = message.role or "" if speaker == "other" else ""
    for part in left:
        who = Shown(speaker, named, role)
        if isinstance(part, Text) and part.kind == "system":
            who = Shown("system", "")
        if not shown or not shown[-1].is_followed_by(who):
            shown.append(who)
        shown[-1].parts.append(part)


def _problems(turn: ShownTurn) -> Iterator[Problem]:
    if turn.state == "damaged":
        yield Problem(turn.number, "damaged", turn.error)
    elif turn.error:
        yield Problem(turn.number, "a task failed", turn.error)
    for part in turn.parts:
        if isinstance(part, Call):
            if part.result is None and turn.state != "open":
                yield Problem(turn.number, f"{part.name}: no result")
            elif part.result is not None and part.result.failed:
                yield Problem(turn.number, f"{part.name} failed", brief(part.result.content))
        elif isinstance(part, Result) and part.failed:
            yield Problem(turn.number, "a tool failed", brief(part.content))
        elif isinstance(part, Text) and part.kind == "refusal":
            yield Problem(turn.number, "refusal", part.text[:200])
    if turn.state == "interrupted":
        yield Problem(turn.number, "interrupted")


def brief(parts: Sequence[Part], length: int = 100) -> str:
    """Return the beginning of the content of a result, on one line."""
    for part in parts:
        if isinstance(part, Text):
            return json_line(part.text, length)
        if isinstance(part, Data):
            return json_line(part.value, length)
        return "image"
    return ""


def texts_of(message: Message) -> Iterator[str]:
    """Yield the texts of a message for a search: its texts, and the calls and results in it."""
    for part in parts_of(unwrapped(message)):
        if isinstance(part, Text):
            yield part.text
        elif isinstance(part, Call):
            yield f"{part.name}({_searched(part.arguments) if part.arguments else ''})"
        elif isinstance(part, Data):
            yield _searched(part.value)
        elif isinstance(part, Result):
            for one in part.content:
                if isinstance(one, Text):
                    yield one.text
                elif isinstance(one, Data):
                    yield _searched(one.value)


def _searched(value: object) -> str:
    """Return the whole text of a value of JSON; only its beginning if it is too deep to be written as JSON."""
    try:
        return json_text(value)
    except RecursionError:
        return json_line(value)
