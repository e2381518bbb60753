"""Wrong URLs on the command line: each error is one line that names the next step and shows no password.

`test_url` and `test_config` check the texts, and `test_unreachable` those of servers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

import servers
from turnlog_cli import main

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
