"""The commands that maintain data: namespaces, erase, verify, doctor, sweep, edit, search."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import servers
from command_line import Kept, KeptBackend, Screen, append, typed, use
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import Backend, Key, Page, Query, Store, assistant, user
from turnlog.errors import CorruptRecord, Unavailable
from turnlog.values import Finding
from turnlog_cache import CacheLayer
from turnlog_cli import main
from turnlog_cli._text import as_json
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend

CODES = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return the store that every command opens."""
    kept = Kept(clock=lambda: 1_700_000_000.0)
    use(monkeypatch, kept)
    return kept


@pytest.fixture
def shops(store: Kept) -> Kept:
    """Return a store with sessions of two owners in three namespaces, one of them nested."""
    for name in ("default", "shop", "shop/a"):
        view = store.within(name)
        append(view, "one", user("Where is my ORDER?"), assistant("On its way."), owner="alice")
        append(view, "two", user("Thank you"), owner="bob")
    return store


def printed(capsys: Any, *arguments: str, code: int = 0) -> str:
    """Return the standard output of a command."""
    assert main(list(arguments)) == code, capsys.readouterr().err
    out: str = capsys.readouterr().out
    return out


def refused(capsys: Any, *arguments: str, code: int = 2) -> str:
    """Return the error line of a command that does nothing."""
    assert main(list(arguments)) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    return str(err)


def ids(store: Store) -> list[str]:
    """Return the ids of a store's sessions, and ignore damaged ones."""
    page = asyncio.run(store.backend.page(Query(namespace=store.namespace)))
    return sorted(info.key.session for info in page.infos)


# ---------------------------------------------------------------------------------------------------------- namespaces


def test_namespaces_that_have_sessions(shops: Kept, capsys: Any) -> None:
    assert printed(capsys, "namespaces") == "default\nshop\nshop/a\n"
    assert [json.loads(line) for line in printed(capsys, "namespaces", "--json").splitlines()][2] == "shop/a"


def test_a_store_without_sessions_says_so(store: Kept, capsys: Any) -> None:
    for command, said in (
        (["namespaces"], "the store has no sessions"),
        (["list"], "there are no sessions in namespace 'default'"),
        (["list", "--owner=ann"], "there are no sessions of owner 'ann' in namespace 'default'"),
        (["list", "--owner="], "there are no sessions without an owner in namespace 'default'"),
        (["search", "x"], "no message contains 'x'"),
    ):
        assert main(command) == 0
        assert capsys.readouterr() == ("", f"turnlog: {said}\n")


def test_a_backend_that_lists_no_namespaces_says_so(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(MemoryBackend, "namespaces", Backend.namespaces)
    use(monkeypatch, MemoryBackend())
    for command in (["namespaces"], ["search", "x", "--all-namespaces"], ["verify", "--all-namespaces"]):
        assert "MemoryBackend cannot list namespaces: name one" in refused(capsys, *command, code=1)


# --------------------------------------------------------------------------------------------------------------- erase


def test_erase_removes_one_session_and_says_what_remains(shops: Kept, capsys: Any) -> None:
    out = printed(capsys, "erase", "one", "--yes")
    assert out.startswith("erased: 1 session in 'default'\n")
    assert out.endswith("what remains:\n  backups, snapshots and exports\n    until you delete them\n")
    assert (ids(shops), ids(shops.within("shop"))) == (["two"], ["one", "two"])
    assert "there is no session 'one' in namespace 'default'" in refused(capsys, "erase", "one", "--yes", code=1)


@pytest.mark.parametrize(
    ("wrong", "suggestion"),
    [
        ("TW", "; did you mean 'two'?"),
        ("tvo", "; did you mean 'two'?"),
        ("o", "; did you mean 'one' or 'other'?"),
        ("x", "; 'turnlog list' lists the sessions"),
    ],
)
def test_a_session_that_does_not_exist_is_said_with_the_ids_close_to_it(
    wrong: str, suggestion: str, shops: Kept, capsys: Any
) -> None:
    append(shops, "other", user("Hi"))
    before = ids(shops)
    missing = f"turnlog: there is no session {wrong!r} in namespace 'default'"
    said = refused(capsys, "erase", wrong, "--yes", code=1)
    assert said == f"{missing}{suggestion}\n"
    assert refused(capsys, "show", wrong, code=1).startswith(f"{missing}, or it has expired; ")
    assert ids(shops) == before


def test_erase_removes_the_sessions_of_an_owner(shops: Kept, capsys: Any) -> None:
    assert printed(capsys, "erase", "--owner=alice", "--yes", "--namespace=shop").startswith("erased: 1 session")
    assert [ids(shops.within(name)) for name in ("default", "shop")] == [["one", "two"], ["two"]]
    found = json.loads(printed(capsys, "erase", "--owner=alice", "--all-namespaces", "--yes", "--json"))
    assert [ids(shops.within(name)) for name in ("default", "shop", "shop/a")] == [["two"]] * 3
    assert set(found) == {"sessions", "namespaces", "expired", "damaged", "remains"}
    assert set(found["remains"][-1]) == {"where", "until", "command"}
    assert printed(capsys, "erase", "--owner=alice", "--yes") == "there was nothing to erase\n"


@pytest.mark.parametrize(
    ("answer", "erased"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_erase_asks_a_person_first(answer: str, erased: bool, shops: Kept, monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, answer)
    monkeypatch.setattr("turnlog_cli._erase.is_terminal", lambda stream: True)
    for arguments, question in (
        (["--owner=alice"], "Erase 1 session of owner 'alice' in namespace 'default'? [y/N] "),
        (["two"], "Erase session 'two' in namespace 'default' (1 turn, 1 message, owner 'bob')? [y/N] "),
    ):
        typed(monkeypatch, answer)
        assert main(["erase", *arguments]) == (0 if erased else 1)
        assert capsys.readouterr().err.startswith(question)
    assert ids(shops) == ([] if erased else ["one", "two"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one"], "--yes erases without asking"),
        ([], "erase needs either SESSION or --owner"),
        (["one", "--owner=alice", "--yes"], "erase needs either SESSION or --owner"),
        (["one", "--all-namespaces", "--yes"], "--all-namespaces needs --owner"),
        (["--owner=alice", "--all-namespaces", "--namespace=shop", "--yes"], "leave out one of them"),
        (["--owner=", "--yes"], "owner is empty"),
    ],
)
def test_erase_refuses_ambiguous_arguments(
    arguments: list[str], said: str, shops: Kept, monkeypatch: Any, capsys: Any
) -> None:
    typed(monkeypatch, "y\n")
    assert said in refused(capsys, "erase", *arguments)
    assert ids(shops) == ["one", "two"]


def test_erase_names_copies_and_files_that_it_cannot_know(monkeypatch: Any, capsys: Any) -> None:
    class Silent(KeptBackend):
        scrub = None  # type: ignore[assignment]

    backend = Silent()
    append(Store(backend), "one", user("a"), owner="alice")
    use(monkeypatch, CacheLayer(backend))
    where = [one["where"] for one in json.loads(printed(capsys, "erase", "one", "--yes", "--json"))["remains"]]
    assert where[0] == "copies in other processes with a cache"
    assert where[1] == "perhaps the files of Silent"


def damaged(tmp_path: Path) -> str:
    """Return the URL of a store with a sound session, one with a damaged turn, and one with an unreadable header."""
    url = f"sqlite:///{tmp_path}/chat.db"

    async def work() -> None:
        async with Store(SQLiteBackend(url, sweep=0)) as store:
            for name in ("sound", "turn", "header"):
                for number in range(3):
                    await store.append(name, [user(f"{name} {number}")], owner="alice")

    asyncio.run(work())
    raw = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
    (row,) = raw.execute("SELECT row FROM turnlog_sessions WHERE session = ?", (b"turn",)).fetchone()
    raw.execute("UPDATE turnlog_records SET payload = x'c1' WHERE row = ? AND number = 1", (row,))
    raw.execute("UPDATE turnlog_sessions SET head = x'c1' WHERE session = ?", (b"header",))
    raw.close()
    return url


def test_erase_removes_damaged_sessions(tmp_path: Path, capsys: Any) -> None:
    url = damaged(tmp_path)
    assert main(["erase", "header", "--yes", f"--store={url}"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("erased: 1 session in 'default'")
    assert "'header' in namespace 'default'" in err


def test_a_damaged_session_is_followed_by_the_command_that_shows_all_damage(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    url = damaged(tmp_path)
    said = refused(capsys, "edit", "header", "--title=x", f"--store={url}", code=1)
    assert said.endswith(f"; restore a backup, or run 'turnlog verify --store {url}' to see all damage\n")
    advice = "restore a backup, or run 'turnlog verify' with the same options to see all damage\n"
    assert main(["search", "sound", f"--store={url}"]) == 1
    assert capsys.readouterr().err.endswith(f"turnlog: {advice}")
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert main(["chat", "--session=turn", f"--store={url}"]) == 1
    assert f"its checksum does not match; {advice}" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- verify


def test_verify_names_damage_and_changes_nothing(tmp_path: Path, capsys: Any) -> None:
    url = damaged(tmp_path)
    out = printed(capsys, "verify", f"--store={url}", code=1).splitlines()
    assert len(out) == 3
    assert any("'turn' in namespace 'default', turn 1: " in line for line in out)
    assert any("'header' in namespace 'default': " in line for line in out)
    assert out[-1] == "2 sessions with 3 readable turns checked, 2 damaged parts found"
    again = json.loads(printed(capsys, "verify", "--json", "--all-namespaces", f"--store={url}", code=1))
    assert (again["sessions"], again["turns"], len(again["damaged"])) == (2, 3, 2)


def test_verify_restarts_no_time_to_live_and_reads_every_namespace(monkeypatch: Any, capsys: Any) -> None:
    now = [1_000.0]
    kept = Kept(ttl=100.0, clock=lambda: now[0])
    use(monkeypatch, kept)
    for name in ("default", "shop"):
        append(kept.within(name), "s", user("a"))
    internal = kept.backend._states[Key("default", "s")]
    kept.backend._states[Key("turnlog:own", "s")] = internal
    now[0] += 60
    assert printed(capsys, "verify", "--all-namespaces") == "3 sessions with 3 turns read, no damage was found\n"
    assert printed(capsys, "verify", "--namespace=shop") == "1 session with 1 turn read, no damage was found\n"
    now[0] += 60
    assert printed(capsys, "verify", "--all-namespaces") == "0 sessions with 0 turns read, no damage was found\n"


def test_verify_has_the_database_check_itself(monkeypatch: Any, capsys: Any) -> None:
    class Checked(MemoryBackend):
        async def check(self, *, quick: bool = False) -> list[str]:
            return ["a page\nis damaged"]

    use(monkeypatch, Checked())
    assert printed(capsys, "verify", code=1).startswith("a page\\nis damaged\n")


def test_verify_goes_on_where_the_database_cannot_check_itself(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    async def check(*_: object, **__: object) -> list[str]:
        raise CorruptRecord("the check cannot go on")

    monkeypatch.setattr(SQLiteBackend, "check", check)
    assert main(["verify", "--json", f"--store={damaged(tmp_path)}"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["sessions"], found["turns"], found["complete"]) == (2, 3, True)
    assert found["damaged"][0] == "the check cannot go on"
    assert len(found["damaged"]) == 3
    assert "restore a backup" in err


def test_verify_reports_its_findings_when_it_has_to_stop(shops: Kept, monkeypatch: Any, capsys: Any) -> None:
    """Ctrl-C may cancel the command, or the pages of a namespace may be damaged."""
    for error, code in ((asyncio.CancelledError(), 130), (CorruptRecord("a page is damaged"), 1)):
        page = shops.backend.page

        async def failing(query: Query) -> Page:
            if query.namespace == "shop":
                raise error  # noqa: B023
            return await page(query)  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(shops.backend, "page", failing)
            patch.setattr("turnlog_cli._verify.asyncio.run", run_until_interrupted)
            assert main(["verify", "--json", "--all-namespaces"]) == code
        found = json.loads(capsys.readouterr().out)
        assert (found["sessions"], found["complete"]) == ((2, False) if code == 130 else (4, True))


def run_until_interrupted(work: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine; raise KeyboardInterrupt if it is cancelled, as `asyncio.run` does after Ctrl-C."""
    with asyncio.Runner() as runner:
        try:
            return runner.run(work)
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


def test_verify_of_a_namespace_without_sessions_says_so(store: Kept, capsys: Any) -> None:
    for arguments, where in ((["--namespace=typo"], "namespace 'typo'"), (["--all-namespaces"], "the store")):
        assert main(["verify", *arguments]) == 0
        assert capsys.readouterr().err == f"turnlog: there are no sessions in {where}\n"


# -------------------------------------------------------------------------------------------------------------- doctor


def test_doctor_shows_settings_times_and_leaves_nothing(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "turnlog.toml").write_text('[store]\nurl = "sqlite:///chat.db"\nlayers = ["gzip"]\n')
    monkeypatch.setenv("TURNLOG_STORE_TTL", "30d")
    assert main(["migrate"]) == 0
    capsys.readouterr()
    out = printed(capsys, "doctor")
    assert out.startswith("stack: GzipLayer over SQLiteBackend\n")
    assert "url\tsqlite:///chat.db\tturnlog.toml: store.url\n" in out
    assert "ttl\t30d\tTURNLOG_STORE_TTL\n" in out
    assert "layers\tgzip\tturnlog.toml: store.layers\n" in out
    found = json.loads(printed(capsys, "doctor", "--json"))
    assert list(found["operations"]) == ["append", "load", "list", "fork", "rewind", "erase"]
    assert all(0 < one["median"] <= one["slowest"] for one in found["operations"].values())
    assert found["findings"] == []
    assert main(["namespaces"]) == 0
    assert capsys.readouterr().out == ""


def test_doctor_judges_an_sqlite_file(tmp_path: Path, capsys: Any) -> None:
    url = f"--store=sqlite:///{tmp_path}/chat.db?synchronous=NORMAL"
    assert main(["migrate", url]) == 0
    capsys.readouterr()
    (tmp_path / "chat.db").chmod(0o644)
    first, second = json.loads(printed(capsys, "doctor", "--json", url, code=1))["findings"]
    assert "synchronous=NORMAL" in first["text"]
    assert second["command"] == f"chmod o= {tmp_path}/chat.db"


def findings(capsys: Any, url: str) -> str:
    """Return the findings of `doctor` about a server, as JSON."""
    found = json.loads(printed(capsys, "doctor", "--json", f"--store={url}", code=1))
    assert found["operations"]
    return as_json(found)


def test_doctor_judges_servers(capsys: Any) -> None:
    """The servers of the tests do not wait for the disk."""
    url = emptied_postgresql()
    assert main(["migrate", f"--store={url}"]) == 0
    capsys.readouterr()
    out = findings(capsys, url)
    assert "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()" in out
    assert "synchronous_commit=off" in out
    url = servers.redis()
    tool = f"redis-cli -u {url.removesuffix('/0')}"
    assert f"{tool} CONFIG SET appendonly yes && {tool} CONFIG REWRITE" in findings(capsys, url)
    url = emptied_mariadb()
    assert main(["migrate", f"--store={url}"]) == 0
    capsys.readouterr()
    out = findings(capsys, url)
    assert "SET GLOBAL innodb_flush_log_at_trx_commit = 1" in out
    assert "no doublewrite buffer" in out
    assert servers.MariaDB.password not in out
    assert "***@127.0.0.1" in out


def test_doctor_judges_the_persistence_and_the_access_of_redis(capsys: Any) -> None:
    server = servers.Redis("appendonly=yes", "bind=127.0.0.1", "protected-mode=no")
    doctor = ("doctor", "--json", f"--store={server.url}")

    def found(code: int) -> list[dict[str, str]]:
        findings: list[dict[str, str]] = json.loads(printed(capsys, *doctor, code=code))["findings"]
        return findings

    (one,) = found(1)
    assert "appendfsync=everysec: a crash of the machine may lose the turns of the last second" in one["text"]
    _, _, _, *words = one["command"].partition(" && ")[0].split()  # redis-cli -u URL
    server.ask(*words)
    assert found(0) == [], "the command is the remedy, and no other machine can connect"
    server.ask("CONFIG", "SET", "bind", "*")
    (one,) = found(1)
    assert "requires no password and accepts other machines" in one["text"]
    server.ask("CONFIG", "SET", "protected-mode", "yes")
    server.ask("CONFIG", "SET", "appendonly", "no")
    server.ask("CONFIG", "SET", "save", "60 1000")
    (one,) = found(1)
    assert "stores only snapshots" in one["text"]
    server.ask("CONFIG", "SET", "save", "")
    server.ask("CONFIG", "SET", "requirepass", "hunter2")
    doctor = ("doctor", "--json", f"--store={server.url.replace('//', '//:hunter2@')}")
    (one,) = found(1)
    assert one["command"].startswith("redis-cli --askpass -u redis://127.0.0.1:")
    assert "hunter2" not in one["command"]


def test_doctor_names_the_remedy_when_access_is_denied(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    for url in (emptied_mariadb(), servers.postgresql()):
        wrong = re.sub("//[^@/]*@", "//nobody:hunter2@", url)
        out = printed(capsys, "doctor", f"--store={wrong}", code=3)
        assert "set the right user and password in the URL" in out
        assert "hunter2" not in out
    file, connect, access = f"{tmp_path}/chat.db", sqlite3.connect, os.access
    assert main(["migrate", f"--store=sqlite:///{file}"]) == 0
    # the tests may run as root, which may write to any file
    monkeypatch.setattr(sqlite3, "connect", lambda name, **more: connect(name.replace("=rw", "=ro"), **more))
    monkeypatch.setattr(os, "access", lambda place, mode, **more: place != file and access(place, mode, **more))
    out = printed(capsys, "doctor", f"--store=sqlite:///{file}", code=3)
    assert f"to allow its owner to write to it, run: chmod u+rw {file}\n" in out


def test_doctor_says_why_a_store_does_not_open(tmp_path: Path, capsys: Any) -> None:
    assert "turnlog migrate" in printed(capsys, "doctor", f"--store=sqlite:///{tmp_path}/no.db", code=3)
    for form in ([], ["--json"]):
        out = printed(capsys, "doctor", "--store=redis://:hunter2@127.0.0.1:1?timeout=100ms", *form, code=3)
        assert "127.0.0.1:1" in out
        assert "hunter2" not in out


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///chat.db?tlt=5", "tlt"),
        ("sqlit:///chat.db", "there is no backend named 'sqlit'"),
        ("redis://:hunter2@h:port/0", "url"),
    ],
)
def test_doctor_finds_a_wrong_configuration(url: str, says: str, capsys: Any) -> None:
    found = json.loads(printed(capsys, "doctor", "--json", f"--store={url}", code=2))
    (one,) = found["findings"]
    assert says in one["text"]
    assert (found["stack"], found["operations"], one["command"]) == ([], {}, "")
    out = printed(capsys, "doctor", f"--store={url}", code=2)
    assert out.splitlines()[-1] == f"wrong: {one['text']}"
    assert not out.startswith("\n")
    assert "hunter2" not in out


def test_doctor_removes_its_sessions_if_an_operation_fails(monkeypatch: Any, capsys: Any) -> None:
    kept = Kept()

    async def copy(*_: object, **__: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(kept.backend, "copy", copy)
    use(monkeypatch, kept)
    monkeypatch.setattr("turnlog_cli._doctor.settings_of", lambda url: [])
    assert "wrong: the disk is full\n" in printed(capsys, "doctor", code=3)
    assert asyncio.run(kept.backend.namespaces()) == []


def test_doctor_shows_findings_of_any_backend_without_passwords(monkeypatch: Any, capsys: Any) -> None:
    class Ill(MemoryBackend):
        async def diagnose(self) -> Sequence[Finding]:
            return [Finding("acme://u:hunter2@h is slow", "acmectl\nfaster acme://u:hunter2@h")]

    use(monkeypatch, Ill())
    monkeypatch.setattr("turnlog_cli._doctor.settings_of", lambda url: [])
    out = printed(capsys, "doctor", code=1)
    assert "wrong: acme://***@h is slow\n" in out
    assert "hunter2" not in out


# -------------------------------------------------------------------------------------------------------- sweep, edit


def expired(tmp_path: Path, *ages: float) -> str:
    """Return the URL of a store with sessions that expired these numbers of seconds ago, named after the number."""
    url = f"sqlite:///{tmp_path}/chat.db"

    async def work() -> None:
        for age in ages:
            then = time.time() - age - 600.0
            async with Store(SQLiteBackend(url, ttl=600.0, sweep=0, clock=lambda: then)) as store:  # noqa: B023
                await store.append(f"s{age:.0f}", [user(f"text of {age:.0f}")], owner="alice")

    asyncio.run(work())
    return url


def test_sweep_removes_expired_sessions_and_says_which_are_left(tmp_path: Path, capsys: Any) -> None:
    url = expired(tmp_path, 10.0, 10_000.0, 60.0)
    out = printed(capsys, "sweep", f"--store={url}").splitlines()
    assert out[0] == "1 expired session removed"
    assert out[2:4] == ["what remains:", f"  2 expired sessions in '{tmp_path}/chat.db'"]
    (until,) = re.findall("    until the first sweep after (.*)Z", out[4])
    left = datetime.fromisoformat(f"{until}+00:00").timestamp() - time.time()
    assert 3_500 < left < 3_592, "an hour after the last one expired"
    _, command = out[5].split("    to remove it now: turnlog ")
    assert b"text of 10" in (tmp_path / "chat.db").read_bytes()
    assert printed(capsys, *command.split()) == "2 expired sessions removed\n"
    assert b"text of 10" not in (tmp_path / "chat.db").read_bytes()
    assert printed(capsys, "sweep", f"--store={url}") == "0 expired sessions removed\n"
    assert "has no sweep: its backend decides" in printed(capsys, "sweep", "--store=memory://")


@pytest.mark.parametrize("arguments", [["s10"], ["--owner=alice"]])
def test_erase_removes_what_has_just_expired(arguments: list[str], tmp_path: Path, capsys: Any) -> None:
    url = f"--store={expired(tmp_path, 10.0)}"
    assert main(["erase", *arguments, "--yes", url]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("erased: 1 expired session of the store\n")
    assert ("unless it was one of the expired sessions that were removed" in err) == (arguments == ["s10"])
    assert b"text of 10" not in (tmp_path / "chat.db").read_bytes()
    if arguments == ["s10"]:
        assert "there is no session 's10'" in refused(capsys, "erase", "s10", "--yes", url, code=1)


def test_erase_asks_before_it_removes_what_has_expired(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    url = f"--store={expired(tmp_path, 10.0)}"
    monkeypatch.setattr("turnlog_cli._erase.is_terminal", lambda stream: True)
    for answer, code in (("n\n", 1), ("y\n", 0), ("y\n", 1)):
        typed(monkeypatch, answer)
        assert main(["erase", "s10", url]) == code
    assert "Erase all expired sessions? Session 's10' may be one of them. [y/N]" in capsys.readouterr().err


def test_erase_fails_while_another_process_keeps_the_text(tmp_path: Path, capsys: Any) -> None:
    """The error names a command that removes the text. That command fails too until the other process is done."""
    url = f"--store={damaged(tmp_path)}"
    reader = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM turnlog_sessions").fetchone()
    assert main(["erase", "sound", "--yes", "--json", f"{url}?timeout=100ms"]) == 1
    out, err = capsys.readouterr()
    command = json.loads(out)["remains"][0]["command"].split()
    assert "parts of erased sessions are still in the store" in err
    assert printed(capsys, *command[1:-1], f"{command[-1]}?timeout=100ms", code=1).endswith(f"{' '.join(command)}\n")
    assert b"sound 1" in (tmp_path / "chat.db").read_bytes()
    reader.close()
    assert printed(capsys, *command[1:]) == "0 expired sessions removed\n"
    assert b"sound 1" not in (tmp_path / "chat.db").read_bytes()


def test_a_command_that_reads_sweeps_nothing(tmp_path: Path, capsys: Any) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"

    async def work() -> None:
        async with Store(SQLiteBackend(url, ttl=600.0, sweep=0, clock=lambda: time.time() - 10_000)) as store:
            await store.append("old", [user("a")])

    asyncio.run(work())
    assert printed(capsys, "verify", f"--store={url}") == "0 sessions with 0 turns read, no damage was found\n"
    assert printed(capsys, "sweep", f"--store={url}") == "1 expired session removed\n"


def test_edit_sets_the_properties_of_a_session(shops: Kept, capsys: Any) -> None:
    out = printed(
        capsys,
        "edit",
        "one",
        "--owner=carol",
        "--title=Order 7",
        "--metadata",
        'tags=["a", 1]',
        "--metadata=x=null",
        "--ttl=1h",
    )
    assert out == "session one: tags, title, owner, ttl set; there was no x\n"
    info = asyncio.run(shops.info("one"))
    assert (info.owner, dict(info.metadata), info.ttl) == ("carol", {"tags": ["a", 1], "title": "Order 7"}, 3600.0)
    assert printed(capsys, "list", "--owner=carol").split("\t")[-1] == "Order 7\n"
    out = printed(capsys, "edit", "one", "--owner=", "--title=", "--ttl=0")
    assert out == "session one: ttl set; title, owner removed\n"
    assert printed(capsys, "edit", "one", "--owner=", "--metadata=title=null") == (
        "session one: there was no title and no owner\n"
    )
    info = asyncio.run(shops.info("one"))
    assert (info.owner, dict(info.metadata), info.ttl) == ("", {"tags": ["a", 1]}, 0.0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["one"], 2, "nothing to set: add --owner, --title, --metadata or --ttl"),
        (["one", "--metadata=x"], 2, "--metadata 'x' must be NAME=JSON, but the name or the = is missing"),
        (["one", "--metadata==1"], 2, "--metadata '=1' must be NAME=JSON, but the name or the = is missing"),
        (["one", "--metadata=x=word"], 2, "must be NAME=JSON, but its value is not JSON"),
        (["one", "--metadata=title=1", "--title=x"], 2, "the metadata 'title' are given twice"),
        (["one", "--metadata=x=1", "--metadata=x=2"], 2, "the metadata 'x' are given twice"),
        (["one", "--ttl=soon"], 2, '--ttl: "soon" is not a duration'),
        (["nobody", "--title=x"], 1, "there is no session 'nobody'"),
        (["one", f"--owner={'x' * 256}"], 2, "owner has 256 bytes"),
    ],
)
def test_edit_refuses_invalid_arguments(arguments: list[str], code: int, said: str, shops: Kept, capsys: Any) -> None:
    assert said in refused(capsys, "edit", *arguments, code=code)
    assert dict(asyncio.run(shops.info("one")).metadata) == {}
    assert "nobody" not in ids(shops)


# -------------------------------------------------------------------------------------------------------------- search


def test_search_shows_session_turn_and_snippet(shops: Kept, capsys: Any) -> None:
    assert printed(capsys, "search", "order") == "one\t0\tuser\tWhere is my ORDER?\n"
    assert printed(capsys, "search", "order", "--owner=bob") == ""
    rows = printed(capsys, "search", "order", "--all-namespaces").splitlines()
    assert [row.split("\t")[:2] for row in rows] == [[name, "one"] for name in ("default", "shop", "shop/a")]
    found = json.loads(printed(capsys, "search", "WAY.", "--json"))
    assert found == {
        "namespace": "default",
        "session_id": "one",
        "turn": 0,
        "who": "assistant",
        "snippet": "On its way.",
    }
    append(shops, "long", user(f"{'a ' * 500}needle\n\x1b[31m{' b' * 500}"))
    out = printed(capsys, "search", "needle")
    assert out.startswith("long\t0\tuser\t... a a ")
    assert "needle \\x1b[31m b" in out
    assert len(out) < 150


def test_search_is_bounded(shops: Kept, capsys: Any) -> None:
    for number in range(30):
        append(shops, f"s{number}", user("needle"))
    assert main(["search", "needle"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (20, "turnlog: 20 messages shown, there are more: --limit 0 shows all\n")
    assert printed(capsys, "search", "needle", "--limit=0").count("\n") == 30
    assert main(["search", "needle", "--limit=30"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_search_prints_a_line_for_each_message_and_marks_the_text(
    columns: int, store: Kept, monkeypatch: Any, capsys: Any
) -> None:
    append(store, "s" * 60, user(f"{'before ' * 99}NEEDLE{' after' * 99}"), assistant("\x1b[2J\n需needle"))
    append(store, "long", user("x" * 500), assistant("x" * 500))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    heading, first, second = printed(capsys, "search", "needle").splitlines()
    assert "\x1b[7mNEEDLE\x1b[0m" in first
    heading, first, second = (CODES.sub("", row) for row in (heading, first, second))
    assert heading == "s" * 60
    assert re.fullmatch(r"  turn 0  user       \.\.\..* before NEEDLE after .*\.\.\.", first)
    assert len(first) == columns
    assert abs(first.index("NEEDLE") - (21 + (columns - 21) // 2)) < 6, "about in the middle"
    assert second == r"  turn 0  assistant  \x1b[2J 需needle"
    rows = [CODES.sub("", row) for row in printed(capsys, "search", "x" * 500, "--all-namespaces").splitlines()]
    assert rows[0] == "long in default"
    assert [len(row) for row in rows[1:]] == [columns] * 2
    assert all(row.endswith("xxx...") for row in rows[1:])


def test_search_reports_damaged_sessions(tmp_path: Path, capsys: Any) -> None:
    assert main(["search", "sound", f"--store={damaged(tmp_path)}"]) == 1
    out, err = capsys.readouterr()
    assert [row.split("\t")[1] for row in out.splitlines()] == ["0", "1", "2"]
    assert err.count("\n") == 3  # two sessions, and the next command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([" "], "the search text is blank"),
        (["x", "--limit=-1"], "--limit must be 0 or greater"),
        (["x", "--namespace=a", "--all-namespaces"], "leave out one of them"),
        ([], "TEXT"),
    ],
)
def test_search_refuses_invalid_arguments(arguments: list[str], said: str, store: Kept, capsys: Any) -> None:
    assert said in refused(capsys, "search", *arguments)


# -------------------------------------------------------------------------------------------------------------- errors


def test_any_error_is_one_sentence_without_passwords(monkeypatch: Any, capsys: Any) -> None:
    """An unexpected error of a plugin is also one sentence; `--debug` shows where it was raised."""

    class Broken(MemoryBackend):
        async def open(self) -> None:
            raise RuntimeError("no\nroute for hunter2 to acme://u:hunter2@h")

    monkeypatch.setenv("TURNLOG_STORE_URL", "postgresql://u:hunter2@h/x")
    use(monkeypatch, Broken())
    for command in (
        ["list"],
        ["show", "s"],
        ["erase", "s", "--yes"],
        ["verify"],
        ["search", "x"],
        ["edit", "s", "--ttl=0"],
    ):
        said = refused(capsys, *command, code=1)
        assert said == (
            "turnlog: RuntimeError: no\\nroute for *** to acme://***@h: this is a bug in turnlog or in a plugin; "
            "--debug shows a traceback\n"
        )
    assert main(["list", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in open" in err
    assert "hunter2" not in err
    monkeypatch.delenv("TURNLOG_STORE_URL")
    assert "hunter2" not in refused(capsys, "list", "--store", "redis://:hunter2@h", code=1)
    assert "hunter2" not in refused(capsys, "list", "--store=redis://:hunter2@h", code=1)


@pytest.mark.parametrize(
    "error",
    [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe"), asyncio.CancelledError(), SystemExit(0)],
    ids=repr,
)
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("open", ["list"]),
        ("page", ["list"]),
        ("read", ["show", "s"]),
        ("delete", ["erase", "s", "--yes"]),
        ("commit", ["edit", "s", "--owner=ann"]),
        ("namespaces", ["namespaces"]),
        ("totals", ["stats"]),
        ("page", ["export", "-o", "FILE"]),
        ("close", ["import", "FILE"]),
    ],
)
def test_a_backend_may_raise_anything(
    method: str, arguments: list[str], error: BaseException, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """The command takes it neither for a closed pipe, nor for a fault of a file, nor for Ctrl-C."""
    file = tmp_path / "file"
    file.write_text('{"session_id": "t", "messages": []}\n')
    backend = KeptBackend()
    append(Store(backend), "s", user("x"))

    async def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(backend, method, fails)
    use(monkeypatch, backend)
    assert main([word.replace("FILE", str(file)) for word in arguments]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith(f"turnlog: {type(error).__name__}: ")
    assert err.endswith("this is a bug in turnlog or in a plugin; --debug shows a traceback")


@pytest.mark.parametrize(
    "command",
    ["list", "show s", "search x", "namespaces", "verify", "check", "stats", "doctor", "export", "sweep", "erase s"],
)
def test_commands_that_need_a_store_make_no_file(command: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*command.split(), *(["--yes"] if "erase" in command else [])]
    assert main([*words, "--store", "sqlite:///none.db"]) == 3
    assert "none.db" in "".join(capsys.readouterr())
    assert not list(tmp_path.iterdir())


def test_debug_after_two_hyphens_is_a_word(shops: Kept, capsys: Any) -> None:
    append(shops, "three", user("how do I use --debug?"))
    assert printed(capsys, "search", "--", "--debug").startswith("three\t")


def test_plugins_names_unusable_plugins_with_the_reason(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "asyncmy", None)
    monkeypatch.delitem(sys.modules, "turnlog_sql.mysql")
    rows = [row.split("\t") for row in printed(capsys, "plugins").splitlines()]
    faults = {(row[0], row[1]): row[5] for row in rows if row[5]}
    assert faults == {
        (
            "turnlog.backends",
            name,
        ): f"backend {name!r} needs asyncmy, which is not installed: pip install 'turnlog[mysql]'"
        for name in ("mariadb", "mysql")
    }


# ------------------------------------------------------------------------------------------------------------- screens


def screen(*arguments: str, cwd: Path, keys: str = "") -> tuple[int, list[str]]:
    """Run `turnlog` on a terminal; return its exit code and the lines that it shows."""
    with Screen(*arguments, cwd=cwd, COLUMNS="80") as shown:
        code = shown.end(keys)
        return code, CODES.sub("", shown.seen).replace("\r", "").splitlines()


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store of two sessions, one of them with a long title."""
    folder = tmp_path_factory.mktemp("chats")

    async def work() -> None:
        async with Store(SQLiteBackend(f"sqlite:///{folder}/turnlog.db")) as store:
            await store.append("a" * 22, [user("word " * 40)], owner="alice", metadata={"title": "long " * 20})
            await store.append("b" * 22, [user("Hi")])

    asyncio.run(work())
    return folder


def test_on_a_terminal_tables_fit_and_ids_stay_whole(chats: Path) -> None:
    code, seen = screen("list", cwd=chats)
    assert code == 0
    assert seen[0].split() == ["session", "turns", "messages", "updated", "owner", "title"]
    assert max(map(len, seen)) <= 80
    assert [row.split()[0] for row in seen if row.startswith(("aaa", "bbb"))] == ["b" * 22, "a" * 22]
    code, seen = screen("show", "a" * 22, cwd=chats)
    assert max(map(len, seen)) <= 80
    assert all(row.startswith("    word") for row in seen if "word" in row and "user" not in row)
    assert not any("wor " in row or row.endswith("wor") for row in seen)


def test_on_a_terminal_a_row_that_does_not_fit_is_a_paragraph(tmp_path: Path) -> None:
    async def work() -> None:
        async with Store(SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db")) as store:
            await store.append("x" * 100, [user("a")], owner="o" * 60, metadata={"title": "T"})

    asyncio.run(work())
    _, seen = screen("list", cwd=tmp_path)
    assert seen[0] == "x" * 100
    assert re.fullmatch("  turns 1  messages 1  updated .*  owner\n  o{24}\\.\\.\\.  title T", "\n".join(seen[1:]))


def test_on_a_terminal_erase_asks_and_doctor_advises(chats: Path) -> None:
    code, seen = screen("erase", "b" * 22, cwd=chats, keys="n\r")
    assert code == 1
    assert any(f"Erase session '{'b' * 22}' in namespace 'default' (1 turn, 1 message)? [y/N]" in row for row in seen)
    with Screen("erase", "b" * 22, cwd=chats) as asked:
        asked.wait_for("[y/N] ")
        assert asked.end("\x03") == 130
    (chats / "turnlog.db").chmod(0o644)
    code, seen = screen("doctor", cwd=chats)
    assert code == 1
    assert max(len(row) for row in seen if "to fix it" not in row) <= 80
    assert any(row.startswith("    to fix it: chmod o= ") for row in seen)


def test_results_go_to_standard_output_while_the_terminal_shows_progress(chats: Path) -> None:
    screen, theirs = pty.openpty()
    code = "import sys, turnlog_cli; sys.exit(turnlog_cli.main())"
    for form in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "search", "Hi", *form],
            cwd=chats,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            check=True,
            timeout=60,
        )
        assert b"b" * 22 in done.stdout
        assert b"search" in os.read(screen, 10_000)
    os.close(screen)
    os.close(theirs)
