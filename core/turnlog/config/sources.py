"""Sources of settings: arguments, and a file that is named or found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from ..errors import ConfigError
from .expand import expanded
from .options import Given
from .suggestions import suggestion
from .warn import warn_once

GENERIC: Final = ("url", "namespace", "ttl", "retain", "max_session_bytes", "layers")
"""The settings of every store."""

CONFIG: Final = "TURNLOG_CONFIG"
"""The variable that names the file."""

_FILE: Final = "turnlog.toml"
_PROJECT: Final = "pyproject.toml"
_SAMPLE: Final = 'url = "sqlite:///chat.db"'
_STORE: Final = "store"
_TABLES: Final = (_STORE, "alerts")  # any other is refused, because it is probably a misspelling

Source: TypeAlias = dict[str, Given]
"""Settings by name."""


class _Contents(NamedTuple):
    """The contents of a file, and the prefix of its table names in messages."""

    tables: Mapping[str, object]
    where: str


def arguments_given(arguments: Mapping[str, object]) -> Source:
    """Return the arguments that are not None."""
    return {
        key: Given(value, f"the argument {key}", text=False) for key, value in arguments.items() if value is not None
    }


def file_given(config: object, *, url_given: bool) -> Source:
    """Return the settings of the file.

    Args:
        config: The argument `config` of `open_store`.
        url_given: Whether an argument names the store.  Then a file that is only found is ignored: a file in the
            working directory, for example for development, must not destroy sessions in another store.

    Raises:
        ConfigError: The file cannot be read, or its tables are wrong.
    """
    if config is not None or CONFIG in os.environ or not url_given:
        return _store(_contents(config))
    try:
        ignored = [given.where for key, given in _store(_found()).items() if key != "url"]
    except ConfigError as error:
        warn_once(f"{error}: the file is ignored, because the URL of the store is an argument")
    else:
        if ignored:
            warn_once(
                f"{', '.join(ignored)}: ignored, because the URL of the store is an argument; to use the file as well, "
                f"name it with {CONFIG} or config="
            )
    return {}


def read_table(name: str, *, config: str | os.PathLike[str] | Mapping[str, object] | None = None) -> tuple[object, str]:
    """Return a table of the file, for a plugin, and its place for error messages, such as `turnlog.toml: alerts`.

    The table is not checked.  It is None if the file does not exist, or does not contain the table.

    Args:
        name: The name of the table: `alerts`.
        config: As in `open_store`.

    Raises:
        ConfigError: The file cannot be read, or contains an unknown table.
    """
    tables, where = _contents(config)
    return tables.get(name), f"{where}{name}"


def twice(key: str, one: Given, other: Given) -> ConfigError:
    """Return the error for a key that is given twice in one source."""
    return ConfigError(f"{key} is given twice, by {place_of(one)} and by {place_of(other)}: remove one of them")


def place_of(given: Given) -> str:
    """Return the source of a value, for the middle of a sentence."""
    url, sign, key = given.where.partition(": ?")
    return f"?{key} in {url}" if sign else given.where


def _contents(config: object) -> _Contents:
    if isinstance(config, Mapping):
        return _known(_Contents(config, "config: "))
    if config is not None:
        if not isinstance(config, str | os.PathLike):
            raise ConfigError(f"the argument config must be a path or a mapping, not {type(config).__name__}")
        return _named(os.fspath(config), "the argument config")
    if CONFIG in os.environ:
        return _named(os.environ[CONFIG], CONFIG)
    return _found()


def _found() -> _Contents:
    if os.path.exists(_FILE):
        return _known(_Contents(_read(_FILE, _FILE), f"{_FILE}: "))
    table = _tool(_read(_PROJECT, _PROJECT)) if os.path.exists(_PROJECT) else None
    return _Contents({}, f"{_FILE}: ") if table is None else _known(_Contents(table, f"{_PROJECT}: tool.turnlog."))


def _named(path: str | bytes, where: str) -> _Contents:
    if not path or isinstance(path, bytes):
        raise ConfigError(f"{where} names no file: give the path of a {_FILE}")
    contents = _read(path, where)
    if os.path.basename(path) != _PROJECT:
        return _known(_Contents(contents, f"{path}: "))
    table = _tool(contents)
    if table is None:
        raise ConfigError(f"{where}: {path} has no table [tool.turnlog]")
    return _known(_Contents(table, f"{path}: tool.turnlog."))


def _read(path: str, where: str) -> Mapping[str, object]:
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        fix = "correct the path, or create the file" if missing else "give the path of a file that this user may read"
        raise ConfigError(f"{where}: the file {path} cannot be read: {error.strerror}; {fix}") from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or a path with a NUL
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        unquoted = reason.startswith(("Invalid value", "Expected newline or end of document"))
        hint = f"text needs quotes, as in {_SAMPLE}" if unquoted else "correct the file"
        raise ConfigError(
            f"{path} is not valid TOML: {reason}; {hint}"
        ) from None  # the cause would hold the file's contents


def _tool(contents: Mapping[str, object]) -> Mapping[str, object] | None:
    tool = contents.get("tool")
    table = tool.get("turnlog") if isinstance(tool, Mapping) else None
    if table is not None and not isinstance(table, Mapping):
        raise ConfigError(f"{_PROJECT}: tool.turnlog must be a table, not {type(table).__name__}")
    return table


def _known(contents: _Contents) -> _Contents:
    """Return the contents if all their tables are known."""
    for name, value in contents.tables.items():
        if name not in _TABLES and not isinstance(value, Mapping | list) and not suggestion(str(name), _TABLES):
            raise ConfigError(f"{contents.where}{_shown(name)} stands outside of a table: write it below [{_STORE}]")
        if name not in _TABLES:
            raise ConfigError(
                f"{contents.where}the table [{_shown(name)}] is unknown; write [store] or [[alerts]]"
                f"{suggestion(str(name), _TABLES)}"
            )
    return contents


def _store(contents: _Contents) -> Source:
    store = contents.tables.get(_STORE, {})
    if isinstance(store, list):
        raise ConfigError(f"{contents.where}there is only one store: write [store], not [[store]]")
    if not isinstance(store, Mapping):
        raise ConfigError(f"{contents.where}store must be a table, not {type(store).__name__}")
    found: Source = {}
    for key, value in store.items():
        where = f"{contents.where}store.{_shown(key)}"
        if isinstance(value, Mapping) and key not in GENERIC:
            raise ConfigError(f"{where}: a store has no table of this name: write url and its options below [store]")
        found[str(key)] = Given(expanded(value, where), where, text=False)
    return found


def _shown(key: object) -> str:
    """Return a key for a message, escaped: a key in a file may hold control characters for a terminal."""
    return key if isinstance(key, str) and key.isidentifier() else repr(key)
