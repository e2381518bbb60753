"""URLs of stores: `scheme://[user[:password]@][host[:port]]/path[?key=value&...]` (RFC 3986, section 3).

No message here holds a piece of the URL: in a malformed one, any piece may be the password.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from ..errors import ConfigError
from .options import Given

_URL: Final = re.compile(r"([a-z][a-z0-9+.\-]+)://([^?#]*)(?:\?([^#]*))?", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:\[[0-9a-f:.%]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?", re.IGNORECASE)
_KEY: Final = re.compile(r"[a-z][a-z0-9_]*", re.IGNORECASE)
_EXAMPLES: Final = "write it like sqlite:///chat.db or memory://"


class Location(NamedTuple):
    """A URL without its query.

    Attributes:
        name: The scheme, in lower case, up to a `+`: the name of the plugin.
        url: The URL, as it was given.
        rest: What follows `scheme://`.
        secrets: The password, as it stands in the URL and decoded.
    """

    name: str
    url: str
    rest: str
    secrets: tuple[str, ...]

    def path(self, given: Given) -> str:
        """What follows `scheme:///`, decoded.

        Raises:
            ConfigError: There is a host, or nothing.
        """
        if not self.rest.startswith("/"):
            raise ConfigError(
                f"{given.where}: {self.name} takes a path after three slashes: {self.name}:///relative or {self.name}:////absolute"
            )
        path = unquote(self.rest[1:])
        if not path:
            raise ConfigError(
                f"{given.where}: the path is missing: write {self.name}:///relative or {self.name}:////absolute"
            )
        return path

    def masked(self, text: str) -> str:
        """The text with `***` in place of the password."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def __repr__(self) -> str:
        return f"Location({self.name!r}, ...)"


def read_url(given: Given) -> Location:
    """The URL, checked as far as all URLs are alike.

    Raises:
        ConfigError: It is malformed.
    """
    scheme, rest, _ = _split(given)
    authority, _, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    if "@" in user:
        raise ConfigError(f"{given.where}: there are two @ before the host: write %40 for an @ in a password")
    if authority and not user and "@" in path:
        raise ConfigError(f"{given.where}: a / stands before the @: write %2F for a / in a password")
    for host in hosts.split(","):
        found = _HOST.fullmatch(host)
        if found is None or (found[1] is not None and not 0 < int(found[1]) < 65_536):
            raise ConfigError(
                f"{given.where}: the port must be a number from 1 to 65535 "
                "(in a password, write %2F for a / and %40 for an @)"
            )
    password = user.partition(":")[2]
    secrets = sorted({password, unquote(password)} - {""}, key=len, reverse=True)
    return Location(scheme.lower().partition("+")[0], f"{scheme.lower()}://{rest}", rest, tuple(secrets))


def read_query(given: Given) -> dict[str, Given]:
    """What is given in the URL's query.

    Raises:
        ConfigError: It is malformed, or gives a key twice.
    """
    _, rest, query = _split(given)
    if "@" in query and "@" not in rest and not rest.startswith("/"):
        raise ConfigError(f"{given.where}: a ? stands before the @: write %3F for a ? in a password")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict") if query else []
    except ValueError:
        raise ConfigError(
            f"{given.where}: the query must be like ?namespace=shop&ttl=24h"
        ) from None  # the cause would show it
    found: dict[str, Given] = {}
    for key, value in pairs:
        if not _KEY.fullmatch(key):
            raise ConfigError(
                f"{given.where}: the query has a key that is no name: write it like ?namespace=shop&ttl=24h"
            )
        if key in found:
            raise ConfigError(f"{given.where}: the query has {key} twice")
        if key == "url":
            raise ConfigError(f"{given.where}: the query cannot hold another url")
        found[key] = Given(value, f"{given.where}: ?{key}", text=True)
    return found


def _split(given: Given) -> tuple[str, str, str]:
    value = given.value
    if not isinstance(value, str):
        raise ConfigError(f"{given.where}: a URL must be text, not {type(value).__name__}; {_EXAMPLES}")
    if not value:
        raise ConfigError(f"{given.where}: the URL is empty; {_EXAMPLES}")
    if any(sign.isspace() or not sign.isprintable() for sign in value):
        raise ConfigError(f"{given.where}: the URL holds a space or a control character: write %20 for a space")
    if "#" in value:
        raise ConfigError(f"{given.where}: the URL holds a #: write %23 for it")
    found = _URL.fullmatch(value)
    if found is None:
        raise ConfigError(
            f"{given.where}: not a URL, because it does not begin with a scheme and ://; {_EXAMPLES}, and a file as sqlite:///its/path"
        )
    try:
        decoded = unquote(value, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if re.search(r"%(?![0-9a-f]{2})", value, re.IGNORECASE) or "\0" in decoded:
        raise ConfigError(
            f"{given.where}: a % in the URL is not followed by the code of a sign in UTF-8: write %25 for a %"
        )
    return found[1], found[2], found[3] or ""
