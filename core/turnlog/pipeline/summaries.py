"""Summaries that replace old turns in the window.  The turns stay stored."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final, cast

import msgspec

from ..errors import Conflict, InvalidInput, ModelError, SessionNotFound
from ..store import Store
from ..values.checks import check_number
from ..values.json_form import json_text
from ..values.json_value import JSON
from ..values.message import Message, system, user
from ..values.session import SessionInfo
from ..values.turn import Turn
from ..values.version import Version
from .model import Checked, Model, ask
from .surrogates import paired

_NAME: Final = "turnlog.summary"
"""The name of the summary in a session's metadata."""

_CHUNK: Final = 100
"""Maximum number of turns that one request summarises; later requests summarise the rest."""

_TRIES: Final = 5
"""Number of attempts to store a summary while other metadata of the session change."""

PROMPT: Final = (
    "Summarise the conversation below for the assistant that continues it.  Keep names, numbers, decisions, the user's "
    "wishes and open questions.  Write at most 200 words.  If there is an earlier summary, include what it says."
)
"""The default instruction for the summarising model."""


class Summaries(msgspec.Struct, frozen=True, kw_only=True):
    """Settings for summaries of old turns.

    Attributes:
        model: The model that writes summaries.
        threshold: A summary is due when more than this many stored messages have no summary.
        keep: Minimum number of messages at the end that stay without a summary.
        prompt: The instruction for the model.
        automatic: Whether the pipeline makes a due summary after it has stored a turn.  If False, call
            `Pipeline.summarize`, for example from a task queue.

    Raises:
        InvalidInput: `keep` is not below `threshold`, or another attribute breaks its rule.
    """

    model: Model
    threshold: int = 40
    keep: int = 20
    prompt: str = PROMPT
    automatic: bool = True

    def __post_init__(self) -> None:
        if not callable(self.model):
            raise InvalidInput(f"Summaries(model) must be a model, not {type(self.model).__name__}")
        check_number(self.threshold, "Summaries(threshold=)", least=1)
        check_number(self.keep, "Summaries(keep=)", least=0)
        if self.keep >= self.threshold:
            raise InvalidInput(f"Summaries(keep={self.keep}) must be below threshold={self.threshold}")


class Summary(msgspec.Struct, frozen=True):
    """A stored summary.

    Attributes:
        text: The summary.
        until: The summary covers the turns numbered below this.
        turn: The id of the last turn that the summary covers.  If the stored turn has another id, it has been replaced.
        state: The epoch and the generation of the session.  While both are the same, no turn has been cut.  This check
            also works after retention has dropped the last covered turn.
    """

    text: str
    until: int
    turn: str
    state: str = ""

    @classmethod
    def of(cls, info: SessionInfo) -> Summary | None:
        """Return the summary of a session; None if the session has none."""
        if not info.metadata.encoded:
            return None
        try:
            return msgspec.convert(info.metadata.get(_NAME), cls)
        except msgspec.ValidationError:
            return None

    def is_of_state(self, version: Version) -> bool:
        """Return whether no turn of the session has been cut since the summary was made."""
        return self.state == _state_of(version)

    @property
    def message(self) -> Message:
        """The message that replaces the turns in a request to the model."""
        return system(f"Summary of the conversation so far:\n{self.text}")


def _state_of(version: Version) -> str:
    return f"{version.epoch.hex()}.{version.generation}"


async def covers(store: Store, info: SessionInfo, summary: Summary) -> bool:
    """Return whether the turns that a summary covers are unchanged since it was made."""
    if summary.is_of_state(info.version):
        return True
    if not info.first < summary.until <= info.turns:
        return False  # the last covered turn was undone, or it was dropped and cannot be compared
    try:
        found = await store.session(info.key.session, last=1, before=summary.until, touch=False)
    except SessionNotFound:
        return False
    last = found.turns[-1:]
    return found.version.epoch == info.version.epoch and [summary.until - 1, summary.turn] == [
        value for turn in last for value in (turn.number, turn.id)
    ]


async def summarize(store: Store, session_id: str, summaries: Summaries) -> Summary | None:
    """Summarise the turns of a session that no summary covers, except the last ones.

    Concurrent calls are safe: the first summary that is stored stays.

    Returns:
        The summary.  None if there are no such turns, or another call has stored a summary first.

    Raises:
        SessionNotFound: The session does not exist.
        Exception: The model failed.
    """
    end = await store.session(session_id, last=summaries.keep or 1, touch=False)
    info = end.info
    kept = end.turns if summaries.keep else [turn for turn in end.turns if turn.open]  # open: more rounds may follow
    stored = before = Summary.of(info)
    if before is not None and not await covers(store, info, before):
        before = None
    first = info.first if before is None else max(before.until, info.first)
    until = min(kept[0].number if kept else info.turns, first + _CHUNK)
    turns = await _between(store, session_id, first, until)
    if not turns:
        return None
    text = await _written(summaries, before, turns)
    summary = Summary(text, until, turns[-1].id, _state_of(info.version))
    return summary if await _stored(store, info, stored, summary) else None


async def _between(store: Store, session_id: str, first: int, until: int) -> Sequence[Turn]:
    """Return the turns numbered `first` to `until - 1`."""
    turns: Sequence[Turn] = ()
    place = until
    while place > first:
        found = (await store.session(session_id, last=until - first, before=place, touch=False)).turns
        if not found:
            break
        turns, place = (*found, *turns), found[0].number
    return [turn for turn in turns if turn.number >= first]


async def _written(summaries: Summaries, before: Summary | None, turns: Sequence[Turn]) -> str:
    lines = [] if before is None else [f"Earlier summary: {before.text}"]
    lines += [_line(message) for turn in turns for message in turn.messages]
    request = [system(summaries.prompt), user(paired("\n".join(lines)))]
    async with aclosing(ask(summaries.model, request, {}, streamed=False)) as pieces:
        *_, answer = [piece async for piece in pieces]
    text = cast("Checked", answer).message.text.strip()
    if not text:
        raise ModelError("the model returned an empty summary, which cannot replace the turns")
    return text


def _line(message: Message) -> str:
    if message.role is not None and message.text:
        return f"{message.role}: {message.text}"
    return json_text(message.to_dict())


async def _stored(store: Store, info: SessionInfo, before: Summary | None, summary: Summary) -> bool:
    """Store a summary; return False if another task has stored one, or has cut or erased the session."""
    value: dict[str, Any] = msgspec.to_builtins(summary)
    metadata: dict[str, JSON] = {_NAME: value}
    for _ in range(_TRIES):
        try:
            await store.merge_metadata(info.key.session, metadata, expect=info.version.exact)
        except (Conflict, SessionNotFound):
            try:
                now = await store.info(info.key.session)
            except SessionNotFound:
                return False
            same = now.version.epoch == info.version.epoch and now.version.generation == info.version.generation
            if not same or Summary.of(now) != before:
                return False
            info = now
        else:
            return True
    return False
