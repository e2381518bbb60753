"""Wrong URLs on the command line: each error is one line that names the next step and shows no password.

`test_url` and `test_config` check the texts, and `test_unreachable` those of servers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

import servers
from turnlog_cli import main
from turnlog_cli._text import without_secrets

_NEXT: Final = (
    "write",
    "give",
    "set",
    "check",
    "correct",
    "remove",
    "leave",
    "create",
    "name",
    "must be",
    "did you mean",
)
"""Words of which each error has at least one: an instruction, or the accepted values."""

_WRONG: Final = [
    "",
    "chat.db",
    "sqlite:/chat.db",
    "sqlite://chat.db",
    "sqlite:///",
    "sqlite:///:memory:",
    "sqlite:///no/such/folder/chat.db",
    "sqlite:///folder",
    "sqlite:///notes.txt",
    "sqlite:///notes.txt/chat.db",
    "sqlite:///missing.db",
    "sqlite:///my chats.db",
    "sqllite:///chat.db",
    "'sqlite:///chat.db'",
    "sqlite+aiosqlite:///chat.db",
    "memory:///chat.db",
    "mongodb://u:hunter2@h/d",
    "jdbc:mysql://u:hunter2@h/d",
    "postgresql+psycopg2://u:hunter2@h/d",
    "postgresql://u:hunter2@h",
    "postgresql://u:hun/ter2@h/d",
    "postgresql://u:hunter2@h2@h/d",
    "postgresql://u:hunter2#@h/d",
    "postgresql://u:hunter2%@h/d",
    "postgresql://u:hunter2@::1:5432/d",
    "postgresql://u:hunter2@h:port/d",
    "postgresql://u:hunter2@h/d?sslmode=required",
    "postgresql://u:hunter2@h/d?sslrootcert=x.crt",
    "postgresql://u:hunter2@h/d?ssl=true",
    "postgresql://u:hunter2@h/d?password=hunter2",
    "postgresql://u@h/d?password_file=missing",
    "postgresql://u@h/d?password_file=folder",
    "postgresql://u:hunter2@h/d?pool_size=-1",
    "postgresql://u:hunter2@h/d?timeout=0",
    "postgresql://u:hunter2@/d?host=relative",
    "mysql://u:hunter2@a,b/d",
    "mysql://u:hunter2@h/d?charset=latin1",
    "mysql://u:hunter2@h/d?schema=x",
    "mysql://u:hunter2@/d?unix_socket=/missing.sock",
    "redis://u:hunter2@h/chats",
    "redis://u:hunter2@h/0?db=1",
    "redis://u:hunter2@a,b/0",
    "redis-cluster://u:hunter2@h",
    "redis+clusters://u:hunter2@h",
    "redis+cluster://u:hunter2@h/1",
    "unix:///missing.sock?timeout=100ms",
    "memory://?namespace=",
    "memory://?namespce=x",
    "memory://?pool_size=1",
    "memory://?ttl",
    "memory://?ttl=30x",
    "memory://?ttl=1h&ttl=2h",
    "memory://?retain=0",
    "memory://?max_session_bytes=10megs",
    "memory://?layers=zstd,cache",
    "memory://?layers=cashe",
    "memory://?layers=zstd,gzip",
    "memory://?layers=cache&max_age=3s",
    "memory://?layer=cache",
]


@pytest.mark.parametrize("url", _WRONG)
def test_a_wrong_store(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("no database")
    before = sorted(tmp_path.rglob("*"))
    assert main(["list", "--store", url]) in (2, 3)
    out, err = capsys.readouterr()
    assert not out and err.startswith("turnlog: ") and err.count("\n") == 1
    assert any(word in err for word in _NEXT)
    assert "hunter2" not in err and "bug" not in err and "Error" not in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "redis"])
def test_a_wrong_password(kind: str, capsys: Any) -> None:
    scheme, _, place = getattr(servers, kind)().partition("://")
    assert main(["list", "--store", f"{scheme}://nobody:hunter2@{place.rpartition('@')[2]}"]) == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "; set the right user and password in the URL, before the host" in err
    assert "hunter2" not in err


@pytest.mark.parametrize("command", ["list", "doctor"])
def test_a_schema_that_does_not_exist(command: str, capsys: Any) -> None:
    """The message shows the whole command that creates it, and the user, but no password."""
    url = servers.postgresql()
    store = f"{url}?schema=nosuch"
    assert main([command, "--store", store]) == 3
    said = "".join(capsys.readouterr())
    assert ", schema 'nosuch': the schema does not exist: correct ?schema, or create it and the tables with: " in said
    assert f"turnlog migrate --store '{store}'\n" in said


def test_a_schema_that_the_user_may_not_create(capsys: Any) -> None:
    url = servers.postgresql()
    made = "DO $$ BEGIN CREATE ROLE nocreate LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    servers.ask(url, made, "REVOKE CREATE ON DATABASE postgres FROM nocreate")
    assert main(["migrate", "--store", f"postgresql://nocreate@{url.rpartition('@')[2]}?schema=nosuch"]) == 3
    assert capsys.readouterr().err.endswith(
        ": the schema does not exist, or the user may not use it (permission denied for database postgres): nothing "
        "was done; correct ?schema, or create the schema and grant the user USAGE and CREATE on it\n"
    )


def test_doctor_on_a_sentinel(capsys: Any) -> None:
    assert main(["doctor", "--store", f"redis://127.0.0.1:{servers.redis_sentinels().ports[0]}"]) == 3
    assert "if it is a sentinel, write redis+sentinel://" in capsys.readouterr().out


def test_migrate_without_tables(capsys: Any) -> None:
    assert main(["migrate", "--store", "memory://"]) == 0
    assert capsys.readouterr() == ("memory:// has no tables: nothing to do\n", "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("mysql://u@h/d", "mysql://u@h/d"),
        ("mysql://hunter2/x@h/d", "mysql://***@h/d"),
        ("postgres://u:hunter2@h/d", "postgres://***@h/d"),
        ("postgres://u@hunter2@h/d", "postgres://***@h/d"),
        ("redis://hunter2@h", "redis://***@h"),
        ("redis://:password@host", "redis://:password@host"),
    ],
)
def test_secrets_in_a_url_are_masked(url: str, shown: str) -> None:
    assert without_secrets(f"see '{url}' there") == f"see '{shown}' there"
