"""`import_file`: conversations and sessions from a file into a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import TextIOBase
from itertools import chain
from typing import BinaryIO, Literal, NamedTuple

from turnlog import InvalidInput, Store
from turnlog.errors import Closed, OutcomeUnknown, SchemaError, TooLarge, TurnlogError, Unavailable
from turnlog.rules import TurnRule, check_rule

from . import _documents
from ._conversation_writer import store_conversation
from ._conversations import Conversation, conversation_of, is_message, parse_conversation
from ._documents import Items, Line, NotText, lines, parse_json
from ._export_reader import Part, read_export
from ._format import is_export
from ._naming import Differs
from ._restoring import Restoring
from ._result import ImportResult

STORE_IS_GONE = (Closed, OutcomeUnknown, SchemaError, Unavailable)
"""Errors that end an import, because the rest of the file could not be stored either."""


class Read(NamedTuple):
    """A piece of a file.

    Attributes:
        line: The number of the line where it begins, from 1.
        size: The bytes that were read since the one before.
        found: A conversation, a part of a session, or why there is none; None: nothing to store.
    """

    line: int
    size: int
    found: Conversation | Part | TurnlogError | None

    @property
    def session(self) -> str | None:
        """The session id, if it is known."""
        if isinstance(self.found, Conversation):
            return self.found.session_id
        return self.found.head.session if isinstance(self.found, Part) else None


@dataclass
class Imported:
    """The totals of an import.

    Attributes:
        stored: Sessions that were made.
        extended: Sessions that were there and were extended.
        unchanged: Sessions that were there already.
        empty: Conversations without messages, of which no session is made.
        expired: Sessions of an export that have expired since, and are not stored.
        different: Sessions that are there and do not fit; they stay as they are.
        failed: Sessions, or parts of the file, that could not be read or stored.
        messages: Messages that were written.
        dropped: Turns of them that the store's `retain` has dropped.
    """

    stored: int = 0
    extended: int = 0
    unchanged: int = 0
    empty: int = 0
    expired: int = 0
    different: int = 0
    failed: int = 0
    messages: int = 0
    dropped: int = 0

    def add(self, result: ImportResult) -> None:
        """Add the result of one session."""
        setattr(self, result.outcome, getattr(self, result.outcome) + 1)
        self.messages += result.written
        self.dropped += result.dropped

    @property
    def complete(self) -> bool:
        """Whether the store holds all that the file holds and that has not expired."""
        return not self.different and not self.failed


async def import_file(
    store: Store,
    file: BinaryIO,
    *,
    session: str | None = None,
    owner: str | None = None,
    begins_turn: TurnRule | None = None,
    progress: Callable[[ImportResult], None] | None = None,
) -> Imported:
    """Store the sessions and conversations of a file; a second call stores only new ones.

    The file holds an export of turnlog, conversations as JSON Lines, ChatGPT's or Claude's `conversations.json`, or a
    list of messages: its beginning tells.  Nothing that is stored is changed or removed.  A part that cannot be
    read or stored is reported in its result, and the rest is stored.

    Args:
        store: The store, or a view.  Namespaces that an export names are nested in that of a view.
        file: The file, in binary mode.
        session: The session id of a list of messages; other files name their sessions.
        owner: The owner of the sessions that are made; a stored session must belong to this owner.  None: the owner of
            an export, else nobody.
        begins_turn: As in `Store.save`; an export has its turns.
        progress: Called with the result of each session.

    Raises:
        InvalidInput: An argument breaks a rule, or `session` is given and the file names its sessions.
        Unavailable: The store could not be reached; another call goes on.
        OutcomeUnknown: An answer was lost; the same holds.
        OSError: The file cannot be read.
    """
    if isinstance(file, TextIOBase):
        raise InvalidInput("import_file needs a file in binary mode, not in text mode: open(path, 'rb')")
    importer = Importer(store, session=session, owner=owner, begins_turn=begins_turn)
    totals = Imported()
    for read in importer.read(file):
        result = await importer.put(read)
        if result is not None:
            totals.add(result)
            if progress is not None:
                progress(result)
    return totals


@dataclass
class Importer:
    """An import in two halves: `read` waits for the file and `put` for the store.

    Args:
        store: As in `import_file`.
        session: As in `import_file`.
        owner: As in `import_file`.
        begins_turn: As in `import_file`.
        one_namespace: Refuse an export that names namespaces, because the caller has named one.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    store: Store
    session: str | None = None
    owner: str | None = None
    begins_turn: TurnRule | None = None
    one_namespace: bool = False
    root: Store = field(init=False)
    _begins: TurnRule = field(init=False)
    _restoring: Restoring | None = field(init=False, default=None)
    _names_none: bool = field(init=False, default=False)  # the file is a list of messages

    def __post_init__(self) -> None:
        self.root = self.store
        self._begins = check_rule(self.begins_turn)
        if self.owner is not None:
            self.store = self.store.for_owner(self.owner)

    # -------------------------------------------------------------------------------------------------------- reading

    def read(self, file: BinaryIO) -> Iterator[Read]:
        """Yield the pieces of a file.

        A file that is no text ends with its first error.

        Raises:
            InvalidInput: The file names what the caller has named: sessions, or namespaces.
        """
        for read in self._pieces(file):
            self._check_names(read)
            yield read

    def _pieces(self, file: BinaryIO) -> Iterator[Read]:
        each = lines(file)
        for line in each:
            if line.text is None or line.text.strip():
                yield from self._detected(file, line, each)
                return
            yield Read(line.number, line.size, None)

    def _detected(self, file: BinaryIO, first: Line, rest: Iterator[Line]) -> Iterator[Read]:
        text = first.text or b""
        if text.lstrip().startswith(b"["):
            yield from self._array(file, first)
            return
        try:
            exported = is_export(text)
        except InvalidInput as error:
            yield Read(first.number, first.size, error)
            return
        if exported:
            yield Read(first.number, first.size, None)
            for number, size, found in read_export(rest):
                yield Read(number, size, found)
            return
        is_text = False
        for line in chain([first], rest):
            read = _conversation(line)
            is_text = is_text or isinstance(read.found, Conversation)
            if isinstance(read.found, NotText) and not is_text:
                yield read._replace(
                    found=InvalidInput(f"{read.found}: the rest was not read; a file of conversations is in UTF-8")
                )
                return
            yield read

    def _check_names(self, read: Read) -> None:
        """Refuse a session whose id or namespace the caller has named, because the file names it."""
        line, found = read.line, read.found
        namespace = found.head.namespace if isinstance(found, Part) else None
        if self.session is not None and read.session is not None and not self._names_none:
            raise InvalidInput(
                f"line {line}: the file names its sessions, and --session is for a file with one list of messages: "
                "leave it out"
            )
        if self.one_namespace and namespace is not None:
            raise InvalidInput(
                f"line {line}: the file names the namespace of each session, here {namespace!r}: leave out --namespace"
            )

    def _array(self, file: BinaryIO, first: Line) -> Iterator[Read]:
        messages: list[object] = []
        items, begun, seen = Items(file, first), first.number, 0
        try:
            for item in items:
                size, seen = items.size - seen, items.size
                if messages or is_message(item):
                    self._names_none = True
                    messages.append(item)
                    yield Read(items.begun, size, None)
                else:
                    yield Read(items.begun, size, _parsed(item))
            if messages:
                yield Read(begun, 0, self._of_messages(messages))
        except InvalidInput as error:
            yield Read(begun if messages else items.line, 0, error)

    def _of_messages(self, messages: list[object]) -> Conversation | TurnlogError:
        if self.session is None:
            return InvalidInput("a list of messages has no session id: give one with --session")
        try:
            return conversation_of(self.session, messages)
        except TurnlogError as error:
            return error

    # -------------------------------------------------------------------------------------------------------- storing

    async def put(self, read: Read) -> ImportResult | None:
        """Store a piece; return the result once a session is complete, or has failed.

        Raises:
            Unavailable: The store could not be reached.
            OutcomeUnknown: An answer was lost.
        """
        try:
            if isinstance(read.found, TurnlogError):
                raise read.found
            if isinstance(read.found, Conversation):
                return await store_conversation(self.store, read.line, read.found, self._begins)
            if isinstance(read.found, Part):
                return await self._restore(read.line, read.found)
        except STORE_IS_GONE:
            raise
        except TurnlogError as error:
            self._restoring = None
            outcome: Literal["different", "failed"] = "different" if isinstance(error, Differs) else "failed"
            return ImportResult(read.line, read.session, outcome, error=error)
        return None

    async def _restore(self, line: int, part: Part) -> ImportResult | None:
        if part.begins:
            # a view nests the name: no file leads out of it
            store = self.store if part.head.namespace is None else self.store.within(part.head.namespace)
            self._restoring = Restoring(store, line, part.head, part.head.all_metadata(), part.head.times())
            await self._restoring.begin()
        if self._restoring is None:  # an earlier part has failed
            return None
        if part.records:
            await self._restoring.add(part.records)
        return await self._restoring.finish() if part.ends else None


def _conversation(line: Line) -> Read:
    if line.text is None:
        error = TooLarge(f"the line has more than {_documents.MAX_LINE_BYTES} bytes: split the conversation")
        return Read(line.number, line.size, error)
    if not line.text.strip():
        return Read(line.number, line.size, None)
    try:
        return Read(line.number, line.size, parse_conversation(parse_json(line.text)))
    except TurnlogError as error:
        return Read(line.number, line.size, error)


def _parsed(item: object) -> Conversation | TurnlogError:
    try:
        return parse_conversation(item)
    except TurnlogError as error:
        return error
