"""`build`: makes a store of installed plugins from merged settings.

Messages never contain a URL, because it may hold a password.  The password is masked in errors of plugins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar, cast

from ..backend import Backend
from ..errors import ConfigError, InvalidInput, PluginError, TurnlogError
from ..layers import POSITIONS, Layer
from ..store import Store
from .merging import Settings
from .options import Given, Option, options_of, signature_of
from .passwords import PASSWORD_FILE
from .plugins import find_layer
from .sources import GENERIC, Source
from .suggestions import suggestion
from .url import URL
from .variables import warn_of_unknown

_OF_STORE: Final = ("namespace", "retain", "max_session_bytes")

_T = TypeVar("_T")


def build(settings: Settings, *, existing: bool = False) -> Store:
    """Make the store.

    Args:
        settings: The merged settings.
        existing: Whether opening the store must change nothing, as for `open_existing`.

    Raises:
        ConfigError: An option is wrong.
        PluginError: A layer is not installed, or a plugin is broken.
    """
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
