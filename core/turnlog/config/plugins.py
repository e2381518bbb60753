"""Plugins: backends, layers, models, token counters and commands, found by the entry points of installed distributions.

    [project.entry-points."turnlog.backends"]
    jsonl = "turnlog_jsonl:JsonlBackend"

The name is a URL's scheme in `turnlog.backends`, a layer's name in `turnlog.layers`, a model's name in
`turnlog.models`, a token counter's name in `turnlog.token_counters`, and a command's name in `turnlog.commands`.  The
plugins that come with turnlog are registered in the same way.  Only the plugin that is needed is imported.  A plugin
runs with all rights of the application: install only plugins that you trust.

`open_store` makes a plugin from the signature of its constructor:

- The first parameter of a backend is its location: `url`, the URL without its query, or `path`, the text after
  `scheme:///`, percent-decoded (`jsonl:///chats` gives `chats`, `jsonl:////var/chats` gives `/var/chats`).  A backend
  without a location has neither parameter, and a bare URL: `memory://`.  `parse_url` splits a URL into its parts.  A
  `+` ends the name of the plugin: `redis+cluster://` finds `redis`, and the backend interprets the rest of the scheme.
- The first parameter of a layer is `inner`, the backend that it wraps.
- Options are keyword-only.  Their annotations define the values in a configuration: `float` (seconds: `90`, `"1.5s"`,
  `"24h"`), `int` (if the name ends in `bytes`, a size: `"64KiB"`), `bool`, `str`, `Literal[...]`, and each of them
  `| None`.  A parameter of any other type, such as a clock or a client, cannot be configured.
- A backend with the option `password: str | None` gets it from a variable, a file (`password_file`) or an argument as
  well; `URL.with_password` refuses a second one.
- The class attribute `instead`, a mapping, may hold advice for the options of other programs:
  `{"ssl": "write sslmode=require"}`.
- The constructor raises `InvalidInput` for a wrong option.  The message begins with the option's name.
- The plugin's module imports its driver at the top.  A missing driver is then reported when the plugin is looked up.
  If importing the driver takes long, the module calls `turnlog.runtime.check_installed` at the top, and imports the
  driver where it is used.

A plugin in `turnlog.commands` is a function that takes the `cyclopts.App` of the program `turnlog` and registers one
command on it, under the name of the entry point:

    def greet(app: App) -> None:
        app.command(_greet, name="greet")

- The command prints results to standard output and notes to standard error.
- The command may be `async`.  It returns an exit code, or None for 0.
- The command raises a `TurnlogError` to fail.  The program prints the error in one line, without passwords, and chooses
  the exit code by its class.
- `open_existing` makes the store for a command that only needs stored sessions; `turnlog.layers.stack_of` yields the
  layers of a store.
- A command that cannot be loaded or registered fails with a `PluginError` when a user calls it.  All other commands
  work.  A command cannot replace one of `turnlog` itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ..backend import Backend
from ..errors import PluginError
from ..layers import Layer
from ..pipeline import TokenCounter
from .options import duration
from .suggestions import suggestion

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "Plugin",
    "duration",
    "fault_of",
    "find_backend",
    "find_command",
    "find_layer",
    "find_model",
    "find_token_counter",
    "installed",
]

_BACKENDS: Final = "turnlog.backends"
_LAYERS: Final = "turnlog.layers"
_MODELS: Final = "turnlog.models"
_COUNTERS: Final = "turnlog.token_counters"
_COMMANDS: Final = "turnlog.commands"
_KINDS: Final = {
    _COMMANDS: "command",
    _LAYERS: "layer",
    _MODELS: "model",
    _BACKENDS: "backend",
    _COUNTERS: "token counter",
}

_EXTRAS: Final = {
    "anthropic": "anthropic",
    "asyncmy": "mysql",
    "asyncpg": "postgresql",
    "cyclopts": "cli",
    "hiredis": "redis",
    "jinja2": "inspect",
    "markupsafe": "inspect",
    "openai": "openai",
    "opentelemetry": "telemetry",
    "redis": "redis",
    "rich": "cli",
    "sqlalchemy": "sql",
    "starlette": "inspect",
    "tiktoken": "tiktoken",
    "tokenizers": "tokenizers",
    "uvicorn": "inspect",
    "zstandard": "zstd",
}
"""The drivers that turnlog's plugins import, and the extra that installs each."""


PLUGIN_API: Final = 1
"""The version of the interfaces for plugins.  A change that can break a backend or a layer raises it."""


class Plugin(msgspec.Struct, frozen=True):
    """An entry point of an installed distribution.  Its object is not loaded, and may be broken.

    Attributes:
        group: `turnlog.backends`, `turnlog.layers`, `turnlog.models`, `turnlog.token_counters` or `turnlog.commands`.
        name: A URL's scheme, or the name of a layer, a model, a token counter or a command.
        target: The module and the object, such as `turnlog_memory:MemoryBackend`.
        distribution: The distribution that registers it.
        version: That distribution's version.
    """

    group: str
    name: str
    target: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.target} of {self.distribution} {self.version}"


def installed() -> tuple[Plugin, ...]:
    """Return all installed plugins, sorted by group and name, without loading them."""
    plugins = [_plugin(entry) for group in _KINDS for entry in _entries(group)]
    return tuple(sorted(plugins, key=lambda plugin: (plugin.group, plugin.name, plugin.distribution)))


def find_backend(name: str) -> type[Backend]:
    """Return the backend class with this URL scheme.

    Raises:
        PluginError: No such backend is installed, it cannot be loaded, it is not a backend, or two distributions
            register it.
    """
    found, plugin = _load(_BACKENDS, name)
    if isinstance(found, type) and issubclass(found, Backend) and not issubclass(found, Layer):
        missing: frozenset[str] = getattr(found, "__abstractmethods__", frozenset())
        if missing:
            raise PluginError(
                f"backend {name!r}, {plugin}, is not finished: it does not implement {', '.join(sorted(missing))}"
            )
        _check_api(plugin, found)
        return found
    raise _unfit(plugin, found, "a subclass of turnlog.Backend that is not a layer")


def find_layer(name: str) -> type[Layer]:
    """Return the layer class with this name.

    Raises:
        PluginError: No such layer is installed, it cannot be loaded, it is not a layer, or two distributions register
            it.
    """
    found, plugin = _load(_LAYERS, name)
    if isinstance(found, type) and issubclass(found, Layer):
        _check_api(plugin, found)
        return found
    raise _unfit(plugin, found, "a subclass of turnlog.Layer")


def find_model(name: str) -> Callable[..., object]:
    """Return the model with this name (`turnlog.Model`), or a class of models that the caller instantiates.

    Raises:
        PluginError: No such model is installed, it cannot be loaded, it is not async, or two distributions register it.
    """
    found, plugin = _load(_MODELS, name)
    if callable(found) and any(map(_is_async, (found, found.__call__))):
        return found
    raise _unfit(plugin, found, "an async function, an async generator, or a class of them")


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def find_token_counter(name: str, **options: object) -> TokenCounter:
    """Return the token counter with this name, ready to be given to a pipeline.

    Args:
        name: The name, such as `estimate`, `tiktoken` or `tokenizers`.
        options: Passed to the entry point, if it is a class of token counters.

    Raises:
        PluginError: No such counter is installed, it cannot be loaded, it takes other options, it is not callable, it
            is async, or two distributions register it.
        InvalidInput: An option is wrong.
    """
    found, plugin = _load(_COUNTERS, name)
    if isinstance(found, type):
        takes = ""
        try:
            signature = inspect.signature(found)
            takes = f"; its options are {', '.join(signature.parameters) or 'none'}"
            signature.bind(**options)
        except (TypeError, ValueError) as error:
            raise PluginError(f"the options do not fit the token counter {name!r}: {error}{takes} ({plugin})") from None
        counter = found(**options)
    elif options:
        raise PluginError(f"token counter {name!r}, {plugin}, takes no options: remove {next(iter(options))!r}")
    else:
        counter = found
    if callable(counter) and not _is_async(counter) and not _is_async(counter.__call__):
        return cast("TokenCounter", counter)
    raise _unfit(plugin, found, "a callable that is not async, or a class of them")


def find_command(name: str) -> Callable[..., object]:
    """Return the function that registers the command with this name on a `cyclopts.App`.

    Raises:
        PluginError: No such command is installed, it cannot be loaded, it is not callable, or two distributions
            register it.
    """
    found, plugin = _load(_COMMANDS, name)
    if callable(found):
        return found
    raise _unfit(plugin, found, "a function that takes a cyclopts.App")


def fault_of(plugin: Plugin) -> str:
    """Load a plugin, and return the reason that it cannot be used; an empty text if it can be used."""
    find = {_BACKENDS: find_backend, _LAYERS: find_layer, _MODELS: find_model, _COMMANDS: find_command}
    try:
        if plugin.group in find:
            find[plugin.group](plugin.name)
        else:
            _load(plugin.group, plugin.name)  # making a token counter may fetch a vocabulary
    except PluginError as error:
        return str(error)
    return ""


def _entries(group: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return list(entry_points(group=group))


def _plugin(entry: EntryPoint) -> Plugin:
    name = version = ""
    try:
        assert entry.dist is not None  # `entry_points` sets it
        said = entry.dist.metadata
        name, version = (said[field] if field in said else "" for field in ("Name", "Version"))  # noqa: SIM401 - they have no `get`
    except (AttributeError, LookupError, OSError, TypeError, ValueError):
        pass  # METADATA is damaged or missing, which raises one of these or gives None: other plugins must stay listed
    return Plugin(
        entry.group,
        entry.name,
        entry.value.partition("[")[0].strip(),
        name or "an unknown distribution",
        version or "?",
    )


def _load(group: str, name: str) -> tuple[object, Plugin]:
    """Load the object of an entry point.  No other entry point is loaded.

    This function reads the entry points itself, and passes one of them to stevedore.  By default, stevedore reads them
    from a file in the user's cache folder.  The name of that file distinguishes two states of an `entry_points.txt`
    only if they are two minutes apart (a timestamp as a 32-bit float), and the file does not contain the distributions.
    Stevedore would also load all entry points with the same name.
    """
    entries = _entries(group)
    claims = [entry for entry in entries if entry.name == name]
    if not claims:
        raise _unknown(group, name, {entry.name for entry in entries})
    if len(claims) > 1:
        both = " and ".join(sorted(str(_plugin(entry)) for entry in claims))
        raise PluginError(f"{_KINDS[group]} {name!r} is claimed by {both}: uninstall one of them")

    from stevedore.driver import DriverManager

    class Driver(DriverManager[object]):
        def list_entry_points(self) -> list[EntryPoint]:
            return claims

    plugin = _plugin(claims[0])
    try:
        return Driver(group, name).extensions[0].plugin, plugin
    except Exception as error:
        if missing := _missing_of(plugin, error):
            raise _incomplete(plugin, missing) from None
        raise _broken(plugin, error) from error


def _unknown(group: str, name: str, known: Iterable[str]) -> PluginError:
    names = ", ".join(sorted(known)) or "none"
    kind = "plugin with a model" if group == _MODELS else _KINDS[group]
    hint = suggestion(name, known)
    if group == _BACKENDS and name.partition("-")[0] in known:  # the part of a scheme after a + is not in `known`
        hint = f"; did you mean {name.replace('-', '+')!r}?"
    return PluginError(f"there is no {kind} named {name!r}; the installed ones are {names}{hint}")


def _check_api(plugin: Plugin, found: type[Backend]) -> None:
    """Refuse a class that was written for another version of the interfaces; without `plugin_api`, for the first.

    Raises:
        PluginError: The versions differ.
    """
    written_for = getattr(found, "plugin_api", 1)
    if written_for != PLUGIN_API:
        newer = type(written_for) is int and written_for > PLUGIN_API
        raise PluginError(
            f"{_KINDS[plugin.group]} {plugin.name!r}, {plugin}, was written for version {written_for!r} of the plugin "
            f"API, and this turnlog has version {PLUGIN_API}: upgrade {'turnlog' if newer else plugin.distribution}"
        )


def _missing_of(plugin: Plugin, error: Exception) -> str | None:
    """Return the missing package of an extra, if that is the only fault."""
    if plugin.distribution != "turnlog" or not isinstance(error, ModuleNotFoundError):
        return None
    name = (error.name or "").partition(".")[0]
    return name if name in _EXTRAS else None


def _incomplete(plugin: Plugin, missing: str) -> PluginError:
    # prefer the extra with the plugin's name, which installs all packages that the plugin needs
    extra = plugin.name if plugin.name in _EXTRAS.values() else _EXTRAS[missing]
    return PluginError(
        f"{_KINDS[plugin.group]} {plugin.name!r} needs {missing}, which is not installed: "
        f"pip install 'turnlog[{extra}]'"
    )


def _broken(plugin: Plugin, error: Exception) -> PluginError:
    kind = _KINDS[plugin.group]
    return PluginError(f"{kind} {plugin.name!r}, {plugin}, cannot be loaded: {type(error).__name__}: {error}")


def _unfit(plugin: Plugin, found: object, wanted: str) -> PluginError:
    what = f"the class {found.__qualname__}" if isinstance(found, type) else f"a {type(found).__name__}"
    return PluginError(f"{_KINDS[plugin.group]} {plugin.name!r}, {plugin}, is {what}; it must be {wanted}")
