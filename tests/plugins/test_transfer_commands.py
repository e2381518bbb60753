"""`turnlog export`, `turnlog import` and `turnlog copy`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Kept, Screen, append, load, typed, use
from moving import described
from turnlog import Key, Session, Store, assistant, open_store, user
from turnlog.errors import CorruptRecord, Unavailable
from turnlog_cli import main
from turnlog_transfer.commands import _ascii, _parse_rate


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return the store that every command opens."""
    kept = Kept(clock=lambda: 5.0)
    use(monkeypatch, kept)
    append(kept, "a", user("One \u202e \x9b"), assistant("1"), owner="ann")
    append(kept, "b", user("Two"), assistant("2"), owner="bob", metadata={"title": "T"})
    return kept


def all_of(store: Store) -> dict[str, Any]:
    return asyncio.run(described(store))


def test_export_and_import_over_a_file(store: Kept, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text("old")
    assert main(["export", "-o", str(path)]) == 0
    assert capsys.readouterr() == ("", "turnlog: 2 sessions exported, 4 messages\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["all.jsonl"]
    use(monkeypatch, other := Kept())
    assert main(["import", str(path)]) == 0
    assert capsys.readouterr() == (
        "2 sessions stored, 0 extended, 0 unchanged, 0 different, 0 failed; 4 messages written\n",
        "",
    )
    assert all_of(other) == all_of(store)


def test_an_import_says_what_has_expired(store: Kept, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    asyncio.run(store.merge_metadata("a", ttl=100.0))
    path = tmp_path / "all.jsonl"
    assert main(["export", "-o", str(path)]) == 0
    capsys.readouterr()
    use(monkeypatch, other := Kept(clock=lambda: 105.0))
    assert main(["import", str(path)]) == 0
    assert capsys.readouterr() == (
        "1 session stored, 0 extended, 0 unchanged, 0 different, 0 failed; 2 messages written\n",
        f"{path}: left out 1 expired session\n",
    )
    assert [*all_of(other)] == ["b"]


def test_export_and_import_over_a_pipe(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    assert main(["export", "b"]) == 0
    out, err = capsys.readouterr()
    assert err == "turnlog: 1 session exported, 2 messages\n"
    assert [json.loads(line).get("session") for line in out.splitlines()] == [None, "b", None, None]
    assert main(["export", "--owner", "ann"]) == 0
    out = capsys.readouterr().out
    use(monkeypatch, other := Kept(retain=1))
    typed(monkeypatch, out)
    assert main(["import", "-", "--owner", "eve"]) == 0
    assert asyncio.run(other.info("a")).owner == "eve"


def test_an_error_leaves_the_file_unchanged(store: Kept, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text("old")
    assert main(["export", "none", "-o", str(path)]) == 1
    assert capsys.readouterr().err == (
        "turnlog: there is no session 'none' in namespace 'default', or it has expired; "
        "'turnlog list' lists the sessions\n"
    )
    read = store.backend.read

    async def gone(key: Key, **options: Any) -> Session:
        if key.session == "a":
            raise Unavailable("gone")
        return await read(key, **options)

    monkeypatch.setattr(store.backend, "read", gone)
    assert main(["export", f"--output={path}"]) == 3
    assert capsys.readouterr().err == "turnlog: gone\n"
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["all.jsonl"]
    assert main(["export", "-o", str(tmp_path / "none" / "x")]) == 1
    assert "x cannot be written (No such file or directory" in capsys.readouterr().err
    assert main(["export", "a", "--all-namespaces"]) == 2


def test_an_export_follows_links_and_writes_into_pipes(store: Kept, tmp_path: Path, capsys: Any) -> None:
    # Seen failing when the link, or the pipe, was replaced by a file.
    (link := tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").write_text("old")
    assert main(["export", "-o", str(link)]) == 0
    assert link.is_symlink()
    assert (tmp_path / "real").read_bytes().startswith(b'{"format"')
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert main(["export", "-o", str(pipe)]) == 0
    assert os.read(reader, 2**16) == (tmp_path / "real").read_bytes()
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert main(["export", "-o", "/dev/null"]) == 0
    capsys.readouterr()
    assert main(["export", "-o", str(tmp_path)]) == 1
    assert "cannot be written (Is a directory)" in capsys.readouterr().err


def test_an_export_and_a_state_replace_no_store(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    # Seen failing without the checks: the store was lost, or got the tables of the state.
    monkeypatch.chdir(tmp_path)
    fill("sqlite:///a.db", "s")
    before = (tmp_path / "a.db").read_bytes()
    assert main(["export", "--store=sqlite:///a.db", "-o", "a.db"]) == 2
    assert "a.db is an SQLite database, which -o would replace" in capsys.readouterr().err
    assert main(["copy", "sqlite:///a.db", "sqlite:///b.db", "--state=a.db"]) == 2
    assert "a.db is the database of another program: name another file with --state" in capsys.readouterr().err
    assert (tmp_path / "a.db").read_bytes() == before


def test_a_damaged_session_is_reported_and_the_rest_is_written(
    store: Kept, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    read = store.backend.read

    async def damaged(key: Key, **options: Any) -> Session:
        if key.session == "a":
            raise CorruptRecord("broken\x1b", key=key)
        return await read(key, **options)

    monkeypatch.setattr(store.backend, "read", damaged)
    assert main(["export", "-o", str(path := tmp_path / "x")]) == 1
    err = capsys.readouterr().err
    assert err.splitlines() == [
        "turnlog: session 'a' in namespace 'default': broken\\x1b",
        "turnlog: restore a backup, or run 'turnlog verify' with the same options to see all damage",
        "turnlog: 1 session exported, 2 messages",
    ]
    assert [json.loads(line)["session"] for line in path.read_text().splitlines() if '"session":' in line] == ["b"]


def test_each_damaged_session_is_named_once(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    # Seen failing when the error of a record named no session, when each pass repeated it, and with one line for all.
    monkeypatch.chdir(tmp_path)
    fill("sqlite:///a.db", *"abcdef")
    connection = sqlite3.connect("a.db")
    for id in "bd":
        (row,) = connection.execute("SELECT row FROM turnlog_sessions WHERE session = ?", (id.encode(),)).fetchone()
        connection.execute("UPDATE turnlog_records SET payload = CAST(payload || x'00' AS BLOB) WHERE row = ?", (row,))
    for id in "ce":
        connection.execute("UPDATE turnlog_sessions SET head = x'00' WHERE session = ?", (id.encode(),))
    connection.commit()
    connection.close()
    for command in (["export", "-o", "x", "--store=sqlite:///a.db"], ["copy", "sqlite:///a.db", "sqlite:///b.db"]):
        assert main(command) == 1
        err = capsys.readouterr().err
        named = [line.split("'")[1] for line in err.splitlines() if line.startswith("turnlog: session '")]
        assert sorted(named) == ["b", "c", "d", "e"], err
        assert ("see all damage with: turnlog verify --store sqlite:///a.db" in err) is (command[0] == "copy")
    assert sorted(sessions_at("sqlite:///b.db")) == ["a", "f"]


def test_on_a_terminal_an_export_cannot_control_it(tmp_path: Path) -> None:
    text = "\u202e\x9b2J\x7f é 😀"

    async def fill() -> None:
        async with open_store(f"sqlite:///{tmp_path}/chat.db") as store:
            await store.append("s", [user(text)])

    asyncio.run(fill())
    with Screen("export", "--store=sqlite:///chat.db", cwd=tmp_path) as screen:
        assert screen.end() == 0
    assert not set(screen.seen) & set("\u202e\x9b\x7f")
    (line,) = [line for line in screen.seen.splitlines() if '"round"' in line]
    assert "\x1b" not in line
    assert json.loads(line)["messages"][0]["content"] == text
    assert _ascii('"é😀"') == '"\\u00e9\\ud83d\\ude00"'


def test_turns_that_retention_drops_are_reported(store: Kept, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    for text in "xyz":
        append(store, "a", user(text))
    main(["export", "-o", str(path := tmp_path / "x")])
    use(monkeypatch, Kept(retain=2))
    capsys.readouterr()
    assert main(["import", str(path)]) == 0
    assert capsys.readouterr() == (
        "2 sessions stored, 0 extended, 0 unchanged, 0 different, 0 failed; 7 messages written\n",
        "turnlog: retain=2 has dropped the oldest 2 of the imported turns\n",
    )


@pytest.mark.parametrize("name", ["chatgpt", "claude"])
def test_empty_conversations_are_counted_and_named_and_a_second_import_changes_nothing(
    name: str, store: Kept, capsys: Any
) -> None:
    path = Path(__file__).parent / "exports" / f"{name}.json"
    for stored, unchanged in ((1, 0), (0, 1)):
        assert main(["import", str(path), "--owner=ann"]) == 0
        out, err = capsys.readouterr()
        assert out.startswith(
            f"{'1 session' if stored else '0 sessions'} stored, 0 extended, {unchanged} unchanged, 1 em"
        )
        (line,) = err.splitlines()
        assert line.endswith("' has no messages: no session is created")


def test_a_list_of_messages_takes_a_session(store: Kept, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "x"
    path.write_text('\n[{"role": "user", "content": "hi"}]')
    assert main(["import", str(path)]) == 1
    assert f"{path}:2: a list of messages needs a session id: pass --session" in capsys.readouterr().err
    assert main(["import", str(path), "--session", "new"]) == 0
    assert load(store, "new") == [{"role": "user", "content": "hi"}]


def test_a_name_that_the_file_has_too_is_refused(store: Kept, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    # Seen failing without the checks: the options were ignored.
    main(["export", "-o", str(path := tmp_path / "x")])
    line = {"session_id": "s", "messages": [{"role": "user", "content": "x"}]}
    (tmp_path / "lines").write_text(json.dumps(line))
    (tmp_path / "array").write_text(json.dumps([line]))
    use(monkeypatch, other := Kept())
    for file in (path, tmp_path / "lines", tmp_path / "array"):
        capsys.readouterr()
        assert main(["import", str(file), "--session=q"]) == 2
        assert f"turnlog: {file}: line " in (err := capsys.readouterr().err)
        assert "the file contains session ids: leave out --session" in err
    assert not all_of(other)
    use(monkeypatch, named := Naming())
    append(named, "s", user("1"))
    append(named.within("x"), "s", user("1"))
    main(["export", "--all-namespaces", "-o", str(path)])
    use(monkeypatch, other)
    for option in ("--namespace=y", "--store=sqlite:///none.db?namespace=y"):
        capsys.readouterr()
        assert main(["import", str(path), option]) == 2
        assert "the file contains namespaces, here 'default': leave out" in capsys.readouterr().err
    assert not all_of(other)


@pytest.mark.parametrize(
    "data", [b"SQLite format 3\0\x10\n\n\xff\nx\n", b"\x89PNG\r\n\x1a\n\xff\n", b"\xff\xfe{\0\n\0\n\0"]
)
def test_a_file_that_is_no_text_is_one_error(data: bytes, store: Kept, tmp_path: Path, capsys: Any) -> None:
    (path := tmp_path / "x").write_bytes(data)
    assert main(["import", str(path)]) == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert (
        err.endswith(" of the line is zero, which no text contains: the rest is not read; convert the file to UTF-8\n")
        or "not UTF-8" in err
    )
    assert "0 unchanged, 0 different, 1 failed" in out


def test_a_line_that_is_no_text_does_not_hide_those_after_it(store: Kept, tmp_path: Path, capsys: Any) -> None:
    line = {"session_id": "s", "messages": [{"role": "user", "content": "x"}]}
    lines = [json.dumps(line).encode(), b"\xff", json.dumps({**line, "session_id": "t"}).encode()]
    (path := tmp_path / "x").write_bytes(b"\n".join(lines))
    assert main(["import", str(path)]) == 1
    assert "2 sessions stored, 0 extended, 0 unchanged, 0 different, 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize("data", ["", " \n\n", "[]"])
def test_an_empty_file_holds_nothing(data: str, store: Kept, tmp_path: Path, capsys: Any) -> None:
    (path := tmp_path / "x").write_text(data)
    assert main(["import", str(path)]) == 0
    assert capsys.readouterr().err == f"{path}: contains nothing to import\n"


def test_an_export_that_is_interrupted_says_what_was_done(
    store: Kept, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    read = store.backend.read

    async def interrupted(key: Key, **options: Any) -> Session:
        if key.session == "b":  # the second session to be read
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
        return await read(key, **options)

    monkeypatch.setattr(store.backend, "read", interrupted)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores SIGINT
    try:
        for output, rest in (
            (["-o", str(tmp_path / "x")], f"{tmp_path}/x was not changed"),
            ([], "the output is incomplete"),
        ):
            assert main(["export", *output]) == 130
            assert f"turnlog: stopped after 1 session: {rest}; run the command again" in capsys.readouterr().err
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not list(tmp_path.iterdir())


class Naming(Kept):
    async def namespaces(self) -> AsyncIterator[str]:
        for name in ("default", "x"):
            yield name


def test_all_namespaces(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    use(monkeypatch, store := Naming())
    append(store, "s", user("1"))
    append(store.within("x"), "s", user("2"))
    assert main(["export", "--all-namespaces", "-o", str(path := tmp_path / "x")]) == 0
    use(monkeypatch, other := Kept())
    assert main(["import", str(path)]) == 0
    assert all_of(other) == all_of(store)
    assert all_of(other.within("x")) == all_of(store.within("x"))


# ----------------------------------------------------------------------------------------------------------------- copy


def fill(url: str, *ids: str, turns: int = 1) -> None:
    async def run() -> None:
        async with open_store(url) as store:
            for id in ids:
                for number in range(turns):
                    await store.append(id, [user(f"{id} {number}"), assistant("yes")])

    asyncio.run(run())


def sessions_at(url: str) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        async with open_store(url) as store:
            return await described(store)

    return asyncio.run(run())


def test_copy_and_copy_again(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    source, target = "sqlite:///a.db?namespace=x", "sqlite:///b.db?namespace=y"
    fill(source, "s", "t")
    assert main(["copy", source, target]) == 0
    assert capsys.readouterr() == (
        "2 sessions in 2 passes: 2 copied, 0 removed, 0 different, 0 failed; 4 messages written\n",
        "",
    )
    assert sessions_at(target) == sessions_at(source)
    fill(source, "t")
    assert main(["copy", source, target, "--rate=1000MB"]) == 0
    assert "1 copied" in capsys.readouterr().out
    assert main(["copy", source, "sqlite:///c.db"]) == 2
    assert "turnlog-copy.db belongs to another copy (source: " in capsys.readouterr().err
    fill(target, "t")
    assert main(["copy", source, target]) == 1
    out, err = capsys.readouterr()
    assert "1 different" in out
    assert err.startswith("turnlog: session 't' in namespace 'y' of the target was changed by another writer")
    assert main(["copy", source, "sqlite:///c.db", "--state=none/x.db"]) == 1
    assert (
        "none/x.db cannot be used as the state of a copy (No such file or directory): check the path"
        in capsys.readouterr().err
    )
    assert main(["copy", "sqlite:///none.db", target, "--state=o.db"]) == 3
    assert not (tmp_path / "none.db").exists()


def test_a_missing_or_empty_source_is_an_error(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    source, target = "sqlite:///a.db", "sqlite:///b.db"
    fill(source, "s")
    main(["copy", source, target])
    (tmp_path / "a.db").rename("old.db")
    capsys.readouterr()
    assert main(["copy", source, target]) == 3
    err = capsys.readouterr().err
    assert "SOURCE sqlite:///a.db does not exist, or has no turnlog tables: correct the URL" in err
    assert "migrate" not in err
    fill(source)
    assert main(["copy", source, target]) == 1
    assert "check that the source is the right one" in capsys.readouterr().err
    assert list(sessions_at(target)) == ["s"]
    assert main(["copy", source, target, "--allow-empty"]) == 0
    assert not sessions_at(target)


def test_a_copy_onto_itself_is_refused(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    fill("sqlite:///a.db", "s")
    assert main(["copy", "sqlite:///a.db", f"sqlite:///{tmp_path}/a.db"]) == 2
    assert "the source and the target are the same place" in capsys.readouterr().err


def test_a_namespace_and_all_of_them_contradict_each_other(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    # Seen failing without the check: all namespaces were copied, and those of the target were emptied.
    monkeypatch.chdir(tmp_path)
    one, other = "sqlite:///a.db", "sqlite:///b.db"
    for urls in ((f"{one}?namespace=x", other), (one, f"{other}?namespace=x")):
        assert main(["copy", *urls, "--all-namespaces"]) == 2
        assert "?namespace= in a URL cannot be combined with --all-namespaces" in capsys.readouterr().err
    for where in (["--store", f"{one}?namespace=x"], ["--store", one, "--namespace", "x"]):
        assert main(["export", "--all-namespaces", *where]) == 2
        assert "a namespace cannot be combined with --all-namespaces" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_copy_that_its_passes_do_not_finish_says_so(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    fill("sqlite:///a.db", "s")
    assert main(["copy", "sqlite:///a.db", "sqlite:///b.db", "--passes=1"]) == 1
    assert "the last pass, number 1, has found 1 changed session: stop all writers" in capsys.readouterr().err
    assert main(["copy", "sqlite:///a.db", "sqlite:///b.db", "--passes=0"]) == 2


def test_a_rate_is_sessions_or_bytes(capsys: Any) -> None:
    assert _parse_rate(None) == (None, None)
    assert _parse_rate("50") == (50, None)
    assert _parse_rate("0.5") == (0.5, None)
    assert _parse_rate("10MB") == (None, 10_000_000)
    assert _parse_rate("1.5 KiB") == (None, 1536)
    for bad in ("0", "x", "5 XB", "-1", "MB", "0MB", "1e3"):
        assert main(["copy", "memory://", "memory://", f"--rate={bad}"]) == 2
        assert (
            "--rate must be sessions a second, such as 50, or bytes a second, such as 10MB" in capsys.readouterr().err
        )


def test_a_copy_in_a_terminal_shows_its_progress(tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path}/a.db", "s")
    with Screen("copy", "sqlite:///a.db", "sqlite:///b.db", cwd=tmp_path) as screen:
        assert screen.end() == 0
    assert "copy \x1b[" in screen.seen
    assert "pass 2: 1 session read, 1 copied in all" in screen.seen
    assert "/?" not in screen.seen
    assert os.path.exists(tmp_path / "turnlog-copy.db")
