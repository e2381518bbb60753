"""Configuration: a store out of a URL, a TOML table, variables and arguments.

Key by key the highest source counts: arguments, the query of the URL argument, variables, the file.  The query of a URL
comes after the keys that stand beside that URL, and goes with it: where another URL counts, it says nothing.  So do the
options of a backend itself that stand beside another backend's URL, or that this one has not.

A URL is never printed, because it may hold a password, and neither is anything that a plugin says while it holds one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar, cast

from ..backend import Backend
from ..errors import ConfigError, InvalidInput, PluginError, TurnlogError
from ..layers import Layer
from ..store import Store
from .nearest import nearest
from .options import Given, Option, options_of, signature_of
from .plugins import find_backend, find_layer
from .url import URL, options_in, read_url

__all__ = ["open_existing", "open_store"]

_DEFAULT_URL: Final = Given("sqlite:///turnlog.db", "the default url", text=True)
_OF_STORE: Final = ("namespace", "retain", "max_session_bytes")
_GENERIC: Final = ("url", "namespace", "ttl", "retain", "max_session_bytes", "layers")
_FILE: Final = "turnlog.toml"
_PROJECT: Final = "pyproject.toml"
_CONFIG: Final = "TURNLOG_CONFIG"
_VARIABLE: Final = "TURNLOG_STORE_"

_Source = dict[str, Given]
_T = TypeVar("_T")


def open_store(
    url: str | None = None,
    *,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    namespace: str | None = None,
    ttl: str | float | None = None,
    retain: int | None = None,
    max_session_bytes: int | str | None = None,
    layers: Sequence[str | Mapping[str, object]] | None = None,
) -> Store:
    """Make the store that the configuration names; `async with` opens it.

    What is not given here is taken from the query of `url`, then from the variables `TURNLOG_STORE_URL`,
    `TURNLOG_STORE_TTL` and so on, then from the table `[store]` of the file.  Where nothing names a store it is
    `sqlite:///turnlog.db`.

    Args:
        url: Which backend and where, such as `sqlite:///chat.db?namespace=shop&ttl=24h` or `memory://`.
        config: The file, or its contents as a mapping.  Otherwise the file that `TURNLOG_CONFIG` names, `turnlog.toml`
            in the working directory, or `[tool.turnlog]` in its `pyproject.toml`.
        namespace: As in `Store`; the same text as for `Store.within`.
        ttl: As in `Backend`; seconds, or a duration such as `"24h"` or `"30d"`; 0: for ever.
        retain: As in `Store`.
        max_session_bytes: As in `Store`; bytes, or a size such as `"64KiB"` or `"10MB"`.
        layers: The names of layers, or mappings with the `name` and options; the first is the outermost.

    Raises:
        ConfigError: A URL, the file, a variable or an option is wrong; it says which.
        PluginError: The backend or a layer is not installed, or is broken.
    """
    arguments = {
        "url": url,
        "namespace": namespace,
        "ttl": ttl,
        "retain": retain,
        "max_session_bytes": max_session_bytes,
        "layers": layers,
    }
    return _build(*_merge([_given(arguments), _variables(), _file(config)]))


def open_existing(url: str | None = None, *, namespace: str | None = None) -> Store:
    """Make the store that the configuration names, for a command that only needs stored sessions.

    It is the store of `open_store(url, namespace=namespace)`, but opening it creates and changes no tables: this calls
    the backend with `migrate="check"` if its constructor takes `migrate: Literal["auto", "check"]`.

    Raises:
        ConfigError: A URL, the file, a variable or an option is wrong.
        PluginError: The backend or a layer is not installed, or is broken.
    """
    given = _given({"url": url, "namespace": namespace})
    return _build(*_merge([given, _variables(), _file(None)]), existing=True)


def _given(arguments: Mapping[str, object]) -> _Source:
    return {
        key: Given(value, f"the argument {key}", text=False) for key, value in arguments.items() if value is not None
    }


# ------------------------------------------------------------------------------------------------------------ sources


def _merge(sources: Sequence[_Source]) -> tuple[URL, _Source, _Source]:
    """Return the URL, the settings, and the options that the sources below the URL's give to a backend.

    The last count only if the backend that the URL names has them.
    """
    url: URL | None = None
    merged: _Source = {}
    below: _Source = {}
    for source in sources:
        settled = url is not None
        another = settled and "url" in source and _scheme(source["url"]) != _scheme(merged["url"])
        for key, given in source.items():
            if key not in merged and (key in _GENERIC or not settled):
                merged[key] = given
            elif key not in _GENERIC and not another:
                below.setdefault(key, given)
        if url is None and "url" in merged:
            url = read_url(merged["url"])
            for key, given in options_in(url, merged["url"]).items():
                merged.setdefault(key, given)
    if url is None:
        merged["url"] = _DEFAULT_URL
        url = read_url(_DEFAULT_URL)
    return url, merged, below


def _scheme(url: Given) -> str:
    return str(url.value).partition(":")[0].partition("+")[0].lower()


def _variables() -> _Source:
    names = [name for name in os.environ if name.startswith("TURNLOG_")]
    for name in names:
        if name != _CONFIG and not name.startswith((_VARIABLE, "TURNLOG_TEST_")):
            known = [_CONFIG, *(_VARIABLE + key.upper() for key in _GENERIC)]
            raise ConfigError(
                f"the variable {name} is not known: there are {_CONFIG} and {_VARIABLE}URL, ...{nearest(name, known)}"
            )
    found = [name for name in names if name.startswith(_VARIABLE)]
    return {name.removeprefix(_VARIABLE).lower(): Given(os.environ[name], name, text=True) for name in found}


def _file(config: object) -> _Source:
    if isinstance(config, Mapping):
        return _table(config, "config: ")
    if config is not None:
        if not isinstance(config, str | os.PathLike):
            raise ConfigError(f"the argument config must be a path or a mapping, not {type(config).__name__}")
        return _named_file(os.fspath(config), "the argument config")
    if _CONFIG in os.environ:
        return _named_file(os.environ[_CONFIG], _CONFIG)
    if os.path.exists(_FILE):
        return _table(_read(_FILE, _FILE), f"{_FILE}: ")
    table = _tool(_read(_PROJECT, _PROJECT)) if os.path.exists(_PROJECT) else None
    return {} if table is None else _table(table, f"{_PROJECT}: tool.turnlog.")


def _named_file(path: str | bytes, where: str) -> _Source:
    if not path or isinstance(path, bytes):
        raise ConfigError(f"{where} names no file: give the path of a {_FILE}")
    contents = _read(path, where)
    if os.path.basename(path) != _PROJECT:
        return _table(contents, f"{path}: ")
    table = _tool(contents)
    if table is None:
        raise ConfigError(f"{where}: {path} has no table [tool.turnlog]")
    return _table(table, f"{path}: tool.turnlog.")


def _read(path: str, where: str) -> Mapping[str, object]:
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{where}: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or a path with a NUL
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise ConfigError(f"{path!r} is not valid TOML: {reason}") from None  # the cause would hold the file's contents


def _tool(contents: Mapping[str, object]) -> Mapping[str, object] | None:
    tool = contents.get("tool")
    table = tool.get("turnlog") if isinstance(tool, Mapping) else None
    if table is not None and not isinstance(table, Mapping):
        raise ConfigError(f"{_PROJECT}: tool.turnlog must be a table, not {type(table).__name__}")
    return table


def _table(contents: Mapping[str, object], where: str) -> _Source:
    for name in contents:
        if name != "store":
            raise ConfigError(f"{where}{name} is not known: there is the table store{nearest(str(name), ['store'])}")
    store = contents.get("store", {})
    if not isinstance(store, Mapping):
        raise ConfigError(f"{where}store must be a table, not {type(store).__name__}")
    return {str(key): Given(value, f"{where}store.{key}", text=False) for key, value in store.items()}


# ----------------------------------------------------------------------------------------------------------- building


def _build(location: URL, given: _Source, below: _Source, *, existing: bool = False) -> Store:
    url = given["url"]
    kind = find_backend(location.scheme)
    has = options_of(kind)
    given = {**{key: value for key, value in below.items() if key in has}, **given}
    first = _place(kind, location, url)
    of_store = {key: value for key, value in given.items() if key in _OF_STORE}
    options = {key: value for key, value in given.items() if key not in ("url", "layers", *_OF_STORE)}
    layers = _layers(given.get("layers"))
    _check_whose(options, has, layers)
    arguments = _arguments(kind, options, ("url", "layers", *_OF_STORE))
    if existing and "migrate" in has and "check" in has["migrate"].choices:
        arguments["migrate"] = "check"
    backend = _make(kind, first, arguments, options, url, location)
    for layer, settings, where in reversed(layers):
        values = _arguments(layer, settings, ("name",))
        backend = _make(layer, (backend,), values, settings, where, location)
    return _make(Store, (backend,), _arguments(Store, of_store, ()), of_store, url, location)


def _place(backend: type[Backend], location: URL, url: Given) -> tuple[str, ...]:
    """Return the location as the constructor's first parameter takes it: a URL, a path, or nothing."""
    parameters = [p for p in signature_of(backend).values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in parameters if p.default is p.empty] or [p.name for p in parameters[:1]]
    if names == ["url"]:
        return (location.base,)
    if names == ["path"]:
        return (_path(location, url),)
    if names:
        raise PluginError(
            f"{backend.__module__}:{backend.__qualname__} takes {', '.join(names)}: "
            "a backend takes its location as url or as path, or none"
        )
    if location.has_authority or location.path:
        raise ConfigError(f"{url.where}: {location.scheme} takes no location: write {location.scheme}://")
    return ()


def _path(location: URL, url: Given) -> str:
    name = location.scheme
    if location.has_authority or not location.path:
        raise ConfigError(
            f"{url.where}: {name} takes a path after three slashes: {name}:///relative or {name}:////absolute"
        )
    if not location.database:
        raise ConfigError(f"{url.where}: the path is missing: write {name}:///relative or {name}:////absolute")
    return location.database


def _layers(given: Given | None) -> list[tuple[type[Layer], _Source, Given]]:
    """Each layer's class, what is given for it, and where it is named; the outermost first."""
    if given is None:
        return []
    value = given.value
    if given.text and isinstance(value, str):
        value = [name.strip() for name in value.split(",")] if value.strip() else []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f'{given.where}: must be a list such as ["cache", "zstd"], not {type(value).__name__}')
    found: list[tuple[type[Layer], _Source, Given]] = []
    seen: set[str] = set()
    for number, item in enumerate(value):
        where = f"{given.where}[{number}]"
        table = item if isinstance(item, Mapping) else {"name": item}
        name = table.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigError(
                f'{where}: must be the name of a layer, or a table such as {{ name = "zstd", level = 3 }}'
            )
        if name in seen:
            raise ConfigError(f"{where}: the layer {name!r} is there twice")
        seen.add(name)
        options = {
            str(key): Given(value, f"{where}.{key}", given.text) for key, value in table.items() if key != "name"
        }
        found.append((find_layer(name), options, Given(name, where, given.text)))
    return found


def _check_whose(
    given: _Source, has: Mapping[str, Option], layers: Sequence[tuple[type[Layer], _Source, Given]]
) -> None:
    """Refuse what is given to the store and is an option of a layer."""
    for layer, _, name in layers:
        for key, value in given.items():
            if key not in has and key in options_of(layer):
                raise ConfigError(
                    f"{value.where}: {key} is an option of the layer {name.value}: give it beside the layer's name, "
                    f'layers = [{{ name = "{name.value}", {key} = ... }}], in turnlog.toml or as an argument'
                )


def _arguments(maker: type, given: _Source, beside: Sequence[str]) -> dict[str, object]:
    options: Mapping[str, Option] = options_of(maker)
    for key, value in given.items():
        if key not in options:
            known = sorted({*options, *beside})
            raise ConfigError(
                f"{value.where}: {maker.__name__} has no such option; there are {', '.join(known)}{nearest(key, known)}"
            )
    return {key: options[key].of(value) for key, value in given.items()}


def _make(
    maker: type[_T],
    first: tuple[object, ...],
    options: Mapping[str, object],
    given: _Source,
    source: Given,
    location: URL,
) -> _T:
    try:
        return cast("Callable[..., _T]", maker)(*first, **options)
    except InvalidInput as error:
        text = location.masked(str(error))
        named = next(
            (value.where for key, value in given.items() if re.search(rf"\b{re.escape(key)}\b", text)), source.where
        )
        raise ConfigError(f"{named}: {text}") from (error if _is_clean(error, location) else None)
    except TurnlogError as error:
        if _is_clean(error, location):
            raise
        raise type(error)(location.masked(str(error))) from None
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises may show the password
        text = f"{type(error).__name__}: {location.masked(str(error))}"
        raise PluginError(f"{maker.__module__}:{maker.__qualname__} cannot be made: {text}") from (
            error if _is_clean(error, location) else None
        )


def _is_clean(error: Exception, location: URL) -> bool:
    """Whether its traceback, with all that led to it, shows no password."""
    import traceback

    shown = "".join(traceback.format_exception(error))
    return location.masked(shown) == shown
