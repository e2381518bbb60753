"""`parse_url`: the decoded parts of a URL, and errors that show no part of a malformed one."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import pytest

from turnlog.config import URL, parse_url
from turnlog.errors import InvalidInput

_PASSWORD = "b9-sesame"  # noqa: S105 - no error message may show it


@pytest.mark.parametrize(
    ("url", "scheme", "driver"),
    [
        ("memory://", "memory", ""),
        ("PostgreSQL://h", "postgresql", ""),
        ("postgresql+Psycopg://h", "postgresql", "psycopg"),
        ("a.b-c+d+e://h", "a.b-c", "d+e"),
    ],
)
def test_scheme_and_driver(url: str, scheme: str, driver: str) -> None:
    found = parse_url(url)
    assert (found.scheme, found.driver) == (scheme, driver)


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("x1://h", None, None),
        ("x1://u@h", "u", None),
        ("x1://u:@h", "u", ""),
        ("x1://:p@h", None, "p"),
        ("x1://u:p:q@h", "u", "p:q"),
        ("x1://a%40b:c%2F%3A%25%3F%23%C3%A9@h", "a@b", "c/:%?#é"),
        ("x1://u+v:p+q@h", "u+v", "p+q"),
    ],
)
def test_username_and_password(url: str, username: str | None, password: str | None) -> None:
    found = parse_url(url)
    assert (found.username, found.password) == (username, password)
    assert found.hosts == (("h", None),)


def test_a_password_from_another_place() -> None:
    url = parse_url("x1://u@h")
    assert url.with_password(None) is url
    found = url.with_password("p")
    assert (found.username, found.password) == ("u", "p")
    with pytest.raises(InvalidInput, match="password is given twice, in the URL as well: remove one of them"):
        parse_url("x1://u:p@h").with_password("p")


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        ("h", (("h", None),)),
        ("h:1", (("h", 1),)),
        ("h:65535", (("h", 65535),)),
        (":5432", (("", 5432),)),
        ("%6D.example", (("m.example", None),)),
        ("[::1]", (("::1", None),)),
        ("[::1]:6379", (("::1", 6379),)),
        ("[fe80::1%25eth0]:1", (("fe80::1%eth0", 1),)),
        ("[::ffff:10.0.0.1]", (("::ffff:10.0.0.1", None),)),
        ("a,b:2,[::3]:3", (("a", None), ("b", 2), ("::3", 3))),
    ],
)
def test_hosts(text: str, hosts: object) -> None:
    assert parse_url(f"x1://{text}/d").hosts == hosts
    assert parse_url(f"x1://u:p@{text}").hosts == hosts


@pytest.mark.parametrize(
    ("url", "path", "database"),
    [
        ("x1://h", "", ""),
        ("x1://h/", "/", ""),
        ("x1://h/d", "/d", "d"),
        ("sqlite:///my%20chats%3F.db", "/my chats?.db", "my chats?.db"),
        ("sqlite:////var/chat.db", "//var/chat.db", "/var/chat.db"),
        ("sqlite:///C:/x", "/C:/x", "C:/x"),
        ("sqlite:///a@b.db", "/a@b.db", "a@b.db"),
        ("x1://u@h/a+b%2Fc?k=v", "/a+b/c", "a+b/c"),
    ],
)
def test_path_and_database(url: str, path: str, database: str) -> None:
    found = parse_url(url)
    assert (found.path, found.database) == (path, database)


@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("x1://h", {}),
        ("x1://h?", {}),
        ("x1://h/d?a=1&b=", {"a": "1", "b": ""}),
        ("x1://h?a=%26%3D+x&b=y=z", {"a": "&= x", "b": "y=z"}),
        ("x1:///p?owner=a@b", {"owner": "a@b"}),
        ("x1://u:p@h?owner=a@b", {"owner": "a@b"}),
    ],
)
def test_query(url: str, query: dict[str, str]) -> None:
    assert dict(parse_url(url).query) == query


def test_the_base_is_the_url_without_its_query() -> None:
    assert parse_url("X1+D://U:p%40@H:1/A%20b?k=v").base == "x1+d://U:p%40@H:1/A%20b"


def test_has_authority() -> None:
    urls = ["x1://", "x1:///p", "x1://h/p", "x1://u@/p", "x1://:@/p"]
    assert [parse_url(url).has_authority for url in urls] == [False, False, True, True, True]


def test_a_url_cannot_be_changed() -> None:
    found: Any = parse_url("x1://h?a=1")
    with pytest.raises(AttributeError):
        found.scheme = "y"
    with pytest.raises(TypeError):
        found.query["a"] = "2"


def test_neither_repr_nor_str_shows_anything_but_the_scheme() -> None:
    found = parse_url(f"x1://u:{_PASSWORD}@h/{_PASSWORD}")
    assert repr(found) == str(found) == "URL('x1', ...)"


def test_the_password_is_masked_in_any_encoding() -> None:
    found = parse_url("x1://u:a%62cd@h")
    assert found.masked("abcd, a%62cd: no") == "***, ***: no"
    assert parse_url("x1://u:@h").masked("a") == "a"


@pytest.mark.parametrize("secret", ["p", "s:x", "%70", "abc"])
def test_a_short_password_is_masked_only_where_it_stands_as_a_value(secret: str) -> None:
    """A driver shows a password in a URL, in quotes or after `=`; in `?pool_size` a p is a letter."""
    found = parse_url(f"x1://u:{secret}@h")
    plain = found.password or ""
    for form in ("x1://u:{}@h/db", "no role for '{}'", 'password="{}"', "password={} host=h", "password={}"):
        for text in (secret, plain):
            assert found.masked(form.format(text)) == form.format("***")
    assert found.masked("?pool_size must be from 1, and abcd: no") == "?pool_size must be from 1, and abcd: no"


def with_password(url: Any) -> Any:
    """Return the URL with the password in place of PW."""
    return url.replace("PW", _PASSWORD) if isinstance(url, str) else url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (3, "text, not int"),
        (b"x1://", "text, not bytes"),
        ("", "empty"),
        ("PW", "has no scheme"),
        ("x:PW", "has no scheme"),
        ("C:/PW", "has no scheme"),
        ("x1:/u:PW@h", "has no scheme"),
        ("x1://u:PW @h", "write %20"),
        ("x1://u:PW\n@h", "write %20"),
        ("x1://u:PW#@h", "write %23"),
        ("x1://u:PW%@h", "write %25"),
        ("x1://u:PW%zz@h", "write %25"),
        ("x1://u:PW%ff@h", "write %25"),
        ("x1://u:PW%00@h", "(%00): remove it"),
        ("x1://u:PW@PW@h", "two @"),
        ("x1://u:1/PW@h", "write %2F"),
        ("x1://u:1?PW@h", "write %3F"),
        ("x1://u:1?PW=1@h", "write %3F"),
        ("x1://u:PW", "the port must be"),
        ("x1://u:PW@h:x", "the port must be"),
        ("x1://u:PW@h:", "the port must be"),
        ("x1://u:PW@h:0", "the port must be"),
        ("x1://u:PW@h:65536", "the port must be"),
        ("x1://u:PW@a,b:65536", "the port must be"),
        ("x1://u:PW@::1", "write it like [::1]:6379"),
        ("x1://u:PW@a,fe80::1:6379", "write it like [::1]:6379"),
        ("x1://u:PW@[h", "as in [::1]:6379"),
        ("x1://u:PW@[]", "as in [::1]:6379"),
        ("x1://u:PW@[::1]x", "as in [::1]:6379"),
        ("x1://u:PW@[::1]:0", "the port must be"),
        ("x1://u:PW@a,,b", "a host is empty"),
        ("x1://h?PW", "an option in the query has no value"),
        ("x1://h?a=1&&PW=2", "the query must be like"),
        ("x1://h?a=%20&%50%57%20=1", "a key in the query is not a name"),
        ("x1://h?a=1&a=PW", "the query has a twice"),
    ],
)
def test_a_malformed_url_is_refused_without_showing_a_piece_of_it(url: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_url(with_password(url))
    assert str(caught.value).startswith("url: ")
    assert says in str(caught.value)
    assert _PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_an_error_names_the_place_of_the_url() -> None:
    with pytest.raises(InvalidInput, match=r"^--store: the URL is empty"):
        parse_url("", where="--store")


def test_an_error_can_be_pickled() -> None:
    """Process pools pickle errors."""
    with pytest.raises(InvalidInput) as caught:
        parse_url("")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_type_is_exported() -> None:
    assert type(parse_url("memory://")) is URL
