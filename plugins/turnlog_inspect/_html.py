"""The templates, and the functions that they call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ._conversation import brief
from ._json import json_line, json_tree
from ._text import counted, line, size_of, span_of, time_of, title_of, visible

_environment: Final = Environment(
    loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_environment.filters.update(
    brief=brief,
    counted=counted,
    json_line=json_line,
    json_tree=json_tree,
    line=line,
    size=size_of,
    span=span_of,
    time=time_of,
    title=title_of,
    visible=visible,
)


def prepare() -> None:
    """Compile all templates, so that the first page is as fast as the others."""
    for name in _environment.list_templates():
        _environment.get_template(name)


def rendered(template: str, **values: object) -> str:
    """Return the text of a template.  Every value is escaped, except `Markup`; lone surrogates become `?`."""
    return _environment.get_template(template).render(**values).encode("utf-8", "replace").decode()


def markup(template: str, **values: object) -> Markup:
    """Return the text of a template, to put into another one."""
    return Markup(rendered(template, **values))  # noqa: S704 - the template has escaped its values


def address(path: str, query: Mapping[str, object]) -> str:
    """Return a URL with a query; entries that are None are left out."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path
