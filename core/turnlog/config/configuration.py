"""Configuration: makes a store from a URL, a TOML table, variables and arguments.

The three sources, in the order of their precedence, are arguments, variables and a file.  Each key is taken from the
first source that sets it.  The query of a URL belongs to the source of the URL.  If another URL replaces the URL, the
query is ignored.  A source that sets a key twice, in the query and outside of the URL, is an error.

A file that is only found in the working directory is ignored if an argument names the store.  An option that the chosen
backend does not have is an error in an argument, and in the source of the URL.  It is ignored in a variable, and in a
source with a lower precedence than the URL.  So are all options of a backend if that source names another backend.

Messages never contain a URL, because it may hold a password.  The password is masked in errors of plugins.  A backend
with the option `password` also takes it from the file that `password_file` names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar, cast

from ..backend import Backend
from ..errors import ConfigError, InvalidInput, PluginError, TurnlogError
from ..layers import POSITIONS, Layer
from ..store import Store
from .options import Given, Option, options_of, signature_of
from .passwords import PASSWORD_FILE, read_password, with_password_file
from .plugins import find_backend, find_layer
from .sources import GENERIC, Source, arguments_given, file_given, twice
from .suggestions import suggestion
from .url import URL, options_in, read_url
from .variables import variables_given, warn_of_unknown
from .warn import warn_once

__all__ = ["open_existing", "open_store"]

_DEFAULT_URL: Final = Given("sqlite:///turnlog.db", "the default url", text=True)
_OF_STORE: Final = ("namespace", "retain", "max_session_bytes")

_T = TypeVar("_T")


class _Settings(NamedTuple):
    """The merged settings of all sources.

    Attributes:
        url: The URL in effect.
        location: The parts of the URL, with the password, wherever it comes from.
        kind: The backend that the URL names.
        has: The options of that backend.
        given: All settings in effect, `url` included.
    """

    url: Given
    location: URL
    kind: type[Backend]
    has: Mapping[str, Option]
    given: Source


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

    Settings come from the arguments and the query of `url`, then from the variables `TURNLOG_STORE_URL`,
    `TURNLOG_STORE_TTL` and so on, then from the table `[store]` of the file.  If `url` is given, a file that is only
    found in the working directory is ignored, and a warning names the settings in it.  The default of `url` is
    `sqlite:///turnlog.db`.

    Args:
        url: The backend and its location, such as `sqlite:///chat.db?namespace=shop&ttl=24h` or `memory://`.
        config: The path of the file, or its contents as a mapping.  None: the file that `TURNLOG_CONFIG` names, else
            `turnlog.toml`, else the table `[tool.turnlog]` of `pyproject.toml`, both in the working directory.
        namespace: As in `Store`; the same text as for `Store.within`.
        ttl: As in `Backend`; seconds, or a duration such as `"24h"` or `"30d"`; 0: for ever.
        retain: As in `Store`.
        max_session_bytes: As in `Store`; bytes, or a size such as `"64KiB"` or `"10MB"`.
        layers: The names of layers, or mappings with the `name` and options; the first is the outermost.

    Raises:
        ConfigError: A URL, the file, a variable or an option is wrong, or an option is given twice.
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
    return _build(_merge(arguments_given(arguments), config))


def open_existing(url: str | None = None, *, namespace: str | None = None) -> Store:
    """Make the store that the configuration names, for a command that only needs stored sessions.

    The store is the store of `open_store(url, namespace=namespace)`, but opening it changes nothing.  If the
    constructor of the backend takes `migrate: Literal["auto", "check"]`, it is called with `migrate="check"`, and the
    backend creates no tables.  If the constructor takes `sweep: float`, it is called with `sweep=0`, and the backend
    removes no expired sessions.

    Raises:
        ConfigError: A URL, the file, a variable or an option is wrong.
        PluginError: The backend or a layer is not installed, or is broken.
    """
    return _build(merged(url, namespace=namespace), existing=True)


def merged(url: str | None, *, namespace: str | None) -> _Settings:
    """Return the settings of all sources, as for `open_existing`."""
    return _merge(arguments_given({"url": url, "namespace": namespace}), None)


# ------------------------------------------------------------------------------------------------------------ merging


def _merge(arguments: Source, config: object) -> _Settings:
    variables, file = variables_given(), file_given(config, url_given="url" in arguments)
    sources = [arguments, variables, file]
    holder = next((source for source in sources if "url" in source), None)
    url = _DEFAULT_URL if holder is None else holder["url"]
    location = read_url(url)
    query = options_in(location, url)
    kind = find_backend(location.scheme)
    has = with_password_file(options_of(kind))
    given: Source = {}
    replaced: list[Given] = []
    below = False
    for source in sources:
        another = below and "url" in source and not _names(source["url"], kind)
        strict = not below and source is not variables
        for key, value in source.items():
            if key in GENERIC or strict or (key in has and not another):
                given.setdefault(key, value)
        if source is holder:
            for key, value in query.items():
                if key in source:
                    raise twice(key, value, source[key])
                given.setdefault(key, value)
        elif below and "url" in source:
            replaced.append(source["url"])
        below = below or source is holder
    for other in replaced:
        _warn_of_query(other, url, given)
    return _Settings(url, read_password(location, url, given, has), kind, has, given)


def _names(url: Given, kind: type[Backend]) -> bool:
    """Return whether a URL names this backend, perhaps by another scheme."""
    try:
        return find_backend(str(url.value).partition(":")[0].partition("+")[0].lower()) is kind
    except PluginError:
        return False


def _warn_of_query(replaced: Given, url: Given, given: Source) -> None:
    """Warn of settings in the query of a replaced URL: without them, a store may keep data that it should not keep."""
    try:
        query = options_in(read_url(replaced), replaced)
    except ConfigError:
        return
    lost = [value.where for key, value in query.items() if key in GENERIC and key not in given]
    if lost:
        warn_once(
            f"{', '.join(lost)}: ignored, because {url.where} replaces that URL with its query; "
            "to keep a setting, give it outside of the URL"
        )


# ----------------------------------------------------------------------------------------------------------- building


def _build(settings: _Settings, *, existing: bool = False) -> Store:
    url, location, kind, has, given = settings
    first = _place(kind, location, url)
    of_store = {key: value for key, value in given.items() if key in _OF_STORE}
    options = {key: value for key, value in given.items() if key not in ("url", "layers", *_OF_STORE)}
    layers = _layers(given.get("layers"))
    warn_of_unknown((*GENERIC, *has), {key: str(name.value) for layer, _, name in layers for key in options_of(layer)})
    _check_whose(options, has, layers)
    arguments = _arguments(kind, location.scheme, options, ("url", "layers", *_OF_STORE, *({PASSWORD_FILE} & {*has})))
    if existing and "migrate" in has and "check" in has["migrate"].choices:
        arguments["migrate"] = "check"
    if existing and "sweep" in has and has["sweep"].kind is float:
        arguments["sweep"] = 0.0
    backend = _make(kind, first, arguments, options, url, location)
    for layer, own, where in reversed(layers):
        backend = _make(layer, (backend,), _arguments(layer, str(where.value), own, ("name",)), own, where, location)
    return _make(Store, (backend,), _arguments(Store, "the store", of_store, ()), of_store, url, location)


def _place(backend: type[Backend], location: URL, url: Given) -> tuple[str, ...]:
    """Return the location for the constructor's first parameter: a URL, a path, or nothing."""
    parameters = [p for p in signature_of(backend).values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in parameters if p.default is p.empty] or [p.name for p in parameters[:1]]
    if names == ["url"]:
        return (location.base,)
    if location.driver:
        raise ConfigError(
            f"{url.where}: {location.scheme} has no drivers to choose from: leave the + out of the scheme"
        )
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


def _layers(given: Given | None) -> list[tuple[type[Layer], Source, Given]]:
    """Return the class, the options and the name of each layer, the outermost first."""
    if given is None:
        return []
    value = given.value
    if given.text and isinstance(value, str):
        value = [name.strip() for name in value.split(",")] if value.strip() else []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f'{given.where}: must be a list such as ["cache", "zstd"]')
    found: list[tuple[type[Layer], Source, Given]] = []
    seen: set[str] = set()
    for number, item in enumerate(value):
        where = f"{given.where}[{number}]"
        table = item if isinstance(item, Mapping) else {"name": item}
        name = table.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigError(f'{where} names no layer: write a name such as "zstd", or a table with name and options')
        if name in seen:
            raise ConfigError(f"{given.where}: the layer {name!r} is named twice: remove one of them")
        seen.add(name)
        options = {
            str(key): Given(value, f"{where}.{key}", given.text) for key, value in table.items() if key != "name"
        }
        found.append((find_layer(name), options, Given(name, where, given.text)))
    _check_order(found, given)
    return found


def _check_order(layers: Sequence[tuple[type[Layer], Source, Given]], given: Given) -> None:
    """Refuse layers in another order than that of their positions, and name the right one."""
    placed = [layer for layer in layers if layer[0].position != "anywhere"]
    right = sorted(placed, key=lambda layer: POSITIONS.index(layer[0].position))
    if placed != right:
        slots = iter(right)
        names = [str((layer if layer[0].position == "anywhere" else next(slots))[2].value) for layer in layers]
        order = f"layers={','.join(names)}" if given.text else f"them in the order {', '.join(names)}"
        raise ConfigError(f"{given.where}: the layers are in the wrong order: write {order}")


def _check_whose(given: Source, has: Mapping[str, Option], layers: Sequence[tuple[type[Layer], Source, Given]]) -> None:
    """Refuse an option of a layer that is given as an option of the store."""
    for layer, _, name in layers:
        for key, value in given.items():
            if key not in has and key in options_of(layer):
                raise ConfigError(
                    f"{value.where}: {key} is an option of the layer {name.value}: give it with the layer's name, "
                    f'layers = [{{ name = "{name.value}", {key} = ... }}], in turnlog.toml or as an argument'
                )


def _arguments(maker: type, called: str, given: Source, beside: Sequence[str]) -> dict[str, object]:
    options: Mapping[str, Option] = options_of(maker)
    for key, value in given.items():
        if key not in options:
            instead = getattr(maker, "instead", {}).get(key)
            if instead is not None:
                raise ConfigError(f"{value.where}: {called} has no option {key}: {instead}")
            known = sorted({*options, *beside} - {"url", "name"})
            found = f"the options are {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"{value.where}: {called} has no option {key}; {found}{suggestion(key, known)}")
    return {key: options[key].of(value) for key, value in given.items()}


def _make(
    maker: type[_T],
    first: tuple[object, ...],
    options: Mapping[str, object],
    given: Source,
    source: Given,
    location: URL,
) -> _T:
    try:
        return cast("Callable[..., _T]", maker)(*first, **options)
    except InvalidInput as error:
        text = location.masked(str(error))
        about = next((key for key in given if re.search(rf"\b{re.escape(key)}\b", text)), None)
        named = source.where if about is None else given[about].where
        if about is not None and text.startswith(f"{about} "):  # the place names the option already
            text, named = text.removeprefix(f"{about} "), named + " "
        else:
            named += ": "
        raise ConfigError(f"{named}{text}") from (error if _is_clean(error, location) else None)
    except TurnlogError as error:
        if _is_clean(error, location):
            raise
        raise type(error)(location.masked(str(error))) from None
    except Exception as error:  # noqa: BLE001 - any error of a plugin may show the password
        text = f"{type(error).__name__}: {location.masked(str(error))}"
        raise PluginError(f"{maker.__module__}:{maker.__qualname__} cannot be made: {text}") from (
            error if _is_clean(error, location) else None
        )


def _is_clean(error: Exception, location: URL) -> bool:
    """Return whether the traceback of an error, with its causes, shows no password."""
    import traceback

    shown = "".join(traceback.format_exception(error))
    return location.masked(shown) == shown
