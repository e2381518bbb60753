"""The URLs of SQL stores: what they name, and what is refused without a piece of it."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from turnlog.errors import InvalidInput
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql._store import SQLBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend

_PASSWORD = "b9-sesame"  # noqa: S105 - no message may show it

STORES: dict[str, type[Any]] = {"sqlite": SQLiteBackend, "postgresql": PostgreSQLBackend, "mysql": MySQLBackend}


def store(url: str) -> SQLBackend:
    """The store of a URL, not opened."""
    made: SQLBackend = STORES[url.partition(":")[0].partition("+")[0]](url)
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
        ("mysql://h/d", "mysql h:3306/d"),
        ("mysql://u:p@:1/d", "mysql localhost:1/d"),
    ],
)
def test_the_database_that_a_url_names(url: str, name: str) -> None:
    assert store(url)._database.name == name


def options(url: str) -> dict[str, Any]:
    """What the driver connects with."""
    database: Any = store(url)._database
    found: dict[str, Any] = database._options
    return found


def test_what_a_url_leaves_out_is_left_to_the_driver_of_postgresql() -> None:
    """It asks the environment, as libpq does."""
    names = ("host", "port", "user", "password")
    assert [options("postgresql:///d")[name] for name in names] == [None] * 4
    assert [options("postgresql://a%40b:c%2F@[::1]:1/d")[name] for name in names] == ["::1", 1, "a@b", "c/"]


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
        ("SCHEME://u:PW@a,b/d", "several hosts|names no file"),
    ],
)
@pytest.mark.parametrize("scheme", STORES)
def test_any_other_url_is_refused_without_a_piece_of_it(scheme: str, url: Any, says: str) -> None:
    if isinstance(url, str):
        url = url.replace("SCHEME", scheme).replace("PW", _PASSWORD)
    with pytest.raises(InvalidInput, match=rf"^(the URL|url).*({says})") as caught:
        STORES[scheme](url)
    assert _PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", ["sqlite://h/d", "sqlite://u:p@/d", "sqlite:///:memory:"])
def test_sqlite_takes_a_file_and_nothing_else(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^url names no file"):
        store(url)
