"""`Conversation`: the session of a chat, its answers and its last turns, on a terminal or in a pipe."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any, Final, Self

from turnlog import Pipeline, SessionNotFound, Turn

from ._show import STYLES, indented, not_text, parts_of, shortened, text_of
from ._text import Code, Printer, is_terminal, note

_SHOWN: Final = 3
"""Number of turns that are shown when a session is continued."""


class Conversation:
    """The session of a chat.

    Args:
        pipeline: Produces the answers.
        session_id: The first session.
        model: The model's name, which is shown before each answer.

    Attributes:
        pipeline: Produces the answers.
        store: The store of the pipeline.
        session_id: The session.
        out: Standard output.
        is_interactive: Whether standard input and standard output are a terminal.
        is_over: Whether the chat ends after this line.
        code: The exit code if no line fails.
        task: The task that handles the last line.
    """

    def __init__(self, pipeline: Pipeline, session_id: str, model: str) -> None:
        self.pipeline = pipeline
        self.store = pipeline.store
        self.session_id = session_id
        self.out = Printer()
        self.is_interactive = self.out.console is not None and is_terminal(sys.stdin)
        self.is_over = False
        self.code = Code.FINE
        self.task: asyncio.Task[Any] | None = None
        self._model = model

    async def ask(self, content: str | list[Any]) -> None:
        """Send a message, and print the answer as it arrives.  After a cancellation, the part so far is stored.

        Raises:
            TurnlogError: The history could not be read, or the model failed.
        """
        label = f"{self._model}: " if self.is_interactive else ""
        with _Answer(self.out, label) as answer:
            async with self.pipeline.stream(self.session_id, "user", content) as reply:
                async for piece in reply:
                    answer.write(piece)
                    await asyncio.sleep(0)  # lets Ctrl-C also stop a model that never waits
            response = reply.result.response
            answer.end(not_text(response) if answer.has_text else text_of(response))
        if reply.result.error is not None and not self.is_interactive:  # the pipeline has logged it
            self.is_over, self.code = True, Code.of(reply.result.error)

    async def show_return(self) -> None:
        """Print the last turns of a continued session, dimmed, or a note that the session is new.

        Raises:
            TurnlogError: The turns cannot be read.
        """
        try:
            turns, count = await self.last_turns(_SHOWN)
        except SessionNotFound:
            note(f"session {self.session_id!r} is new: the first message creates it")
            return
        if count > len(turns):
            self.out((f"the last {len(turns)} of {count} turns:", "dim"))
        self.show(turns, dim=True)

    async def last_turns(self, count: int) -> tuple[tuple[Turn, ...], int]:
        """Return at most `count` last turns, and the number of turns of the session.  No time to live is restarted.

        Raises:
            SessionNotFound: The session does not exist.
            CorruptRecord: A turn cannot be read.
        """
        last = 2 * count  # messages: a question and an answer for each turn
        while True:
            session = await self.store.session(self.session_id, last=last, touch=False)
            there = session.info.turns - session.info.first
            if len(session.turns) >= min(count, there):
                return session.turns[-count:], there
            last *= 2

    def show(self, turns: tuple[Turn, ...], *, dim: bool = False) -> None:
        """Print turns, or print them dimmed and shortened."""
        for turn in turns:
            for message in turn.messages:
                style = "dim" if dim else STYLES.get(message.role or "", "bold")
                for label, text in parts_of(message):
                    shown = shortened(text, 500) if dim else text
                    self.out((label, style), (indented(shown), "dim" if dim else ""))
            if turn.open:
                self.out(("(unfinished)", "dim"))


class _Answer:
    """One answer on standard output: a wait indicator, then the text as it arrives, then the end of the line."""

    def __init__(self, out: Printer, label: str) -> None:
        self.has_text = False
        self._out = out
        self._label = label
        self._status = out.console.status("") if out.console is not None and label else None
        self._is_begun = False

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the line of an interrupted answer, so that the next output begins on a new line."""
        if self._status is not None:
            self._status.stop()
        if self._is_begun and kind is not None:
            self._out()

    def write(self, piece: str) -> None:
        """Print a piece at once."""
        self._begin()
        self.has_text = self.has_text or bool(piece)
        self._out.write(piece)

    def end(self, rest: str) -> None:
        """Print the parts of the answer that are not text, and end the line."""
        self._begin()
        if rest and self.has_text:
            rest = f"\n{rest}"
        self._out((rest, ""))
        sys.stdout.flush()
        self._is_begun = False

    def _begin(self) -> None:
        if self._is_begun:
            return
        self._is_begun = True
        if self._status is not None:
            self._status.stop()
        if self._label:
            self._out.write(self._label, "bold cyan")
