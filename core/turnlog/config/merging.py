"""The settings in effect, from the arguments, the variables and the file.

The three sources, in the order of their precedence, are arguments, variables and a file.  Each key is taken from the
first source that sets it.  The query of a URL belongs to the source of the URL.  If another URL replaces the URL, the
query is ignored.  A source that sets a key twice, in the query and outside of the URL, is an error.

A file that is only found in the working directory is ignored if an argument names the store.  An option that the chosen
backend does not have is an error in an argument, and in the source of the URL.  It is ignored in a variable, and in a
source with a lower precedence than the URL.  So are all options of a backend if that source names another backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..backend import Backend
from ..errors import ConfigError, PluginError
from .options import Given, Option, options_of
from .passwords import read_password, with_password_file
from .plugins import find_backend
from .sources import GENERIC, Source, arguments_given, file_given, twice
from .url import URL, options_in, read_url
from .variables import variables_given
from .warn import warn_once

_DEFAULT_URL: Final = Given("sqlite:///turnlog.db", "the default url", text=True)


class Settings(NamedTuple):
    """The settings of all sources, merged.

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


def merged(url: str | None, *, namespace: str | None) -> Settings:
    """Return the settings of all sources, as for `open_existing`."""
    return merge(arguments_given({"url": url, "namespace": namespace}), None)


def merge(arguments: Source, config: object) -> Settings:
    """Merge the settings of all sources.

    Args:
        arguments: The arguments of `open_store`.
        config: Its argument `config`.

    Raises:
        ConfigError: A source is wrong, or sets a key twice.
        PluginError: The backend is not installed, or is broken.
    """
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
    return Settings(url, read_password(location, url, given, has), kind, has, given)


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
