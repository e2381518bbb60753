"""`import_file`: stores the conversations and sessions of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import TextIOBase
from itertools import chain
from typing import BinaryIO, Literal, NamedTuple

from turnlog import InvalidInput, Store
from turnlog.errors import AccessError, Closed, OutcomeUnknown, SchemaError, TooLarge, TurnlogError, Unavailable
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

STORE_IS_GONE = (AccessError, Closed, OutcomeUnknown, SchemaError, Unavailable)
"""Errors that end an import, because they would also affect the rest of the file."""


class Read(NamedTuple):
    """A piece of a file.

    Attributes:
        line: The number of its first line, from 1.
        size: The number of bytes that were read since the piece before.
        found: A conversation, a part of a session, or an error; None: nothing to store.
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
        stored: The number of created sessions.
        extended: The number of existing sessions that were extended.
        unchanged: The number of existing sessions that have all messages already.
        empty: The number of conversations without messages, for which no session is created.
        expired: The number of sessions that have expired since their export, and are not stored.
        different: The number of existing sessions that differ; they stay unchanged.
        failed: The number of sessions, or parts of the file, that could not be read or stored.
        messages: The number of written messages.
        dropped: The number of imported turns that the store's `retain` has dropped.
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
        """Whether the store has all unexpired sessions of the file."""
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
    """Store the sessions and conversations of a file; a second call stores only new messages.

    The file is an export of turnlog, conversations as JSON Lines, ChatGPT's or Claude's `conversations.json`, or a list
    of messages; the format is detected.  Stored messages are never changed or removed.  If a part of the file cannot be
    read or stored, its result reports the error, and the other parts are stored.

    Args:
        store: The store, or a view.  On a view of a namespace, the namespaces of an export are nested in it.
        file: The file, in binary mode.
        session: The session id for a list of messages; other files contain session ids.
        owner: The owner of new sessions; an existing session must belong to this owner.  None: the owner in the export,
            otherwise no owner.
        begins_turn: As in `Store.save`; ignored for an export, which contains turns.
        progress: Called with the result of each session.

    Raises:
        InvalidInput: An argument breaks a rule, or `session` is given and the file contains session ids.
        Unavailable: The store could not be reached; another call continues the import.
        OutcomeUnknown: An answer was lost; another call continues the import.
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
    """An import in two steps: `read` reads from the file, and `put` writes to the store.

    Args:
        store: As in `import_file`.
        session: As in `import_file`.
        owner: As in `import_file`.
        begins_turn: As in `import_file`.
        one_namespace: Refuse an export with namespaces, because the caller has chosen one.

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

        If the file is not text, the first error is the last piece.

        Raises:
            InvalidInput: The caller has chosen a session or a namespace, but the file contains session ids or
                namespaces.
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
                    found=InvalidInput(f"{read.found}: the rest is not read; convert the file to UTF-8")
                )
                return
            yield read

    def _check_names(self, read: Read) -> None:
        """Refuse a piece with a session id or namespace if the caller has chosen one."""
        line, found = read.line, read.found
        namespace = found.head.namespace if isinstance(found, Part) else None
        if self.session is not None and read.session is not None and not self._names_none:
            raise InvalidInput(
                f"line {line}: the file contains session ids: leave out --session, which is only for a file with one "
                "list of messages"
            )
        if self.one_namespace and namespace is not None:
            raise InvalidInput(f"line {line}: the file contains namespaces, here {namespace!r}: leave out --namespace")

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
            return InvalidInput("a list of messages needs a session id: pass --session (in Python, session=)")
        try:
            return conversation_of(self.session, messages)
        except TurnlogError as error:
            return error

    # -------------------------------------------------------------------------------------------------------- storing

    async def put(self, read: Read) -> ImportResult | None:
        """Store a piece; return the result if it completes a session, or if it has failed.

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
            # a view nests the name: a file cannot reach other namespaces
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
