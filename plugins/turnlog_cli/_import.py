"""`turnlog import`: conversations from a JSON Lines file."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import BinaryIO, Final, NamedTuple

from turnlog import (
    ABSENT,
    Change,
    Conflict,
    InvalidInput,
    Key,
    Message,
    Metadata,
    Receipt,
    Record,
    Session,
    SessionNotFound,
    Store,
    open_store,
)
from turnlog.errors import Closed, OutcomeUnknown, SchemaError, TooLarge, TurnlogError, Unavailable
from turnlog.limits import MAX_MESSAGES
from turnlog.rules import TurnRule, check_rule, common, divide, is_one_turn, one_turn_text, split_turns

from ._text import Code, complain, is_terminal
from ._turn_rule import load_turn_rule

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""A longer line is refused, so that no file needs more memory than a few times this."""

_ONE_TURN: Final = "to divide it, import it under another session_id with --begins-turn module:function"
_TRIES: Final = 10
_STORE_IS_GONE = (Closed, OutcomeUnknown, SchemaError, Unavailable)


class _Differs(Conflict):
    """What is stored is not what the line says, or cannot be compared with it."""


class Conversation(NamedTuple):
    """What a line holds, checked."""

    session_id: str
    messages: tuple[Message, ...]
    metadata: Metadata
    notice: str = ""


def import_file(path: str, url: str | None, *, namespace: str | None = None, begins_turn: str | None = None) -> int:
    """Store the conversations of a file, and print how many there were.

    Args:
        path: The file; `-`: standard input.
        url: Where to; None: to the store that the configuration names.
        namespace: The namespace; None: the one that the configuration names.
        begins_turn: The application's rule for where turns begin, as `module:function`; None: turnlog's.
    """
    begins = check_rule(None) if begins_turn is None else load_turn_rule(begins_turn)
    try:
        with _opened(path) as file:
            return _import_lines(file, "standard input" if path == "-" else path, url, namespace, begins)
    except BrokenPipeError:
        raise
    except OSError as error:
        if isinstance(error, TurnlogError):
            raise
        complain(f"{path}: cannot be read: {error.strerror or error}")
        return Code.FAILED


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        if sys.stdin is None:
            raise OSError("standard input is closed")
        yield sys.stdin.buffer
    else:
        with open(
            path.encode("utf-8", "surrogateescape"), "rb"
        ) as file:  # the name as it was typed, whatever the locale
            yield file


def _import_lines(file: BinaryIO, name: str, url: str | None, namespace: str | None, begins: TurnRule) -> int:
    done: Counter[str] = Counter()
    written = 0
    store = open_store(url, namespace=namespace)
    # The loop runs for each conversation alone: where it waits for a line, Ctrl-C must reach it.
    with asyncio.Runner() as runner, _progress(file) as advance:
        runner.run(store.open())
        try:
            for number, text in _lines(file):
                try:
                    if text is None:
                        raise TooLarge(f"the line has more than {MAX_LINE_BYTES} bytes: split the conversation")
                    if text.strip():
                        conversation = _parse(text)
                        outcome, count, notices = runner.run(_put(store, conversation, begins))
                        done[outcome] += 1
                        written += count
                        for notice in notices:
                            complain(notice, where=f"{name}:{number}")
                except _STORE_IS_GONE:
                    complain(f"stopped at line {number}; what is stored stays, run it again to go on", where=name)
                    raise
                except TurnlogError as error:
                    done["different" if isinstance(error, _Differs) else "failed"] += 1
                    complain(error, where=f"{name}:{number}")
                advance(0 if text is None else len(text))
        finally:
            runner.run(store.close())
    print(
        f"{done['stored']} sessions stored, {done['extended']} extended, {done['unchanged']} unchanged, "
        f"{done['different']} different, {done['failed']} failed; {written} messages written"
    )
    return Code.FAILED if done["different"] or done["failed"] else Code.FINE


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their numbers, from 1; None for one that is too long."""
    number = 0
    while text := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(text) <= MAX_LINE_BYTES:
            yield number, text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text
            continue
        while not text.endswith(b"\n") and (text := file.readline(1024 * 1024)):
            pass
        yield number, None


# ------------------------------------------------------------------------------------------------------------- parsing


def _parse(text: bytes) -> Conversation:
    try:
        line = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not UTF-8: byte {error.start + 1} of the line") from None
    except json.JSONDecodeError as error:  # whose own text counts lines within this one
        raise InvalidInput(f"not JSON: {error.msg}, at character {error.pos + 1}") from None
    except RecursionError:
        raise InvalidInput("not JSON: nested too deep") from None
    except ValueError as error:  # a number of more digits than Python converts
        raise InvalidInput(f"not JSON: {error}") from None
    if not isinstance(line, dict):
        raise InvalidInput(
            f'a line must be an object such as {{"session_id": ..., "messages": [...]}}, not {_kind(line)}'
        )
    for name in ("session_id", "messages"):
        if name not in line:
            raise InvalidInput(f"{name} is missing; there are {', '.join(sorted(line)) or 'no keys'}")
    items = line.pop("messages")
    if not isinstance(items, list) or not items:
        raise InvalidInput(f"messages must be a list with at least one message, not {_kind(items)}")
    messages = tuple(_message(item, place) for place, item in enumerate(items))
    session_id = Key("default", line.pop("session_id")).session
    values = {name: value for name, value in line.items() if value is not None}
    if messages[0].role != "system" or "system" in values:
        return Conversation(session_id, messages, Metadata.of(values))
    try:
        return Conversation(session_id, messages, Metadata.of({**values, "system": messages[0].content}))
    except TooLarge:
        notice = (
            f"the system message of session {session_id!r} is too long for metadata: it stays in the first turn alone"
        )
        return Conversation(session_id, messages, Metadata.of(values), notice)


def _message(item: object, place: int) -> Message:
    if not isinstance(item, dict):
        raise InvalidInput(f"messages[{place}] must be an object, not {_kind(item)}")
    try:
        return Message.from_dict(item)
    except InvalidInput as error:
        raise type(error)(f"messages[{place}]: {error}") from None


def _kind(value: object) -> str:
    if value == []:
        return "an empty list"
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


# ------------------------------------------------------------------------------------------------------------- storing


class _Outcome(NamedTuple):
    """`stored`, `extended` or `unchanged`, how many messages were written, and notes for people."""

    name: str
    written: int = 0
    notices: Sequence[str] = ()


async def _put(store: Store, new: Conversation, begins: TurnRule) -> _Outcome:
    """Store what is new of a conversation.

    It is as `Store.save` without `expect`: it makes a session or extends it, and discards nothing.  But where the
    session holds more than the line does, it is left alone.

    Raises:
        _Differs: What is stored differs, or too little of it is left to tell.
        Conflict: Others write to the session all the time.
    """
    key = Key(store.namespace, new.session_id)
    for left in reversed(range(_TRIES)):
        session = await _find(store, key)
        missing = _missing(new, session, begins)
        if missing is None:
            break
        try:
            receipt = await _write(store, key, missing, session)
        except Conflict:
            if not left:
                raise
            # another writer came between the read and the commit: look again
        else:
            notices = [new.notice] if new.notice else []
            if is_one_turn(receipt, len(new.messages)):
                notices.append(one_turn_text(key, len(new.messages), _ONE_TURN))
            written = sum(len(turn) for turn in missing.turns)
            return _Outcome("stored" if session is None else "extended", written, notices)
    return _Outcome("unchanged")


async def _find(store: Store, key: Key) -> Session | None:
    try:
        return await store.session(key.session, touch=False)
    except SessionNotFound:
        return None


class _Missing(NamedTuple):
    """What a session lacks: its turns from `number` on, and metadata under names that it does not have."""

    number: int
    turns: Sequence[tuple[Message, ...]]
    metadata: Metadata


def _missing(new: Conversation, session: Session | None, begins: TurnRule) -> _Missing | None:
    turns = split_turns(new.messages, begins)
    if session is None:
        return _Missing(0, turns, new.metadata)
    info, stored = session.info, session.messages
    wanted = [message for turn in turns[info.first :] for message in turn]  # retention may have dropped the first ones
    if not wanted:
        raise _Differs(
            f"session {info.key} is there already and its first {info.first} turns have been dropped, so that nothing "
            f"is left to compare this line's {len(turns)} with: nothing was changed"
        )
    same = common(stored, wanted)
    if same == len(wanted):
        return None
    if same < len(stored):
        place = len(new.messages) - len(wanted) + same
        raise _Differs(
            f"session {info.key} is there already and differs from this line at message {place}: nothing was changed; "
            "to store both, give the line another session_id"
        )
    number, rest = divide(session.turns, wanted, same, info.first, begins)
    metadata = Metadata({name: value for name, value in new.metadata.encoded.items() if name not in info.metadata})
    return _Missing(number, split_turns(rest, begins), metadata)


async def _write(store: Store, key: Key, missing: _Missing, session: Session | None) -> Receipt:
    """Append what is missing, in several changes if one cannot hold it, and return the last receipt."""
    version = None if session is None else session.version
    keep = missing.number if session is not None and missing.number < session.info.turns else None
    metadata: Metadata | None = missing.metadata or None
    now = store.backend.clock()
    for records in _batches(
        [_record(key, number, turn, now) for number, turn in enumerate(missing.turns, missing.number)]
    ):
        change = Change(
            # the same step from the same place has the same id: two imports at once store it once
            id=_name(
                key.session,
                str(version),
                [record.id for record in records],
                metadata and sorted(metadata.canonical().items()),
            ),
            append=records,
            keep=keep,
            retain=store.retain,
            max_bytes=store.max_session_bytes,
            metadata=metadata,
            expect=ABSENT if version is None else version,
        )
        receipt = await store.backend.commit(key, change)
        version = receipt.version
        keep = metadata = None
    return receipt


def _record(key: Key, number: int, messages: tuple[Message, ...], now: float) -> Record:
    return Record.of(messages, id=_name(key.session, number, [message.canonical() for message in messages]), time=now)


def _batches(records: Sequence[Record]) -> Iterator[tuple[Record, ...]]:
    batch: list[Record] = []
    count = 0
    for record in records:
        count += record.count
        if batch and count > MAX_MESSAGES:
            yield tuple(batch)
            batch, count = [], record.count
        batch.append(record)
    yield tuple(batch)


def _name(*parts: object) -> str:
    """An id made of what it stands for."""
    return f"import-{sha256(repr(parts).encode()).hexdigest()[:32]}"


# ------------------------------------------------------------------------------------------------------------ progress


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[int], None]]:
    """Takes how many bytes were read, and shows it on standard error if that is a terminal."""
    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    status = os.fstat(file.fileno())
    total = status.st_size if stat.S_ISREG(status.st_mode) else None
    console = Console(stderr=True)
    with Progress(
        "import", BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task("import", total=total)
        yield lambda count: progress.advance(task, count)
