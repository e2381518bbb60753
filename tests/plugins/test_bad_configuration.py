"""The table of bad configurations: each row is a URL, a file or an argument, with the class of its error.

`TESTED` names the tests of the rows that need a server, an installed distribution, or the text of the error.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from turnlog import AccessError, ConfigError, PluginError, SchemaError, TurnlogError, open_store

TESTS = Path(__file__).resolve().parents[1]

TESTED = {
    "the extra of a backend is not installed": ("packaging/test_plugins", "a_missing_driver_of_ours_names_the_extra"),
    "a host that is down, with a password in the URL": ("plugins/test_unreachable", "a_refused_connection"),
    "no error shows a password": ("core/test_config", "no_error_shows_a_password"),
    "the text of a malformed URL": ("core/test_config", "malformed_urls"),
    "the line of an error in TOML, and the path of a wrong key": ("core/test_config", "a_bad_file_names_its_place"),
    "a URL in several places: the argument decides": ("core/test_config", "every_combination_of_places"),
    "${MISSING} in TOML": ("plugins/test_passwords", "a_variable_in_toml"),
    "layers in the wrong order, with the right order": ("core/test_config", "a_stack_in_the_wrong_order_is_refused"),
    "two distributions claim a name": (
        "packaging/test_plugins",
        "two_distributions_with_one_name_are_both_named_and_neither_loaded",
    ),
    "the import of a plugin fails": ("packaging/test_plugins", "a_broken_plugin_says_which_distribution_and_why"),
    "a plugin for other interfaces": (
        "packaging/test_plugins",
        "a_plugin_for_another_version_of_the_interfaces_is_refused",
    ),
    "an entry point that is no plugin": ("packaging/test_plugins", "what_is_no_plugin_is_refused"),
    "a server that evicts sessions: a warning": (
        "plugins/test_redis_retry",
        "a_server_that_evicts_sessions_causes_a_warning",
    ),
    "tables that are newer, older or missing": (
        "plugins/test_sql_migrations",
        "unsuitable_tables_are_refused_and_not_changed",
    ),
    "a wrong password": ("plugins/test_unreachable", "databases_refuse_access"),
    "a folder without permission": ("plugins/test_unreachable", "a_folder_without_write_access"),
    "the next step of each error on the command line": ("plugins/test_wrong_stores", "a_wrong_store"),
}
"""Rows that other tests check: the module and the test."""

URLS: list[tuple[str, Any, type[TurnlogError]]] = [
    ("an empty URL", "", ConfigError),
    ("no text", b"memory://", ConfigError),
    ("no scheme", "chat.db", ConfigError),
    ("an unknown scheme", "reddis://h", PluginError),
    ("port 0", "redis://h:0", ConfigError),
    ("port 70000", "redis://h:70000", ConfigError),
    ("a port that is no number", "redis://h:abc", ConfigError),
    ("a wrong escape", "redis://u:%zz@h", ConfigError),
    ("an unknown option", "sqlite:///chat.db?ttll=5", ConfigError),
    ("an option twice", "memory://?ttl=1h&ttl=2h", ConfigError),
    ("an option of another backend", "memory://?pool_size=1", ConfigError),
    ("a time to live below 0", "memory://?ttl=-1", ConfigError),
    ("a time to live that is no number", "memory://?ttl=nan", ConfigError),
    ("an endless time to live", "memory://?ttl=inf", ConfigError),
    ("a time to live of more than ten years", "memory://?ttl=20000d", ConfigError),
    ("retention of no turns", "memory://?retain=0", ConfigError),
    ("an empty namespace", "memory://?namespace=", ConfigError),
    ("a timeout of 0", "postgresql://u@h/d?timeout=0", ConfigError),
    ("an unknown layer", "memory://?layers=cashe", PluginError),
    ("a layer twice", "memory://?layers=cache,cache", ConfigError),
    ("two compressions", "memory://?layers=zstd,gzip", ConfigError),
    ("a cache below a compression", "memory://?layers=zstd,cache", ConfigError),
    ("an option of a layer in the URL", "memory://?layers=cache&max_age=3s", ConfigError),
    ("a folder", "sqlite:///folder", AccessError),
    ("a folder that does not exist", "sqlite:///none/chat.db", AccessError),
    ("a file in place of a folder", "sqlite:///notes.txt/chat.db", AccessError),
    ("a file of another program", "sqlite:///notes.txt", SchemaError),
    ("a missing file that must not be created", "sqlite:///chat.db?migrate=check", SchemaError),
]
"""A URL, which `open_store` or `open` refuses."""

TABLES: list[tuple[str, Mapping[str, object]]] = [
    ("an unknown key", {"ttll": 5}),
    ("text for a duration", {"ttl": "soon"}),
    ("a bool for a duration", {"ttl": True}),
    ("text for a number", {"retain": "5"}),
    ("a bool for a number", {"retain": True}),
    ("a number for text", {"namespace": 5}),
    ("layers that are no list", {"layers": "cache"}),
    ("a layer without a name", {"layers": [{"max_bytes": 1}]}),
    ("a layer with an unknown key", {"layers": [{"name": "cache", "max_bites": 1}]}),
]
"""A table `[store]` with a key that is refused."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory: a folder, and a file that is no database."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("no database")
    return tmp_path


@pytest.mark.parametrize(("url", "kind"), [row[1:] for row in URLS], ids=[row[0] for row in URLS])
def test_a_url_is_refused_and_nothing_is_created(url: Any, kind: type[TurnlogError], folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(TurnlogError) as error:
        asyncio.run(open_store(url).open())
    assert type(error.value) is kind
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("table", [row[1] for row in TABLES], ids=[row[0] for row in TABLES])
def test_a_table_is_refused(table: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError):
        open_store(config={"store": {"url": "memory://", **table}})


@pytest.mark.parametrize("row", TESTED)
def test_a_row_has_its_test_elsewhere(row: str) -> None:
    module, name = TESTED[row]
    source = (TESTS / f"{module}.py").read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def test_{name}\(", source, re.MULTILINE)
