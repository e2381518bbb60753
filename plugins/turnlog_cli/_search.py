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

from ._namespaces import check_one, stores_of
from ._progress import progress
from ._show import STYLES, parts_of, turns_of
from ._snippet import Snippet, snippet_of
from ._text import Code, Printer, as_json, complain, counted, line, note

_AROUND: Final = 40
"""Characters of a snippet on each side of what was found; on a terminal the line is filled."""

_LEAST: Final = 20
"""Columns of a snippet on a terminal that is too narrow for the names before it."""


class Hit(NamedTuple):
    """A message that holds the text."""

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
    """Print the messages that hold a text, in any case of its letters; every session is read.

    Args:
        text: What to look for.
        url: Where; None: in the store that the configuration names.
        namespace: The namespace; None: the one that the configuration names.
        everywhere: Look in all namespaces.
        owner: Only in the sessions of this owner.
        limit: How many at most; 0: all.
        json: An object a line.

    Raises:
        InvalidInput: The text is blank, or the limit negative.
    """
    if not text.strip():
        raise InvalidInput("the text to look for is empty: turnlog search TEXT")
    if limit < 0:
        raise InvalidInput(f"--limit must be a number from 0, not {limit}")
    check_one(namespace, everywhere=everywhere)
    return asyncio.run(_search(text, url, namespace, owner, limit, everywhere=everywhere, json=json))


async def _search(
    text: str, url: str | None, namespace: str | None, owner: str | None, limit: int, *, everywhere: bool, json: bool
) -> int:
    wanted, found, damaged = re.compile(re.escape(text), re.IGNORECASE), 0, 0
    out, shown = Printer(), list[Hit]()
    around = _AROUND if json or out.console is None else out.console.width
    async with open_existing(url, namespace=namespace) as store:
        with progress("search", prints=json) as show:
            async with aclosing(_found(store, wanted, owner, around, everywhere=everywhere)) as hits:
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
                            print(as_json({**hit._asdict(), "snippet": str(hit.snippet)}))
                        elif out.console is None:
                            print("\t".join(line(str(cell)) for cell in (hit if everywhere else hit[1:])))
                        else:
                            shown.append(hit)
    _print(out, shown, everywhere=everywhere)
    if not found:
        note(f"turnlog: no message holds {text!r}")
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
                except SessionNotFound:  # it was erased meanwhile
                    continue
                else:
                    for hit in _in_session(session, wanted, around):
                        yield hit
                yield None
        except CorruptRecord as error:  # of sessions that cannot be listed
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
                    yield Hit(key.namespace, key.session, turn.number, message.role or "item", snippet)


def _print(out: Printer, hits: Sequence[Hit], *, everywhere: bool) -> None:
    """Print the messages for people: each session as a heading, and a line for each message."""
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
