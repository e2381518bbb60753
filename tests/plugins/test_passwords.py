"""Passwords outside of URLs: the option, the variable, the file, `${VARIABLE}` in TOML; none is shown."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from turnlog import open_store
from turnlog.config import mask, settings_of
from turnlog.errors import ConfigError

_PASSWORD = "b9/ses@me"  # noqa: S105 - no message may show it
_URL = "postgresql://u@h/d"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def password(url: str | None = None, **options: Any) -> Any:
    """Return the password that the driver receives."""
    backend: Any = open_store(url, **options).backend
    return backend._database._options["password"]


def test_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNLOG_STORE_PASSWORD", _PASSWORD)
    assert password(_URL) == _PASSWORD
    assert password("mysql://u@h/d") == _PASSWORD.encode()
    redis: Any = open_store("redis+cluster://a,b").backend
    assert redis._server.location.settings["password"] == _PASSWORD
    open_store("memory://")  # it has no password, and ignores the variable


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file(folder: Path, end: str) -> None:
    (folder / "secret").write_text(_PASSWORD + end, newline="")
    assert password(f"{_URL}?password_file=secret") == _PASSWORD
    assert password(config={"store": {"url": _URL, "password_file": str(folder / "secret")}}) == _PASSWORD


def test_a_variable_in_toml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", _PASSWORD)
    monkeypatch.setenv("PLACE", f"{_URL}?pool_size=3")
    for table in (
        f'url = "{_URL}"\npassword = "${{SECRET}}"',
        'url = "postgresql://u:${SECRET}@h/d"',
        'url = "${PLACE}"\npassword = "${SECRET}"',
    ):
        (folder / "turnlog.toml").write_text(f"[store]\n{table}\n")
        assert password() == _PASSWORD
    monkeypatch.setenv("KIND", "gzip")
    layered = open_store(config={"store": {"url": "memory://", "layers": [{"name": "${KIND}"}]}})
    assert type(layered.backend).__name__ == "GzipLayer"
    (folder / "turnlog.toml").write_text('[store]\nurl = "postgresql://u:${NOWHERE}@h/d"\n')
    with pytest.raises(ConfigError, match=r"^turnlog.toml: store.url: the variable NOWHERE is not set"):
        open_store()
    for wrong in ("${SECRET", "${SECRET:-x}", "${}", "${1}"):
        (folder / "turnlog.toml").write_text(f'[store]\nurl = "postgresql://u:{wrong}@h/d"\n')
        with pytest.raises(ConfigError, match=r"^turnlog.toml: store.url: a \$\{ has no .*: write it like \$\{DB_PAS"):
            open_store()


@pytest.mark.parametrize(
    ("url", "store", "variable", "places"),
    [
        (
            "postgresql://u:b9%2Fses%40me@h/d",
            {},
            True,
            "before the host in the argument url and by TURNLOG_STORE_PASSWORD",
        ),
        (
            None,
            {"url": f"{_URL}?password_file=s"},
            True,
            "by TURNLOG_STORE_PASSWORD and by [?]password_file in .*store.url",
        ),
        (
            None,
            {"url": "redis://:x@h", "password_file": "s"},
            False,
            "before the host in .*store.url and by .*store.password_file",
        ),
        (
            None,
            {"url": "mysql://u@h/d", "password": "x", "password_file": "s"},
            False,
            "password and by .*password_file",
        ),
        ("mysql://u:x@h/d?password=y", {}, False, "in the argument url and by [?]password in the argument url"),
    ],
)
def test_two_passwords(
    folder: Path, monkeypatch: pytest.MonkeyPatch, url: str | None, store: dict[str, str], variable: bool, places: str
) -> None:
    (folder / "s").write_text(_PASSWORD)
    if variable:
        monkeypatch.setenv("TURNLOG_STORE_PASSWORD", _PASSWORD)
    with pytest.raises(ConfigError, match=rf"^the password is given twice, .*{places}: remove one of them$") as caught:
        open_store(url, config={"store": store})
    assert _PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "it is not UTF-8; write"),
    ],
)
def test_a_file_that_holds_no_password(folder: Path, contents: bytes | None, says: str) -> None:
    if contents is not None:
        (folder / "secret").write_bytes(contents)
    with pytest.raises(ConfigError, match=rf"\?password_file: 'secret' .*{says}"):
        open_store(f"{_URL}?password_file=secret")


@pytest.mark.parametrize("path", [5, ""])
def test_a_file_without_a_path(path: object) -> None:
    with pytest.raises(ConfigError, match=r"store\.password_file: must be the path of a file that holds the password"):
        open_store(config={"store": {"url": _URL, "password_file": path}})


def test_a_password_for_a_store_that_has_none() -> None:
    with pytest.raises(ConfigError, match="password_file: memory has no option password_file"):
        open_store("memory://?password_file=secret")


def test_no_output_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNLOG_STORE_PASSWORD", _PASSWORD)
    found = {one.name: (one.value, one.where) for one in settings_of(_URL)}
    assert found["password"] == ("***", "TURNLOG_STORE_PASSWORD")
    assert mask(f"the driver says {_PASSWORD}", _URL) == "the driver says ***"
    assert _PASSWORD not in repr(open_store(_URL).backend)
    with pytest.raises(ConfigError) as caught:
        open_store(f"{_URL}?schema=")
    assert _PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_options_belong_to_the_backend_under_each_of_its_schemes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "turnlog.toml").write_text(f'[store]\nurl = "{_URL}"\npassword = "{_PASSWORD}"\n')
    monkeypatch.setenv("TURNLOG_STORE_URL", "postgres://u@other/d")
    assert password() == _PASSWORD
    monkeypatch.setenv("TURNLOG_STORE_URL", "mysql://u@other/d")
    assert password() == b""
