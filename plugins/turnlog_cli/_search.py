"""`turnlog search`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final, NamedTuple

from turnlog import CorruptRecord, InvalidInput, Session, SessionNotFound, Store
from turnlog.config import open_existing

from ._namespaces import check_one, stores_of
from ._progress import progress
from ._show import parts_of, turns_of
from ._table import Table
from ._text import Code, as_json, complain, counted, note

_AROUND: Final = 40
"""Characters of a snippet on each side of what was found."""

_SPACE: Final = re.compile(r"\s+")


class Hit(NamedTuple):
    """A message that holds the text."""

    namespace: str
    session_id: str
    turn: int
    who: str
    snippet: str


def search(
    text: str,
    url: str | None,
    *,
    namespace: str | None,
    everywhere: bool,
    owner: str | None,
    limit: int,
    json: bool,
) -> int:
    """Print the messages that hold a text, in any case of its letters; every session is read.

    Args:
        text: What to look for.
        url: Where; None: in the store that the configuration names.
        namespace: The namespace; None: the one that the configuration names.
        everywhere: Look in all namespaces.
        owner: Only in the sessions of this owner.
        limit: How many at most; 0: all.
        json: An object a line instead of a table.

    Raises:
        InvalidInput: The text is blank, or the limit negative.
    """
    if not text.strip():
        raise InvalidInput("the text to look for is blank: give some")
    if limit < 0:
        raise InvalidInput(f"--limit must be a number from 0, not {limit}")
    check_one(namespace, everywhere=everywhere)
    return asyncio.run(_search(text, url, namespace, owner, limit, everywhere=everywhere, json=json))


async def _search(
    text: str, url: str | None, namespace: str | None, owner: str | None, limit: int, *, everywhere: bool, json: bool
) -> int:
    table = Table(*(["namespace"] if everywhere else []), "session", "turn", "who", "text")
    wanted, found, damaged = re.compile(re.escape(text), re.IGNORECASE), 0, 0
    async with open_existing(url, namespace=namespace) as store:
        with progress("search", prints=json) as show:
            async with aclosing(_found(store, wanted, owner, everywhere=everywhere)) as hits:
                async for hit in hits:
                    if isinstance(hit, CorruptRecord):
                        damaged += 1
                        complain(hit)
                    elif hit is None:
                        show(f"{found} found")
                    elif limit and found == limit:
                        note(f"turnlog: {counted(limit, 'message')} shown, there are more: --limit 0 shows all")
                        break
                    else:
                        found += 1
                        if json:
                            print(as_json(hit._asdict()))
                        else:
                            table.add(*map(str, hit if everywhere else hit[1:]))
    table.end()
    if not found:
        note(f"turnlog: no message holds {text!r}")
    return Code.FAILED if damaged else Code.FINE


async def _found(
    store: Store, wanted: re.Pattern[str], owner: str | None, *, everywhere: bool
) -> AsyncGenerator[Hit | CorruptRecord | None, None]:
    """Yield the messages, an error for each session or turn that cannot be read, and None after each session."""
    async for view in stores_of(store, everywhere=everywhere):
        try:
            async for info in view.sessions(owner=owner):
                try:
                    session = await view.session(info.key.session, touch=False)
                except CorruptRecord as error:
                    yield error
                except SessionNotFound:  # it was erased meanwhile
                    continue
                else:
                    for hit in _in_session(session, wanted):
                        yield hit
                yield None
        except CorruptRecord as error:  # of sessions that cannot be listed
            yield error


def _in_session(session: Session, wanted: re.Pattern[str]) -> Iterator[Hit | CorruptRecord]:
    key = session.info.key
    for turn in turns_of(session):
        if isinstance(turn, CorruptRecord):
            yield turn
            continue
        for message in turn.messages:
            for _, text in parts_of(message):
                if place := wanted.search(text):
                    yield Hit(key.namespace, key.session, turn.number, message.role or "item", _snippet(text, place))


def _snippet(text: str, place: re.Match[str]) -> str:
    start, end = max(0, place.start() - _AROUND), min(len(text), place.end() + _AROUND)
    shown = _SPACE.sub(" ", text[start:end]).strip()
    return f"{'... ' if start else ''}{shown}{' ...' if end < len(text) else ''}"
