"""URLs of backends: `scheme://[user[:password]@][host[:port][,...]]/path[?key=value&...]` (RFC 3986, section 3).

Error messages contain no part of the URL: in a malformed URL, any part may be the password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast
from urllib.parse import parse_qsl, unquote

import msgspec

from ..errors import ConfigError, InvalidInput
from .options import Given

_URL: Final = re.compile(r"([a-z][a-z0-9+.\-]+)://([^?#]*)(?:\?([^#]*))?", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+(?:%[^\[\]]+)?)\]|([^\[\]:]*))(?::([0-9]{1,5}))?", re.IGNORECASE)
_BARE: Final = re.compile(r"[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]+", re.IGNORECASE)  # an IPv6 address without brackets
_KEY: Final = re.compile(r"[a-z][a-z0-9_\-]*", re.IGNORECASE)
_EXAMPLES: Final = "write it like sqlite:///chat.db or memory://"

_SHORT: Final = 4
"""A password with fewer characters is a part of many words."""


class URL(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a URL, percent-decoded.  Its `repr` shows only the scheme.

    Attributes:
        scheme: The scheme up to a `+`, in lower case: the name of the plugin.
        driver: The scheme after a `+`, in lower case; empty without a `+`.
        username: None if it is missing or empty.
        password: None if it is missing.
        hosts: Each host with its port; a port is None if it is missing, and an IPv6 address has no brackets.
        path: The path with its first `/`; empty if it is missing.
        query: The keys and values after the `?`.
        base: The URL as it was given, without its query and with the scheme in lower case.
    """

    scheme: str
    driver: str
    username: str | None
    password: str | None
    hosts: tuple[tuple[str, int | None], ...]
    path: str
    query: Mapping[str, str]
    base: str

    @property
    def database(self) -> str:
        """The path without its first `/`.

        It is `chat.db` in `sqlite:///chat.db`, and `/var/chat.db` in `sqlite:////var/chat.db`.
        """
        return self.path.removeprefix("/")

    @property
    def has_authority(self) -> bool:
        """True if the URL names a user, a password or a host."""
        return bool(self.hosts) or self.username is not None or self.password is not None

    def with_password(self, password: str | None) -> URL:
        """Return the URL with a password that was given in another place; None: the URL itself.

        Raises:
            InvalidInput: The URL also has a password.
        """
        if password is None:
            return self
        if self.password is not None:
            raise InvalidInput("password is given twice, in the URL as well: remove one of them")
        return msgspec.structs.replace(self, password=password)

    def masked(self, text: str) -> str:
        """Return a text with `***` in place of the password, decoded or as it is written in the URL.

        A password of fewer than 4 characters is replaced only where it stands as a value: between `:` and `@`, in
        quotes, or after `=`.  Elsewhere the same letters are a part of a word.
        """
        authority = self.base.partition("://")[2].partition("/")[0]
        encoded = authority.rpartition("@")[0].partition(":")[2]
        for secret in sorted({encoded, self.password or ""} - {""}, key=len, reverse=True):
            if len(secret) < _SHORT:
                text = re.sub(rf"(?<=[:='\"]){re.escape(secret)}(?=[@'\"&\s,;)]|$)", "***", text)
            else:
                text = text.replace(secret, "***")
        return text

    def __repr__(self) -> str:
        return f"URL({self.scheme!r}, ...)"


def parse_url(url: str, *, where: str = "url") -> URL:
    """Return the parts of a URL.

    Args:
        url: The URL; an IPv6 address in it must be in brackets.
        where: The name of the URL in error messages.

    Raises:
        InvalidInput: The URL is malformed.  The message contains no part of it, except a key that the query repeats.
    """
    scheme, rest, query = _split(url, where)
    authority, slash, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    if "@" in query and "@" not in rest and not rest.startswith("/"):
        raise InvalidInput(f"{where}: the URL has a ? before the @: write %3F for a ? in a password")
    if "@" in user:
        raise InvalidInput(f"{where}: the URL has two @ before the host: write %40 for an @ in a password")
    if authority and not user and "@" in path:
        raise InvalidInput(f"{where}: the URL has a / before the @: write %2F for a / in a password")
    name, _, driver = scheme.lower().partition("+")
    username, colon, password = user.partition(":")
    return URL(
        scheme=name,
        driver=driver,
        username=unquote(username) or None,
        password=unquote(password) if colon else None,
        hosts=_hosts(hosts, where),
        path=unquote(slash + path),
        query=MappingProxyType(_query(query, where)),
        base=f"{scheme.lower()}://{rest}",
    )


def read_url(given: Given) -> URL:
    """Return the parts of a configured URL.

    Raises:
        ConfigError: The URL is malformed.
    """
    try:
        return parse_url(cast("str", given.value), where=given.where)  # `parse_url` refuses other types
    except InvalidInput as error:
        raise ConfigError(str(error)) from None


def options_in(url: URL, given: Given) -> dict[str, Given]:
    """Return the options in the query of a configured URL.

    Raises:
        ConfigError: The query holds another URL.
    """
    if "url" in url.query:
        raise ConfigError(f"{given.where}: the query cannot hold another url")
    return {key: Given(value, f"{given.where}: ?{key}", text=True) for key, value in url.query.items()}


def _split(url: object, where: str) -> tuple[str, str, str]:
    """Return the scheme, the text between `://` and `?`, and the query."""
    if not isinstance(url, str):
        hint = "; for a backend, call Store(backend)" if hasattr(url, "commit") else ""
        raise InvalidInput(f"{where}: a URL must be text, not {type(url).__name__}; {_EXAMPLES}{hint}")
    if not url:
        raise InvalidInput(f"{where}: the URL is empty; {_EXAMPLES}")
    if any(sign.isspace() or not sign.isprintable() for sign in url):
        raise InvalidInput(f"{where}: the URL holds a space or a control character: write %20 for a space")
    if "#" in url:
        raise InvalidInput(f"{where}: the URL holds a #: write %23 for it")
    found = _URL.fullmatch(url)
    if found is None:
        if url[0] in "'\"":
            raise InvalidInput(f"{where}: the URL begins with a quotation mark: remove the quotation marks")
        if url.lower().startswith("jdbc:"):
            raise InvalidInput(f"{where}: the URL begins with jdbc:, which only Java uses: leave jdbc: out")
        raise InvalidInput(
            f"{where}: this is not a URL, because it has no scheme with ://: write sqlite:///PATH for a file, "
            "postgresql://user:password@host/database for a server, or memory://"
        )
    try:
        decoded = unquote(url, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if re.search(r"%(?![0-9a-f]{2})", url, re.IGNORECASE) or "\0" in decoded:
        raise InvalidInput(
            f"{where}: a % in the URL is not followed by the code of a character in UTF-8: write %25 for a %"
        )
    return found[1], found[2], found[3] or ""


def _hosts(text: str, where: str) -> tuple[tuple[str, int | None], ...]:
    if not text:
        return ()
    hosts: list[tuple[str, int | None]] = []
    for part in text.split(","):
        found = _HOST.fullmatch(part)
        if found is None and _BARE.fullmatch(part):
            raise InvalidInput(f"{where}: an IPv6 address must be in brackets: write it like [::1]:6379")
        if found is None and part.startswith("["):
            raise InvalidInput(f"{where}: an address in brackets must be an IPv6 address, as in [::1]:6379")
        port = None if found is None or found[3] is None else int(found[3])
        if found is None or (port is not None and not 0 < port < 65_536):
            raise InvalidInput(f"{where}: the port must be a number from 1 to 65535")
        if not part:
            raise InvalidInput(f"{where}: a host is empty: write a host between two commas")
        hosts.append((unquote(found[1] or found[2]), port))
    return tuple(hosts)


def _query(text: str, where: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict") if text else []
    except ValueError:
        raise InvalidInput(f"{where}: the query must be like ?namespace=shop&ttl=24h") from None  # it shows the query
    found: dict[str, str] = {}
    for key, value in pairs:
        if not _KEY.fullmatch(key):
            raise InvalidInput(f"{where}: a key in the query is not a name: write it like ?namespace=shop&ttl=24h")
        if key in found:
            raise InvalidInput(f"{where}: the query has {key} twice: remove one of them")
        found[key] = value
    return found
