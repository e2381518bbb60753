"""`turnlog search`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Final, NamedTuple

from turnlog import CorruptRecord, InvalidInput, Session, SessionNotFound, Store
from turnlog.config import open_existing
from turnlog.rules import outline_of

from ._namespaces import check_one, stores_of
from ._progress import progress
from ._show import STYLES, parts_of, turns_of
from ._snippet import Snippet, snippet_of
from ._text import VERIFY, Code, Printer, as_json, complain, counted, line, note

_AROUND: Final = 40
"""Number of characters of a snippet on each side of the match; on a terminal, the snippet fills the line."""

_LEAST: Final = 20
"""Smallest width of a snippet, on a terminal that is too narrow for the names before it."""


class Hit(NamedTuple):
    """A message that contains the text."""

    namespace: str
    session_id: str
    turn: int
    who: str
    snippet: Snippet


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
    """Print the messages that contain a text, ignoring case; every session is read.

    Args:
        text: The text to search for.
        url: The URL of the store; None: the store in the configuration.
        namespace: The namespace; None: the namespace in the configuration.
        everywhere: Search in all namespaces.
        owner: Search only in the sessions of this owner.
        limit: The largest number of messages; 0: all.
        json: Print one JSON object per line.

    Raises:
        InvalidInput: The text is blank, or the limit is negative.
    """
    if not text.strip():
        raise InvalidInput("the search text is blank: pass the text to search for")
    if limit < 0:
        raise InvalidInput(f"--limit must be 0 or greater, not {limit}")
    check_one(namespace, everywhere=everywhere)
    return asyncio.run(_search(text, url, namespace, owner, limit, everywhere=everywhere, json=json))


async def _search(
    text: str, url: str | None, namespace: str | None, owner: str | None, limit: int, *, everywhere: bool, json: bool
) -> int:
    wanted, found, damaged, advises = re.compile(re.escape(text), re.IGNORECASE), 0, 0, False
    out, shown = Printer(), list[Hit]()
    around = _AROUND if json or out.console is None else out.console.width
    async with open_existing(url, namespace=namespace) as store:
        with progress("search", prints=json) as show:
            async with aclosing(_found(store, wanted, owner, around, everywhere=everywhere)) as hits:
                async for hit in hits:
                    if isinstance(hit, CorruptRecord):
                        damaged, advises = damaged + 1, advises or type(hit) is CorruptRecord
                        complain(hit)
                    elif hit is None:
                        show(f"{found} found")
                    elif limit and found == limit:
                        note(f"turnlog: {counted(limit, 'message')} shown, there are more: --limit 0 shows all")
                        break
                    else:
                        found += 1
                        if json:
                            print(as_json({**hit._asdict(), "snippet": str(hit.snippet)}))
                        elif out.console is None:
                            print("\t".join(line(str(cell)) for cell in (hit if everywhere else hit[1:])))
                        else:
                            shown.append(hit)
    _print(out, shown, everywhere=everywhere)
    if not found:
        note(f"turnlog: no message contains {text!r}")
    if advises:
        note(f"turnlog: {VERIFY}")
    return Code.FAILED if damaged else Code.FINE


async def _found(
    store: Store, wanted: re.Pattern[str], owner: str | None, around: int, *, everywhere: bool
) -> AsyncGenerator[Hit | CorruptRecord | None, None]:
    """Yield the messages, an error for each session or turn that cannot be read, and None after each session."""
    async for view in stores_of(store, everywhere=everywhere):
        try:
            async for info in view.sessions(owner=owner):
                try:
                    session = await view.session(info.key.session, touch=False)
                except CorruptRecord as error:
                    yield error
                except SessionNotFound:  # erased since the list was read
                    continue
                else:
                    for hit in _in_session(session, wanted, around):
                        yield hit
                yield None
        except CorruptRecord as error:  # some sessions cannot be listed
            yield error


def _in_session(session: Session, wanted: re.Pattern[str], around: int) -> Iterator[Hit | CorruptRecord]:
    key = session.info.key
    for turn in turns_of(session):
        if isinstance(turn, CorruptRecord):
            yield turn
            continue
        for message in turn.messages:
            for _, text in parts_of(message):
                if place := wanted.search(text):
                    snippet = snippet_of(text, place, around)
                    who = message.role or outline_of(message).speaker or "item"
                    yield Hit(key.namespace, key.session, turn.number, who, snippet)


def _print(out: Printer, hits: Sequence[Hit], *, everywhere: bool) -> None:
    """Print the messages for people: a heading for each session, and a line for each message."""
    if out.console is None or not hits:
        return
    from rich.cells import cell_len

    numbers = max(len(str(hit.turn)) for hit in hits)
    names = max(cell_len(line(hit.who)) for hit in hits)
    for (namespace, session_id), found in groupby(hits, key=lambda hit: hit[:2]):
        out((line(session_id), "bold"), (f" in {line(namespace)}" if everywhere else "", "dim"))
        for hit in found:
            who = line(hit.who)
            turn, gap = f"  turn {hit.turn:>{numbers}}  ", " " * (names - cell_len(who) + 2)
            left = out.console.width - len(turn) - names - 2
            before, text, after = hit.snippet.fitted(max(_LEAST, left))
            out(
                (turn, "dim"),
                (who, STYLES.get(hit.who, "bold")),
                (gap, ""),
                (before, ""),
                (text, "reverse"),
                (after, ""),
            )
