"""The commands in a chat: lines that begin with a slash."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from turnlog import InvalidInput, SessionNotFound, TurnlogError

from ._conversation import Conversation
from ._show import text_of
from ._table import Table
from ._text import as_json, note, time_of

_LINE: Final = re.compile(r"/(\S*)\s*(.*?)\s*", re.DOTALL)


class _Command(NamedTuple):
    """A command: its argument, a short description, and its function."""

    takes: str
    does: str
    run: Callable[[Conversation, str], Awaitable[None]]


async def obey(conversation: Conversation, text: str) -> None:
    """Run the command in a line that begins with a slash.

    Raises:
        InvalidInput: The command does not exist, or its argument is wrong.
        TurnlogError: The command failed.
    """
    found = _LINE.fullmatch(text)
    assert found is not None
    name, argument = found.groups()
    command = _EXIT if name == "quit" else _COMMANDS.get(name)
    if command is None:
        raise InvalidInput(
            f"there is no command /{name[:40]}: /help lists the commands; write //{name[:40]} to send it as a message"
        )
    if argument and not command.takes:
        raise InvalidInput(f"/{name} takes no argument: leave it out, or write //{name} to send the line as a message")
    if command.takes.isalpha() and not argument:
        raise InvalidInput(f"/{name} needs an argument: /{name} {command.takes}")
    await command.run(conversation, argument)


async def _help(conversation: Conversation, _: str) -> None:
    lines = [(f"/{name} {command.takes}", command.does) for name, command in _COMMANDS.items()]
    for usage, does in [*lines, ("//TEXT", "send /TEXT as a message")]:
        conversation.out((f"{usage:<14}", "bold"), (does, ""))


async def _new(conversation: Conversation, _: str) -> None:
    conversation.session_id = conversation.store.new_session_id()
    note(f"session: {conversation.session_id}")


async def _sessions(conversation: Conversation, _: str) -> None:
    table, count = Table("session", "turns", "updated", "title"), 0
    try:
        async for info in conversation.store.sessions():
            title = info.metadata.get("title", "")
            text = title if isinstance(title, str) else as_json(title)
            table.add(info.key.session, str(info.turns - info.first), time_of(info.updated), text)
            count += 1
            if count == 10:
                break
    finally:
        table.end()
    if not count:
        note("the namespace has no sessions yet")


async def _open(conversation: Conversation, argument: str) -> None:
    await conversation.store.info(argument)
    conversation.session_id = argument
    note(f"session: {argument}")
    if conversation.is_interactive:
        await conversation.show_return()


async def _history(conversation: Conversation, argument: str) -> None:
    if argument and not re.fullmatch(r"[1-9]\d{0,5}", argument, re.ASCII):
        raise InvalidInput(f"/history takes a number of turns, such as /history 10, not {argument[:40]!r}")
    try:
        turns, _ = await conversation.last_turns(int(argument or 10))
    except SessionNotFound:
        turns = ()
    conversation.show(turns)
    if not turns:
        note("the session has no turns yet")


async def _undo(conversation: Conversation, _: str) -> None:
    turn = None
    with contextlib.suppress(SessionNotFound):
        turn = await conversation.store.pop(conversation.session_id)
    if turn is None:
        raise InvalidInput("the session has no turn to undo")
    note(f"undone: {text_of(turn.messages[0])[:70]}")


async def _retry(conversation: Conversation, _: str) -> None:
    store, session_id = conversation.store, conversation.session_id
    try:
        session = await store.session(session_id, last=1)
    except SessionNotFound:
        session = None
    if session is None or not session.turns:
        raise InvalidInput("the session has no turn to retry")
    turn = session.turns[-1]
    question = next((message for message in turn.messages if message.role == "user"), None)
    content = None if question is None else question.content
    if question is None or not isinstance(content, str | list):
        raise InvalidInput("the last turn has no question to ask again")
    receipt = await store.rewind(session_id, turns=1, expect=session.version)
    if conversation.is_interactive:
        conversation.out(("user: ", "dim"), (text_of(question), "dim"))
    try:
        await conversation.ask(content)
    except BaseException:
        with contextlib.suppress(TurnlogError):  # fails if a part of the new answer was stored
            await store.append(session_id, turn.messages, expect=receipt.version, open=turn.open)
        raise


async def _title(conversation: Conversation, argument: str) -> None:
    await conversation.store.merge_metadata(conversation.session_id, {"title": argument})
    note(f"title: {argument}")


async def _exit(conversation: Conversation, _: str) -> None:
    conversation.is_over = True


_EXIT: Final = _Command("", "end the chat, as /quit and Ctrl-D do", _exit)
_COMMANDS: Final = {
    "help": _Command("", "list the commands", _help),
    "new": _Command("", "begin a new session", _new),
    "sessions": _Command("", "list the most recently updated sessions", _sessions),
    "open": _Command("ID", "continue another session", _open),
    "history": _Command("[N]", "show the last N turns, or the last 10", _history),
    "undo": _Command("", "undo the last turn", _undo),
    "retry": _Command("", "undo the last turn, and ask its question again", _retry),
    "title": _Command("TEXT", "set the session's title", _title),
    "exit": _EXIT,
}
