"""The offline model: a few rules that answer from the history, to try turnlog without a network or a key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from turnlog import Message, assistant

__all__ = ["offline"]

_WHO: Final = (
    "I am turnlog's offline model: I answer by a few rules, there is no network and no language model behind me."
)
_ABLE: Final = (
    "I understand 'My name is Alice' and 'My favourite colour is blue', and answer 'What is my name?', "
    "'What did I say first?' and 'How many messages are there?'."
)
_REAL: Final = (
    "For a real model, give the pipeline any async callable, or register it under the entry points turnlog.models "
    "and name it: turnlog chat --model NAME."
)

_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_END: Final = r"(?=\s*(?:[,;]|\band my\b|\bbut\b|$))"
_STATED: Final = re.compile(rf"\bmy ([\w'-]+(?: [\w'-]+){{0,3}}?) (?:is|are) (?!not\b)(\S.*?){_END}", re.IGNORECASE)
_CALLED: Final = re.compile(rf"\b(?:i am|i'm) called (?!not\b)(\S.*?){_END}", re.IGNORECASE)
# "I'm tired" states no name: a name is a row of capitalised words, at the end of a clause or before "and" or "from"
_I_AM: Final = re.compile(
    r"^(?:\w+[,!]? )??(?:[Ii] am|[Ii]'m) ((?:[^\W\d_a-z][\w'.-]*)(?: [^\W\d_a-z][\w'-]*){0,3})"
    r"(?=\s*(?:[,;]|\band\b|\bfrom\b|$))"
)
_NAME_ENDS: Final = re.compile(r"\s+(?:and|from|but|or)\b.*$", re.IGNORECASE)

_ASKED: Final = re.compile(
    r"\b(?:what(?:'s| is| are| was| were)|(?:do|can) you (?:know|remember|recall|tell me)|tell me) (?:what )?"
    r"my ([\w'-]+(?: [\w'-]+){0,3}?)(?: is| are| was| were)?[\s?.!]*$",
    re.IGNORECASE,
)
_WHO_AM_I: Final = re.compile(r"\bwho (?:am i|i am)\b|\bwhat am i called\b", re.IGNORECASE)
_SAID: Final = re.compile(
    r"\bwhat (?:did i|have i) (?:just )?(?:say|said|ask|asked|tell you|told you|write|written)"
    r"(?: (?:at )?(first|last|before))?[\s?.!]*$"
    r"|\bwhat (?:was|were|is) (?:my|the) (first|last|previous) (?:message|question|words?|thing (?:that )?i said)\b",
    re.IGNORECASE,
)
_HOW_MANY: Final = re.compile(r"\bhow many messages\b", re.IGNORECASE)


async def offline(messages: Sequence[Message], **options: object) -> Message:  # noqa: ARG001 - models take options
    """Answer the last message by rules that use only the given messages.

    The model keeps no state and does not know the messages that a window leaves out.  The same messages get the same
    answer.

    Args:
        messages: The history, followed by the user's message.
        options: Ignored; models must accept options.
    """
    said = [message.text for message in messages if message.role == "user"]
    answer = _answer(messages, said)
    if answer is None:
        count = _counted(sum(message.role != "system" for message in messages[:-1]), "earlier message")
        answer = f"{_WHO} I remember {count} of this conversation. {_ABLE} {_REAL}"
    elif not any(message.role == "assistant" for message in messages):
        answer = f"{answer} ({_WHO})"
    return assistant(answer)


def _answer(messages: Sequence[Message], said: Sequence[str]) -> str | None:
    if not said:
        return None
    now, before = said[-1], said[:-1]
    if found := _SAID.search(now):
        return _what_was_said(before, first="first" in found.groups())
    if _HOW_MANY.search(now):
        return _how_many(messages[:-1])
    if wanted := _question(now):
        known = _facts(said).get(wanted)
        if known is None:
            return f"I do not know your {wanted}: you have not told me in this conversation, as far as I was given it."
        return f"Your {wanted} {_verb(wanted)} {known}."
    told = _facts([now])
    if "name" in told:
        return f"Hello, {told['name']}!"
    if told:
        return " ".join(f"Noted: your {name} {_verb(name)} {value}." for name, value in told.items())
    return None


def _question(text: str) -> str | None:
    """Return the name of the fact that the last sentence asks for, such as "name"; None if it asks for none."""
    last = _SENTENCE.split(_plain(text))[-1]
    if _WHO_AM_I.search(last):
        return "name"
    found = _ASKED.search(last)
    return _known_as(found[1]) if found else None


def _facts(said: Sequence[str]) -> dict[str, str]:
    """Return the facts that the user has stated, by name; the last statement wins."""
    facts: dict[str, str] = {}
    for text in said:
        for part in _SENTENCE.split(_plain(text)):
            if part.endswith("?") or _question(part):
                continue
            sentence = part.rstrip(".! ")
            for found in _STATED.finditer(sentence):
                facts[_known_as(found[1])] = found[2]
            if called := _CALLED.search(sentence) or _I_AM.search(sentence):
                facts["name"] = called[1]
    if "name" in facts:
        facts["name"] = _NAME_ENDS.sub("", facts["name"])
    return facts


def _what_was_said(before: Sequence[str], *, first: bool) -> str:
    if not before:
        return "You have said nothing before this, as far as I was given it."
    return f"You said {'first' if first else 'last'}: {before[0 if first else -1]}"


def _how_many(before: Sequence[Message]) -> str:
    yours = sum(message.role == "user" for message in before)
    mine = sum(message.role == "assistant" for message in before)
    count = _counted(sum(message.role != "system" for message in before), "message")
    return f"I was given {count} before this one: {yours} of yours and {mine} of mine."


def _known_as(name: str) -> str:
    return name.lower().replace("favorite", "favourite").replace("color", "colour")


def _verb(name: str) -> str:
    return "are" if name.endswith("s") and not name.endswith("ss") else "is"


def _plain(text: str) -> str:
    return re.sub(r"\bmy name's\b", "my name is", text.strip().replace("’", "'"), flags=re.IGNORECASE)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
