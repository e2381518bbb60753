"""`turnlog chat`: in pipes, mostly in this process over one memory store, and on a terminal."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from command_line import Kept, Screen, answers, append, load, turnlog, typed, use
from distributions import install
from turnlog import Change, Message, Turn, assistant, open_store, user
from turnlog.errors import Unavailable
from turnlog_cli import main

ESCAPES = "\x1b[31mred\x1b[0m \x07 \x9b2J \u202e"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return the store that every command opens."""
    kept = Kept(clock=lambda: 1_700_000_000.0)
    use(monkeypatch, kept)
    return kept


# ------------------------------------------------------------------------------------------------------------ in a pipe


def test_chat_prints_one_reply_a_message_and_nothing_else(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, "My name is Alice\n\n   \r\nWhat is my name?\r\n")
    assert main(["chat"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert out.splitlines()[0].startswith("Hello, Alice!")
    assert out.splitlines()[1] == "Your name is Alice."
    session = err.splitlines()[0].removeprefix("session: ")
    assert f"turnlog chat --session={session}" in err
    assert [message["content"] for message in load(store, session)][::2] == ["My name is Alice", "What is my name?"]


def test_chat_goes_on_with_a_session(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    for line, reply in (("My name is Alice", "Hello, Alice!"), ("Who am I?", "Your name is Alice.")):
        typed(monkeypatch, line)  # no newline at the end
        assert main(["chat", "--session", "alice"]) == 0
        out, err = capsys.readouterr()
        assert out.startswith(reply)
        assert err == ""


def test_chat_reads_and_writes_utf8(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, "My name is Zoë 🎈\n".encode())
    assert main(["chat", "--session=z"]) == 0
    assert capsys.readouterr().out.startswith("Hello, Zoë 🎈!")


def test_chat_hints_at_no_password(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, "")
    assert main(["chat", "--store", "redis://u:hunter2@h/0", "--model=offline"]) == 0
    assert "--store=..." in (err := capsys.readouterr().err)
    assert "hunter2" not in err
    typed(monkeypatch, "")
    assert main(["chat", "--store=sqlite:///a b.db"]) == 0
    assert "'--store=sqlite:///a b.db'" in capsys.readouterr().err


def test_a_turn_that_fails_ends_a_chat_that_is_no_terminal(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    async def model(messages: Sequence[Message], **options: object) -> Message:
        if messages[-1].text == "two":
            raise RuntimeError("no\nmore")
        return assistant("fine")

    answers(monkeypatch, model)
    typed(monkeypatch, "one\ntwo\nthree\n")
    assert main(["chat", "--session=s"]) == 1
    out, err = capsys.readouterr()
    assert out == "fine\n"
    assert err == "turnlog: model 'offline' failed: RuntimeError: no\\nmore\n"
    assert [message["content"] for message in load(store, "s")] == ["one", "fine"]


def test_a_message_that_is_not_utf8_is_an_error_and_stores_nothing(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, b"caf\xe9\n")
    assert main(["chat", "--session=s"]) == 1
    assert "surrogate" in capsys.readouterr().err
    assert main(["show", "s"]) == 1


def test_chat_passes_the_system_prompt_and_the_window(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    given: list[list[str]] = []

    async def model(messages: Sequence[Message], **options: object) -> Message:
        given.append([message.text for message in messages])
        return assistant("fine")

    for number in range(15):
        append(store, "s", user(f"u{number}"), assistant(f"a{number}"))
    answers(monkeypatch, model)
    typed(monkeypatch, "now")
    assert main(["chat", "--session=s", "--system=Be brief."]) == 0
    assert given == [["Be brief.", *(f"{who}{number}" for number in range(8, 15) for who in "ua"), "now"]]


def test_a_class_of_models_is_made(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    class Echo:
        async def __call__(self, messages: Sequence[Message], **options: object) -> Message:
            return assistant([{"type": "text", "text": messages[-1].text}, {"type": "x", "n": 1}])

    class Needy(Echo):
        def __init__(self, key: str) -> None: ...

    answers(monkeypatch, Echo)
    typed(monkeypatch, "hi")
    assert main(["chat", "--model=echo"]) == 0
    assert capsys.readouterr().out == 'hi\n{"type": "x", "n": 1}\n'
    answers(monkeypatch, Needy)
    assert main(["chat", "--model=needy"]) == 2
    assert "'needy' cannot be created without options" in capsys.readouterr().err


def test_a_reply_cannot_control_the_terminal(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    async def model(messages: Sequence[Message], **options: object) -> Message:
        return assistant(f"[bold]{ESCAPES}\r:smile:")

    answers(monkeypatch, model)
    typed(monkeypatch, "hi")
    assert main(["chat"]) == 0
    assert capsys.readouterr().out == "[bold]\\x1b[31mred\\x1b[0m \\x07 \\x9b2J \\u202e\\r:smile:\n"


def test_ctrl_c_is_130(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    async def model(messages: Sequence[Message], **options: object) -> Message:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()
        return assistant("never")

    answers(monkeypatch, model)
    typed(monkeypatch, "hi")
    assert main(["chat", "--session=s"]) == 130
    assert capsys.readouterr() == ("", "")
    assert turns(store, "s") == [["hi"]]  # a stream that is cut off also stores the question


def turns(store: Kept, session: str) -> list[list[str]]:
    """Return the texts of each turn."""
    return [[message.text for message in turn.messages] for turn in asyncio.run(store.session(session)).turns]


def test_an_answer_is_written_as_it_comes_and_escaped_across_pieces(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    seen: list[str] = []

    async def model(messages: Sequence[Message], **options: object) -> AsyncIterator[str]:
        for piece in ("one ", "\x1b", "[2J", " \u202e", "two"):
            yield piece
            seen.append(capsys.readouterr().out)

    answers(monkeypatch, model)
    typed(monkeypatch, "hi\n")
    assert main(["chat", "--session=s"]) == 0
    assert seen == ["one ", "\\x1b", "[2J", " \\u202e", "two"]
    assert capsys.readouterr() == ("\n", "")
    assert turns(store, "s") == [["hi", "one \x1b[2J \u202etwo"]]


def test_an_answer_that_ends_with_the_whole_message_is_printed_once(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    async def model(messages: Sequence[Message], **options: object) -> AsyncIterator[str | Message]:
        if messages[-1].text == "pieces":
            yield "said "
            yield "once"
        yield assistant([{"type": "text", "text": "said once"}, {"type": "x", "n": 1}])

    answers(monkeypatch, model)
    typed(monkeypatch, "pieces\nwhole\n")
    assert main(["chat", "--session=s"]) == 0
    assert capsys.readouterr().out == 'said once\n{"type": "x", "n": 1}\n' * 2


def test_a_model_that_fails_in_the_middle_ends_its_line_and_what_it_said_is_stored(
    store: Kept, monkeypatch: Any, capsys: Any
) -> None:
    async def model(messages: Sequence[Message], **options: object) -> AsyncIterator[str]:
        yield "half"
        raise RuntimeError("no more")

    answers(monkeypatch, model)
    typed(monkeypatch, "one\ntwo\n")
    assert main(["chat", "--session=s"]) == 1
    assert capsys.readouterr() == ("half\n", "turnlog: model 'offline' failed: RuntimeError: no more\n")
    assert turns(store, "s") == [["one", "half"]]


def test_an_answer_that_cannot_be_stored_is_shown_and_ends_a_chat_that_is_no_terminal(
    store: Kept, monkeypatch: Any, capsys: Any
) -> None:
    def fail(change: Change) -> None:
        raise Unavailable("down")

    store.backend.before = fail
    typed(monkeypatch, "My name is Alice\nMy name is Bob\n")
    assert main(["chat", "--session=s"]) == 3
    out, err = capsys.readouterr()
    assert out.count("Hello, ") == 1
    assert err == "turnlog: the answer in session 's' could not be stored: down\n"


# ------------------------------------------------------------------------------------------------------------- continue


def test_continue_takes_the_session_that_was_updated_last(monkeypatch: Any, capsys: Any) -> None:
    now = 1_700_000_000.0
    store = Kept(clock=lambda: now)
    use(monkeypatch, store)
    for session in ("a", "b", "c"):
        append(store, session, user(f"My name is {session}"), assistant("Hello"))
        now += 1
    append(store, "b", user("x"), assistant("y"))
    append(store.within("other"), "d", user("x"), assistant("y"))
    typed(monkeypatch, "What is my name?\n")
    assert main(["chat", "--continue"]) == 0
    out, err = capsys.readouterr()
    assert out == "Your name is b.\n"
    assert err == "session: b\nto continue, run: turnlog chat --session=b\n"


def test_continue_without_a_session_is_one_line_that_says_what_to_do(
    store: Kept, monkeypatch: Any, capsys: Any
) -> None:
    typed(monkeypatch, "hi\n")
    assert main(["chat", "--continue"]) == 1
    said = "turnlog: namespace 'default' has no session to continue: to begin a new one, leave out --continue\n"
    assert capsys.readouterr() == ("", said)


def test_continue_and_session_exclude_each_other(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, "hi\n")
    append(store, "s", user("x"))
    assert main(["chat", "--continue", "--session=s"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"turnlog: --continue .* --session .*\n", err)
    assert turns(store, "s") == [["x"]]


def test_in_a_pipe_a_return_shows_no_earlier_turns(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    append(store, "s", user("My name is Alice"), assistant("Hello"))
    typed(monkeypatch, "What is my name?\n")
    assert main(["chat", "--session=s"]) == 0
    assert capsys.readouterr() == ("Your name is Alice.\n", "")


# ------------------------------------------------------------------------------------------------------------- commands


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Install a model; return the messages of each call. It answers `a1`, `a2`, ..., and fails for `fail`."""
    given: list[list[str]] = []

    async def model(messages: Sequence[Message], **options: object) -> Message:
        given.append([message.text for message in messages])
        if messages[-1].text == "fail" and len(given) > 1:
            raise RuntimeError("down")
        return assistant(f"a{len(given)}")

    answers(monkeypatch, model)
    return given


def test_help_lists_the_commands_and_asks_no_model(
    store: Kept, asked: list[list[str]], monkeypatch: Any, capsys: Any
) -> None:
    typed(monkeypatch, "/help\n")
    assert main(["chat", "--session=s"]) == 0
    listed = re.findall(r"^(/\S+)", capsys.readouterr().out, re.MULTILINE)
    assert listed == [
        *("/help", "/new", "/sessions", "/open", "/history", "/undo", "/retry", "/title", "/exit"),
        "//TEXT",
    ]
    assert asked == []


def test_new_begins_a_session_that_the_last_note_names(
    store: Kept, asked: list[list[str]], monkeypatch: Any, capsys: Any
) -> None:
    typed(monkeypatch, "one\n/new\ntwo\n")
    assert main(["chat", "--session=s"]) == 0
    out, err = capsys.readouterr()
    assert out == "a1\na2\n"
    found = re.fullmatch(r"session: (\S+)\nto continue, run: turnlog chat --session=(\S+)\n", err)
    assert found is not None
    assert found[1] == found[2]
    assert asked == [["one"], ["two"]]
    assert turns(store, found[1]) == [["two", "a2"]]


def test_open_continues_another_session(store: Kept, asked: list[list[str]], monkeypatch: Any, capsys: Any) -> None:
    append(store, "s", user("x"), assistant("y"))
    typed(monkeypatch, "one\n/open s\ntwo\n")
    assert main(["chat"]) == 0
    assert asked == [["one"], ["x", "y", "two"]]
    assert "to continue, run: turnlog chat --session=s\n" in capsys.readouterr().err


def test_sessions_lists_the_last_ten_with_their_titles(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    for number in range(12):
        append(store, f"s{number}", user("x"), metadata={"title": f"No.\x1b {number}"})
    append(store, "t", user("x"))
    typed(monkeypatch, "/title My orders\n/sessions\n")
    assert main(["chat", "--session=t"]) == 0
    out, err = capsys.readouterr()
    rows = [row.split("\t") for row in out.splitlines()]
    assert len(rows) == 10
    assert {len(row) for row in rows} == {4}
    for session, count, _, title in rows:
        assert count == "1"
        assert title == ("My orders" if session == "t" else f"No.\\x1b {session[1:]}")
    assert err == "title: My orders\n"
    assert dict(asyncio.run(store.info("t")).metadata) == {"title": "My orders"}


def test_sessions_of_an_empty_store_is_a_note(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, "/sessions\n/history\n")
    assert main(["chat", "--session=t"]) == 0
    assert capsys.readouterr() == ("", "the namespace has no sessions yet\nthe session has no turns yet\n")


def test_history_shows_the_last_turns_whole(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    call = {"id": "1", "function": {"name": "find", "arguments": "{}"}}
    append(store, "s", user("first"), assistant("a"))
    append(store, "s", user("long"), assistant("b" * 1000))
    append(store, "s", user("tools"), *(assistant(None, tool_calls=[call]) for _ in range(9)), assistant("done"))
    append(store, "s", user("cut\nuser: no\x1b"), open=True)
    typed(monkeypatch, "/history 3\n")
    assert main(["chat", "--session=s"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *("user: long", f"assistant: {'b' * 1000}", "user: tools", *["assistant calls find({}) as 1"] * 9),
        *("assistant: done", "user: cut", "    user: no\\x1b", "(unfinished)"),
    ]
    typed(monkeypatch, "/history\n")
    assert main(["chat", "--session=s"]) == 0
    assert capsys.readouterr().out.startswith("user: first\n")


def test_undo_takes_back_the_last_turn(store: Kept, asked: list[list[str]], monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, "one\ntwo\n/undo\nthree\n")
    assert main(["chat", "--session=s"]) == 0
    assert capsys.readouterr() == ("a1\na2\na3\n", "undone: two\n")
    assert turns(store, "s") == [["one", "a1"], ["three", "a3"]]


def test_retry_asks_the_last_question_again(store: Kept, asked: list[list[str]], monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, "one\ntwo\n/retry\n")
    assert main(["chat", "--session=s"]) == 0
    assert capsys.readouterr() == ("a1\na2\na3\n", "")
    assert asked == [["one"], ["one", "a1", "two"], ["one", "a1", "two"]]
    assert turns(store, "s") == [["one", "a1"], ["two", "a3"]]


def test_retry_restores_the_turn_if_the_model_fails(
    store: Kept, asked: list[list[str]], monkeypatch: Any, capsys: Any
) -> None:
    typed(monkeypatch, "fail\n/retry\n")
    assert main(["chat", "--session=s"]) == 1
    assert capsys.readouterr() == ("a1\n", "turnlog: model 'offline' failed: RuntimeError: down\n")
    assert turns(store, "s") == [["fail", "a1"]]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/nope now", "there is no command /nope: /help lists the commands; write //nope to send it as a message"),
        ("/", "there is no command /: /help lists the commands; write // to send it as a message"),
        (
            "/usr/bin\t\x1b is full",
            "there is no command /usr/bin: /help lists the commands; write //usr/bin to send it as a message",
        ),
        ("/undo 2", "/undo takes no argument: leave it out, or write //undo to send the line as a message"),
        ("/title  ", "/title needs an argument: /title TEXT"),
        (
            "/open nobody",
            "there is no session 'nobody' in namespace 'default', or it has expired; /sessions lists the sessions",
        ),
        ("/history x", "/history takes a number of turns, such as /history 10, not 'x'"),
        ("/history 0", "/history takes a number of turns, such as /history 10, not '0'"),
        ("/undo", "the session has no turn to undo"),
        ("/retry", "the session has no turn to retry"),
    ],
)
def test_a_wrong_command_is_one_line_costs_nothing_and_ends_a_chat_that_is_no_terminal(
    command: str, said: str, store: Kept, asked: list[list[str]], monkeypatch: Any, capsys: Any
) -> None:
    typed(monkeypatch, f"{command}\none\n")
    assert main(["chat", "--session=s"]) == 1
    assert capsys.readouterr() == ("", f"turnlog: {said}\n")
    assert asked == []
    assert main(["show", "s"]) == 1  # nothing was stored


def test_a_turn_without_a_question_is_not_retried(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    append(store, "s", assistant("Welcome"))
    typed(monkeypatch, "/retry\n")
    assert main(["chat", "--session=s"]) == 1
    assert capsys.readouterr() == ("", "turnlog: the last turn has no question to ask again\n")
    assert turns(store, "s") == [["Welcome"]]


def test_two_slashes_begin_a_message_with_one(store: Kept, asked: list[list[str]], monkeypatch: Any) -> None:
    typed(monkeypatch, "//help\n///x\n /help\n")
    assert main(["chat", "--session=s"]) == 0
    assert [given[-1] for given in asked] == ["/help", "//x", " /help"]


@pytest.mark.parametrize("command", ["/exit", "/quit"])
def test_exit_and_quit_end_the_chat(
    command: str, store: Kept, asked: list[list[str]], monkeypatch: Any, capsys: Any
) -> None:
    typed(monkeypatch, f"one\n{command}\ntwo\n")
    assert main(["chat", "--session=s"]) == 0
    assert capsys.readouterr() == ("a1\n", "")


# -------------------------------------------------------------------------------------------------- in other processes


def test_two_processes_one_session(tmp_path: Path) -> None:
    first = turnlog("chat", "--session=alice", cwd=tmp_path, text="My name is Alice\n")
    assert first.returncode == 0, first.stderr
    second = turnlog("chat", "--session=alice", cwd=tmp_path, text="What is my name?\n")
    assert (second.returncode, second.stdout, second.stderr) == (0, b"Your name is Alice.\n", b"")
    assert (tmp_path / "turnlog.db").exists()


MODELS = """
import asyncio, os
from turnlog import assistant

async def gated(messages, **options):
    yield "first "
    await asyncio.to_thread(lambda: open("gate").read())
    yield "second"

async def endless(messages, **options):
    if messages[-1].text != "hi":
        yield f"I was given {[message.text for message in messages]}"
        return
    yield "half an"
    await asyncio.Event().wait()

async def silent(messages, **options):
    print("asked", end="", flush=True)
    await asyncio.Event().wait()

async def busy(messages, **options):
    while True:
        yield "again "

async def waits(messages, **options):
    yield "half an"
    asyncio.get_running_loop().call_soon(lambda: print(" waiting", end="", flush=True))  # once it does
    try:
        await asyncio.Event().wait()
    finally:
        asyncio.get_running_loop().call_soon(lambda: print(" cleaning", end="", flush=True))
        await asyncio.Event().wait()

async def breaks(messages, **options):
    if messages[-1].text == "hi":
        yield "half an"
        raise RuntimeError("no\\nmore")
    yield "whole"
"""


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a process in which these models are installed."""
    names = re.findall(r"async def (\w+)", MODELS)
    entries = {"turnlog.models": {name: f"acme_models:{name}" for name in names}}
    install(monkeypatch, tmp_path, "turnlog-acme", entries, acme_models=MODELS)
    return {"PYTHONPATH": os.pathsep.join([f"{tmp_path}/site-turnlog-acme", os.environ.get("PYTHONPATH", "")])}


def test_in_a_pipe_each_piece_is_flushed(models: dict[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    code = "import sys, turnlog_cli; sys.exit(turnlog_cli.main())"
    with subprocess.Popen(
        [sys.executable, "-c", code, "chat", "--session=s", "--model=gated"],
        cwd=tmp_path,
        env={**os.environ, **models, "PYTHONUNBUFFERED": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(b"hi\n")
            process.stdin.close()
            assert process.stdout.read(6) == b"first "  # the model waits until something is written to the gate
            (tmp_path / "gate").write_text("open")
            assert process.stdout.read() == b"second\n"
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


# -------------------------------------------------------------------------------------------------------- on a terminal


def stored(tmp_path: Path) -> tuple[Turn, ...]:
    """Return the turns of the session `s` in the default store."""

    async def read() -> tuple[Turn, ...]:
        async with open_store(f"sqlite:///{tmp_path}/turnlog.db") as opened:
            return (await opened.session("s")).turns

    return asyncio.run(read())


def test_on_a_terminal_it_asks_and_answers_until_ctrl_d(tmp_path: Path) -> None:
    with Screen("chat", "--store=memory://", cwd=tmp_path) as screen:
        assert "session: " in screen.wait_for("/help lists the commands")
        screen.say("My name is [b]Alice[/b]")
        screen.say("")
        screen.say("Who am I?")
        assert "\x1b[1;36moffline: " in screen.wait_for("Your name is [b]Alice[/b].\r\n")  # a terminal has colours
        screen.wait_for("you: ")
        assert screen.end("\x04") == 0
        assert "Traceback" not in screen.seen


def test_on_a_terminal_ctrl_c_at_the_prompt_ends_it_with_a_clean_line(tmp_path: Path) -> None:
    with Screen("chat", cwd=tmp_path) as screen:
        screen.say("Hello")
        screen.wait_for("you: ")
        assert screen.end("\x03") == 130
        assert re.search(r"\r\nto continue, run: turnlog chat --session=\S+\r\n$", screen.seen)
        assert "Traceback" not in screen.seen


def test_on_a_terminal_a_turn_that_fails_is_reported_and_the_chat_goes_on(tmp_path: Path) -> None:
    # in this locale readline passes on a byte that is not UTF-8; in others it may drop the byte
    with Screen("chat", "--store=memory://", cwd=tmp_path, LC_ALL="C") as screen:
        screen.wait_for("you: ")
        screen.type(b"caf\xe9\r")
        screen.wait_for("turnlog: ")
        screen.say("My name is Alice")
        screen.wait_for("Hello, Alice!")
        screen.wait_for("you: ")
        assert screen.end("\x04") == 0


def test_on_a_terminal_ctrl_c_stops_an_answer_and_what_was_said_is_stored(
    models: dict[str, str], tmp_path: Path
) -> None:
    with Screen("chat", "--session=s", "--model=endless", cwd=tmp_path, **models) as screen:
        screen.say("hi")
        screen.wait_for("half an")
        screen.type("\x03")
        assert re.fullmatch(r"(\^C)?\r\nstopped\r\n\S*you: ", screen.wait_for("you: "))
        screen.type("go on\r")
        screen.wait_for("I was given ['hi', 'half an', 'go on']")
        screen.say("/exit")
        assert screen.end() == 0
    turns = stored(tmp_path)
    assert [message.text for message in turns[0].messages] == ["hi", "half an"]
    assert turns[0].interrupted


@pytest.mark.parametrize(("model", "shown"), [("silent", "asked"), ("busy", "again again ")])
def test_on_a_terminal_ctrl_c_stops_a_model_that_says_nothing_or_never_waits(
    model: str, shown: str, models: dict[str, str], tmp_path: Path
) -> None:
    with Screen("chat", "--session=s", f"--model={model}", cwd=tmp_path, **models) as screen:
        screen.say("hi")
        screen.wait_for(shown)
        screen.type("\x03")
        screen.wait_for("stopped\r\n")
        screen.say("/exit")
        assert screen.end() == 0
    assert stored(tmp_path)[0].messages[0].text == "hi"


def test_on_a_terminal_a_second_ctrl_c_ends_the_chat_and_what_was_said_is_stored(
    models: dict[str, str], tmp_path: Path
) -> None:
    with Screen("chat", "--session=s", "--model=waits", cwd=tmp_path, **models) as screen:
        screen.say("hi")
        screen.wait_for("half an waiting")
        screen.type("\x03")
        screen.wait_for("cleaning")
        screen.type("\x03")
        assert screen.end() == 130
        assert re.search(r" cleaning(\^C)?\r\nstopped\r\n$", screen.seen)
    assert [message.text for message in stored(tmp_path)[0].messages] == ["hi", "half an"]


def test_on_a_terminal_a_model_that_fails_in_the_middle_is_one_line_and_the_chat_goes_on(
    models: dict[str, str], tmp_path: Path
) -> None:
    with Screen("chat", "--session=s", "--model=breaks", cwd=tmp_path, **models) as screen:
        screen.say("hi")
        screen.wait_for("half an")
        said = screen.wait_for("you: ")
        assert said.startswith("\r\nturnlog: model 'breaks' failed: RuntimeError: no\\nmore\r\n")
        screen.type("/retry\r")
        screen.wait_for("half an")
        screen.say("/undo")
        screen.wait_for("undone: hi\r\n")
        screen.say("once more")
        screen.wait_for("whole\r\n")
        screen.wait_for("you: ")
        assert screen.end("\x04") == 0
    assert [[message.text for message in turn.messages] for turn in stored(tmp_path)] == [["once more", "whole"]]


def test_on_a_terminal_a_wrong_command_is_reported_and_the_chat_goes_on(tmp_path: Path) -> None:
    with Screen("chat", "--store=memory://", cwd=tmp_path) as screen:
        screen.say("/nope")
        screen.wait_for("turnlog: there is no command /nope: /help lists the commands")
        screen.say("/help")
        screen.wait_for("/retry")
        screen.say("/quit")
        assert screen.end() == 0


@pytest.mark.parametrize("option", ["--session=s", "--continue"])
def test_on_a_terminal_a_return_shows_the_last_turns_dimmed(option: str, tmp_path: Path) -> None:
    lines = "".join(f"My favourite number is {number}\n" for number in range(5)) + f"x{'y' * 600}\n"
    assert turnlog("chat", "--session=s", cwd=tmp_path, text=lines).returncode == 0
    with Screen("chat", option, cwd=tmp_path) as screen:
        shown = screen.wait_for("you: ")
        assert "\x1b[2mthe last 3 of 6 turns:" in shown
        assert "number is 2" not in shown
        for number in (3, 4):
            assert f"\x1b[2muser: \x1b[0m\x1b[2mMy favourite number is {number}\x1b[0m\r\n" in shown
            assert f"\x1b[2massistant: \x1b[0m\x1b[2mNoted: your favourite number is {number}." in shown
        assert f"x{'y' * 499}... (601 characters)" in shown
        assert ("session: s\r\n" in shown) == (option == "--continue")
        assert screen.end("\x04") == 0
        assert ("to continue, run" in screen.seen) == (option == "--continue")


def test_on_a_terminal_a_session_that_is_not_stored_is_said_to_be_new(tmp_path: Path) -> None:
    with Screen("chat", "--session=s", cwd=tmp_path) as screen:
        assert "session 's' is new" in screen.wait_for("you: ")
        assert screen.end("\x04") == 0
