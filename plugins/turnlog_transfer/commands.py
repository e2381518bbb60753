"""The commands `turnlog export`, `turnlog import` and `turnlog copy`."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from shlex import quote
from typing import Annotated, BinaryIO, Final
from urllib.parse import parse_qs

from cyclopts import App, Parameter

from turnlog import ConfigError, CorruptRecord, InvalidInput, SchemaError, Store, TurnlogError, open_store
from turnlog.config import masked_url, open_existing

from ._copy import CopyResult
from ._copy import copy as copy_sessions
from ._damage import each_of
from ._export import Exported
from ._export import export as export_sessions
from ._import import STORE_IS_GONE, Imported, Importer, Read
from ._report import complain, counted, on_one_line, progress
from ._turn_rule import load_turn_rule

__all__ = ["copy", "export", "import_"]

_SQLITE: Final = b"SQLite format 3\0"
"""The beginning of an SQLite database (sqlite.org/fileformat.html#magic_header_string)."""

_UNITS: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RATE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMG]i?B)?")
_GO_ON: Final = "stored sessions are kept; to continue, run the same command again"
_VERIFY: Final = "restore a backup, or run 'turnlog verify' with the same options to see all damage"


# --------------------------------------------------------------------------------------------------------------- export


def export(app: App) -> None:
    """Register `turnlog export`."""
    app.command(_export, name="export")


async def _export(
    session: str | None = None,
    /,
    *,
    owner: str | None = None,
    all_namespaces: bool = False,
    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
    store: str | None = None,
    namespace: str | None = None,
) -> int:
    """Write sessions as JSON Lines, without loss; turnlog import reads them.

    Each session is a consistent snapshot.  Applications may use the store during the export.

    Args:
        session: Export only this session; by default, all sessions of the namespace.
        owner: Export only the sessions of this owner.
        all_namespaces: Export the sessions of all namespaces.
        output: The file to write, by default standard output.  The file is created when it is complete, and only its
            owner can read it.
        store: The URL of the store, such as sqlite:///chat.db.
        namespace: The namespace; a nested one is written outer/inner.
    """
    opened, done = open_existing(store, namespace=namespace), Exported()
    if all_namespaces and (namespace is not None or _names_namespace(store)):
        raise InvalidInput("a namespace cannot be combined with --all-namespaces: leave out one of them")
    if output is not None:
        _refuse_database(output)
    on_screen = output is None and sys.stdout.isatty()  # a progress bar would be mixed with the lines
    with nullcontext(_ignore) if on_screen else progress("export") as show:

        def count(now: Exported) -> None:
            nonlocal done
            show(now.bytes - done.bytes, counted(now.sessions, "session"))
            done = now

        async with opened:
            lines = export_sessions(opened, session=session, owner=owner, all_namespaces=all_namespaces, progress=count)
            try:
                if output is None:
                    damaged = await _write(lines, _write_standard_output())
                else:
                    with _whole_file(output) as file:
                        damaged = await _write(lines, _write_file(file, output))
            except asyncio.CancelledError:  # Ctrl-C
                rest = "the output is incomplete" if output is None else f"{output} was not changed"
                complain(f"stopped after {counted(done.sessions, 'session')}: {rest}; run the command again")
                raise
    errors = [] if damaged is None else each_of(damaged)
    for error in errors:
        complain(error)
    if any(type(error) is CorruptRecord for error in errors):
        complain(_VERIFY)
    print(
        f"turnlog: {counted(done.sessions, 'session')} exported, {counted(done.messages, 'message')}", file=sys.stderr
    )
    return 0 if damaged is None else 1


def _ignore(count: int, text: str) -> None:
    """Show nothing."""


async def _write(lines: AsyncIterator[bytes], write: Callable[[bytes], object]) -> CorruptRecord | None:
    """Write the lines, and return the error about the sessions that are left out."""
    ended = False
    try:
        async for line in lines:
            write(line)
            ended = line.startswith(b'{"kind":"end"')
    except CorruptRecord as error:
        if not ended:
            raise
        return error
    return None


def _write_file(file: BinaryIO, path: str) -> Callable[[bytes], object]:
    def write(line: bytes) -> None:
        with _fails_as(path, "written"):
            file.write(line)

    return write


def _write_standard_output() -> Callable[[bytes], object]:
    if sys.stdout.isatty():  # other characters may control a terminal; JSON can also write them in ASCII
        return lambda line: sys.stdout.write(_ascii(line.decode()))
    return lambda line: sys.stdout.write(line.decode())


def _ascii(text: str) -> str:
    signs = (sign if sign.isascii() and sign != "\x7f" else sign.encode("utf-16-be").hex() for sign in text)
    return "".join(
        sign if len(sign) == 1 else "".join(f"\\u{sign[place : place + 4]}" for place in range(0, len(sign), 4))
        for sign in signs
    )


@contextmanager
def _whole_file(path: str) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` when it is complete; a device or a pipe is written directly."""
    target = os.path.realpath(path)  # the target of a link is replaced, not the link
    folder, name = os.path.split(target)
    temporary = None
    with _fails_as(path, "written"):
        if os.path.exists(target) and not os.path.isfile(target):
            file = open(target, "wb")  # noqa: SIM115 - raises for a folder
        else:
            handle, temporary = tempfile.mkstemp(prefix=f".{name[:50]}.", dir=folder)  # its mode is 0600
            file = open(handle, "wb")  # noqa: SIM115
    try:
        try:
            yield file
            with _fails_as(path, "written"):
                file.flush()
                if temporary is not None:
                    os.fsync(file.fileno())
        finally:
            with _fails_as(path, "written"):
                file.close()
        if temporary is not None:
            with _fails_as(path, "written"):
                os.replace(temporary, target)
    except BaseException:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        raise


def _refuse_database(path: str) -> None:
    """Refuse a file that an export must not replace.

    Raises:
        InvalidInput: It is a database.
    """
    with suppress(OSError):  # a missing file is fine; other errors are reported by the write
        if os.path.isfile(path):
            with open(path, "rb") as file:
                if file.read(len(_SQLITE)) == _SQLITE:
                    raise InvalidInput(f"{path} is an SQLite database, which -o would replace: name another file")


def _names_namespace(url: str | None) -> bool:
    return url is not None and "namespace" in parse_qs(url.partition("?")[2], keep_blank_values=True)


# --------------------------------------------------------------------------------------------------------------- import


def import_(app: App) -> None:
    """Register `turnlog import`."""
    app.command(_import, name="import")


def _no_option(_: object, file: str) -> None:
    """Refuse a misspelt option: because `-` is allowed, any word with a hyphen would be taken for the file."""
    if file.startswith("-") and file != "-":
        raise ValueError(f"There is no such option; for a file of this name, write ./{file}")


def _import(
    file: Annotated[str, Parameter(allow_leading_hyphen=True, validator=_no_option)],
    /,
    *,
    store: str | None = None,
    namespace: str | None = None,
    owner: str | None = None,
    session: str | None = None,
    begins_turn: str | None = None,
) -> int:
    """Store conversations from a file; a second import stores only new messages.

    The file is an export of turnlog, conversations as JSON Lines, ChatGPT's or Claude's conversations.json, or a list
    of messages of OpenAI or LangChain.  A line with a conversation is {"session_id": ..., "messages": [...]}.  Its
    other keys become metadata, and so does a system message at its beginning.  Each message of the user begins a turn;
    --begins-turn sets another rule.  Stored messages are never changed or removed.  If a stored session differs from
    the file, it stays unchanged, and the command reports an error.

    Args:
        file: The file; - for standard input.
        store: The URL of the store, such as sqlite:///chat.db; with memory:// the command only checks the file.
        namespace: The namespace; a nested one is written outer/inner.
        owner: The owner of new sessions; by default the owner in the export, otherwise no owner.
        session: The session id for a list of messages.
        begins_turn: Your function that returns whether a turnlog.Message begins a turn, as module:function.
    """
    begins = None if begins_turn is None else load_turn_rule(begins_turn)
    importer = Importer(
        open_store(store, namespace=namespace),
        session=session,
        owner=owner,
        begins_turn=begins,
        one_namespace=namespace is not None or _names_namespace(store),
    )
    with _opened(file) as opened:
        return _import_from(opened, "standard input" if file == "-" else file, importer)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        if sys.stdin is None:
            raise TurnlogError("standard input is closed, so - cannot be read: name a file, or open standard input")
        yield sys.stdin.buffer
    else:
        with _fails_as(path, "read"):
            # the bytes of the name as typed, independent of the locale
            file = open(path.encode("utf-8", "surrogateescape"), "rb")  # noqa: SIM115 - only opening it may fail here
        with file:
            yield file


@contextmanager
def _fails_as(path: str, done: str) -> Iterator[None]:
    """Report a system error about a file.  The body must not use a store, whose errors are not about the file."""
    try:
        yield
    except OSError as error:
        text = f"{path} cannot be {done} ({error.strerror or error}): check the path and its permissions"
        raise TurnlogError(text) from error


def _pieces(importer: Importer, file: BinaryIO, name: str) -> Iterator[Read]:
    pieces = importer.read(file)
    while True:
        try:
            with _fails_as(name, "read"):
                piece = next(pieces, None)
        except InvalidInput as error:  # an option does not fit the file
            raise InvalidInput(f"{name}: {error}") from None
        if piece is None:
            return
        yield piece


def _import_from(file: BinaryIO, name: str, importer: Importer) -> int:
    totals, root, line, seen = Imported(), importer.root, 1, False
    # The loop runs only while something is stored: Ctrl-C must reach a command that waits for a line.
    with asyncio.Runner() as runner, progress("import", total=_size(file)) as show:
        runner.run(root.open())
        try:
            for read in _pieces(importer, file, name):
                line, seen = read.line, seen or read.found is not None
                try:
                    result = None if read.found is None else runner.run(importer.put(read))
                except STORE_IS_GONE:
                    complain(f"stopped at line {read.line}; {_GO_ON}", where=name)
                    raise
                if result is not None:
                    totals.add(result)
                    for said in (*result.notices, *([result.error] if result.error else [])):
                        complain(said, where=f"{name}:{result.line}")
                show(read.size, counted(totals.stored + totals.extended + totals.unchanged, "session"))
        except KeyboardInterrupt:
            done = f"{counted(totals.stored, 'session')} stored, {totals.extended} extended"
            complain(f"stopped at line {line}: {done}; {_GO_ON}", where=name)
            raise
        finally:
            runner.run(root.close())
    empty = f"{totals.empty} empty, " if totals.empty else ""
    print(
        f"{counted(totals.stored, 'session')} stored, {totals.extended} extended, {totals.unchanged} unchanged, "
        f"{empty}{totals.different} different, {totals.failed} failed; {counted(totals.messages, 'message')} written"
    )
    if totals.expired:
        complain(f"left out {counted(totals.expired, 'expired session')}", where=name)
    if not seen:
        complain("contains nothing to import", where=name)
    if totals.dropped:
        complain(f"retain={root.retain} has dropped the oldest {totals.dropped} of the imported turns")
    return 0 if totals.complete else 1


def _size(file: BinaryIO) -> int | None:
    try:
        status = os.fstat(file.fileno())
    except OSError:  # also io.UnsupportedOperation
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


# ----------------------------------------------------------------------------------------------------------------- copy


def copy(app: App) -> None:
    """Register `turnlog copy`."""
    app.command(_copy, name="copy")


async def _copy(
    source: str,
    target: str,
    /,
    *,
    all_namespaces: bool = False,
    allow_empty: bool = False,
    state: str = "turnlog-copy.db",
    rate: str | None = None,
    passes: int = 10,
) -> int:
    """Copy the sessions of a store into another store, and remove erased sessions from the other store.

    Applications may use the source during the copy, but must not write to the target.  The command repeats passes until
    a pass finds no changes.  To continue after an interruption, or to copy later changes, run the same command again.

    Args:
        source: The URL of the store to copy, such as sqlite:///chat.db; ?namespace= selects another namespace.
        target: The URL of the store to write to.
        all_namespaces: Copy all namespaces.
        allow_empty: Allow a source without sessions, and remove all copies.
        state: The file that records the copied versions.  It is created if it is missing.  Delete it after the last
            copy.
        rate: The limit per second, as a number of sessions, such as 50, or of bytes, such as 10MB.
        passes: The maximum number of passes.
    """
    sessions, size = _parse_rate(rate)
    stores = _named("SOURCE", open_existing, source), _named("TARGET", open_store, target)
    if all_namespaces and (_names_namespace(source) or _names_namespace(target)):
        raise InvalidInput("?namespace= in a URL cannot be combined with --all-namespaces: leave out one of them")
    with progress("copy") as show:
        passes_seen, read, copied, said, damaged = 0, 0, 0, set[str](), False

        def report(result: CopyResult) -> None:
            nonlocal passes_seen, read, copied, damaged
            damaged = damaged or type(result.error) is CorruptRecord
            if result.error is not None and str(result.error) not in said:  # each pass reports it again
                said.add(str(result.error))
                complain(result.error)
            read = read + 1 if result.in_pass == passes_seen else 1
            passes_seen = result.in_pass
            copied += result.outcome == "copied"
            show(result.bytes, f"pass {passes_seen}: {counted(read, 'session')} read, {copied} copied in all")

        async with _source(stores[0], source), stores[1]:
            try:
                totals = await copy_sessions(
                    *stores,
                    state=state,
                    all_namespaces=all_namespaces,
                    allow_empty=allow_empty,
                    passes=passes,
                    sessions_per_second=sessions,
                    bytes_per_second=size,
                    progress=report,
                )
            except asyncio.CancelledError:  # Ctrl-C
                complain(f"stopped after {counted(copied, 'session')}; to continue, run the same command again")
                raise
    print(
        f"{counted(totals.sessions, 'session')} in {counted(totals.passes, 'pass')}: "
        f"{totals.copied} copied, {totals.removed} removed, {totals.different} different, {totals.failed} failed; "
        f"{counted(totals.messages, 'message')} written"
    )
    if damaged:
        complain(f"restore a backup, or see all damage with: turnlog verify --store {quote(masked_url(source))}")
    if totals.changed:
        complain(
            f"the last pass, number {totals.passes}, has found {counted(totals.changed, 'changed session')}: "
            "stop all writers of the source, and run the same command again"
        )
    return 0 if totals.complete else 1


def _named(name: str, maker: Callable[[str], Store], url: str) -> Store:
    """Open a store of a URL; errors name the argument of the command."""
    try:
        return maker(url)
    except ConfigError as error:
        raise ConfigError(str(error).replace("the argument url", name)) from None


@asynccontextmanager
async def _source(store: Store, url: str) -> AsyncIterator[None]:
    """Open the source, which must exist: it is never created."""
    try:
        await store.open()
    except SchemaError as error:
        if not error.missing:
            raise
        place = masked_url(url)
        raise SchemaError(f"SOURCE {place} does not exist, or has no turnlog tables: correct the URL") from error
    try:
        yield
    finally:
        await store.close()


def _parse_rate(rate: str | None) -> tuple[float | None, float | None]:
    """Return the limits of a rate in sessions and in bytes per second; one of them is None."""
    if rate is None:
        return None, None
    found = _RATE.fullmatch(rate)
    if found is None or not float(found[1]):
        raise InvalidInput(
            f"--rate must be sessions a second, such as 50, or bytes a second, such as 10MB, not {on_one_line(rate)!r}"
        )
    amount = float(found[1])
    return (None, amount * _UNITS[found[2]]) if found[2] else (amount, None)
