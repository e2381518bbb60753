"""The URLs of SQL stores: the database that they name, and errors that quote nothing of a bad URL."""

from __future__ import annotations

import traceback
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from turnlog import AccessError, open_store
from turnlog.config import parse_url
from turnlog.errors import ConfigError, InvalidInput
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql._sqlite_paths import path_of, uri_of, url_of
from turnlog_sql._store import SQLBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend

_PASSWORD = "b9-sesame"  # noqa: S105 - no message may contain it

STORES: dict[str, type[Any]] = {"sqlite": SQLiteBackend, "postgresql": PostgreSQLBackend, "mysql": MySQLBackend}


def store(url: str) -> SQLBackend:
    """Return the store of a URL without opening it."""
    made = open_store(url).backend
    assert isinstance(made, SQLBackend)
    return made


def test_the_location_is_the_same_in_each_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.db").symlink_to("a.db")
    for url in ("sqlite:///a.db", "sqlite:///link.db", f"sqlite:///{tmp_path}/../{tmp_path.name}/a.db"):
        assert store(url).location == f"sqlite {str(tmp_path.resolve() / 'a.db')!r}"
    assert store("postgresql://u:secret@h/d").location == "postgresql h:5432/d"
    assert ZstdLayer(store("mysql://u:secret@h/d")).location == "mysql h:3306/d"
    assert MemoryBackend().location is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///a%20b%25.db", "sqlite 'a b%.db'"),
        ("sqlite:////var/a.db", "sqlite '/var/a.db'"),
        ("sqlite:///C:/a.db", "sqlite 'C:/a.db'"),
        ("postgresql://h/d", "postgresql h:5432/d"),
        ("postgresql:///d", "postgresql localhost:5432/d"),
        ("postgresql+asyncpg://u:p@h:1/d%20e", "postgresql h:1/d e"),
        ("postgres://a,b:1/d?schema=x", "postgresql a:5432,b:1/d, schema 'x'"),
        ("postgresql://%2Frun%2Fpg/d", "postgresql /run/pg:5432/d"),
        ("postgresql://localhost/d?host=/run/pg", "postgresql /run/pg:5432/d"),
        ("postgresql://u@:1/d?host=/run/pg", "postgresql /run/pg:1/d"),
        ("mysql://h/d", "mysql h:3306/d"),
        ("mariadb://h/d?charset=utf8mb4", "mysql h:3306/d"),
        ("mysql://localhost/d?unix_socket=/run/s", "mysql /run/s/d"),
        ("mysql://u:p@:1/d", "mysql localhost:1/d"),
    ],
)
def test_the_database_that_a_url_names(url: str, name: str) -> None:
    assert store(url)._database.name == name


@pytest.mark.parametrize(
    ("url", "path", "uri"),
    [
        ("sqlite:///C:/chats/a%20b.db", r"C:\chats\a b.db", "file:///C:/chats/a%20b.db"),
        ("sqlite:///c:/a%23%3F.db", r"c:\a#?.db", "file:///c:/a%23%3F.db"),
        ("sqlite:////server/share/x.db", r"\\server\share\x.db", "file:////server/share/x.db"),
        ("sqlite:////server/share/a/x.db", r"\\server\share\a\x.db", "file:////server/share/a/x.db"),
    ],
)
def test_paths_of_windows(url: str, path: str, uri: str) -> None:
    """The paths are those that `abspath` returns on Windows."""
    found = PureWindowsPath(path_of(parse_url(url).database, windows=True))
    assert str(found) == path and found.is_absolute()
    assert uri_of(path, "mode=rw", windows=True) == f"{uri}?mode=rw"
    assert url_of(path, windows=True) == url
    assert path_of(parse_url("sqlite:///a/b/x.db").database, windows=True) == "a/b/x.db"


def test_paths_of_other_systems() -> None:
    assert path_of("/server/share/x.db", windows=False) == "/server/share/x.db"
    assert uri_of("/var/a b?.db", "mode=rw", windows=False) == "file:///var/a%20b%3F.db?mode=rw"
    assert url_of("/var/a b.db", windows=False) == "sqlite:////var/a%20b.db"


async def test_a_path_that_sqlite_cannot_open_needs_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlog_sql._sqlite_file.uri_of", lambda path, query: f"file://C{path}?{query}")
    with pytest.raises(AccessError, match=r"cannot be opened: .*check the path") as caught:
        await store(f"sqlite:///{tmp_path}/a.db").open()
    assert "backup" not in str(caught.value)


def options(url: str) -> dict[str, Any]:
    """Return the options with which the driver connects."""
    database: Any = store(url)._database
    found: dict[str, Any] = database._options
    return found


def test_the_driver_of_postgresql_completes_a_url() -> None:
    """The driver reads the environment, as libpq does."""
    names = ("host", "port", "user", "password")
    assert [options("postgresql:///d")[name] for name in names] == [None] * 4
    assert [options("postgresql://a%40b:c%2F@[::1]:1/d")[name] for name in names] == [["::1"], [1], "a@b", "c/"]


def test_mysql_has_defaults_and_a_password_in_utf_8() -> None:
    names = ("host", "port", "user", "password")
    assert [options("mysql:///d")[name] for name in names] == ["localhost", 3306, "", b""]
    assert [options("mysql://u:%C3%A9@[::1]:1/d")[name] for name in names] == ["::1", 1, "u", "é".encode()]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (3, "text, not int"),
        ("", "empty"),
        ("PW", "has no scheme"),
        ("PW://u:PW@h/d", "another scheme"),
        ("SCHEME://u:PW@h:x/d", "the port must be"),
        ("SCHEME://u:PW@h", "names no database"),
        ("SCHEME://u:PW@h/", "names no database"),
        ("SCHEME:///d?a=PW", "has a query"),
        ("SCHEME+nonsense://u:PW@h/d", "another driver, and .*: leave the \\+ out"),
    ],
)
@pytest.mark.parametrize("scheme", STORES)
def test_an_error_quotes_nothing_of_a_bad_url(scheme: str, url: Any, says: str) -> None:
    if isinstance(url, str):
        url = url.replace("SCHEME", scheme).replace("PW", _PASSWORD)
    with pytest.raises(InvalidInput, match=rf"^(the URL|url).*({says})") as caught:
        STORES[scheme](url)
    assert _PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://a,b/d", "url has several hosts"),
        ("postgresql://h/d?host=/run/pg", "host and the host in the URL contradict"),
        ("postgresql:///d?host=h", "host must be an absolute path"),
        ("postgresql:///d?host=/run/pg&sslmode=require", "sslmode require has no effect with host"),
        ("mysql://h/d?unix_socket=/run/s", "unix_socket and the host in the URL contradict"),
        ("mysql:///d?unix_socket=/run/s&sslmode=verify-ca", "sslmode verify-ca has no effect with unix_socket"),
        ("mysql://h/d?charset=latin1", 'must be utf8mb4, not "latin1"'),
        ("mysql://h/d?ssl-mode=REQUIRED", "has no option ssl-mode: write sslmode=require"),
        ("postgres://h/d?pgbouncer=true", "has no option pgbouncer: write prepare=no"),
        ("postgres://h/d?options=x", "has no option options: write schema="),
        ("postgres://h/d?sslmode=allow", 'must be disable, prefer, require, verify-ca or verify-full, not "allow"'),
        ("postgres://h/d?channel_binding=require", "channel_binding require needs TLS"),
        ("postgres://h/d?schema=", "schema must be a name"),
        ("postgres://h/d?schema=s&prepare=no", "schema must be a name .* needs prepare=yes"),
        ("postgres://h/d?target_session_attrs=master", "must be any, primary, .*, not"),
    ],
)
def test_options_of_other_programs_and_contradictions_are_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        store(url)


@pytest.mark.parametrize("kind", [PostgreSQLBackend, MySQLBackend])
def test_two_passwords_are_refused(kind: type[Any]) -> None:
    scheme = "postgres" if kind is PostgreSQLBackend else "mariadb"
    assert kind(f"{scheme}://u@h/d", password=_PASSWORD)._database._options["password"] in (
        _PASSWORD,
        _PASSWORD.encode(),
    )
    with pytest.raises(InvalidInput, match=r"^password is given twice") as caught:
        kind(f"{scheme}://u:{_PASSWORD}@h/d", password="other")  # noqa: S106
    assert _PASSWORD not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://h/d", "sqlite://u:p@/d", "sqlite:///:memory:"])
def test_sqlite_takes_a_file_and_nothing_else(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^url names no file"):
        SQLiteBackend(url)
