"""Namespaces: the namespaces of applications, nested or not, and the internal namespaces of layers."""

from __future__ import annotations

from typing import Final

from ..errors import InvalidInput
from .ids import check_id

OWN: Final = "turnlog:"
"""The prefix of the namespaces in which layers store internal data."""


def check_namespace(value: object) -> None:
    """Refuse a namespace that an application cannot use: an invalid id, or an internal namespace of layers.

    Raises:
        InvalidInput: As in `check_id`, or the namespace begins with `turnlog:`.
    """
    check_id(value, "namespace")
    if isinstance(value, str) and value.startswith(OWN):
        raise InvalidInput(
            f"namespace {value!r} begins with {OWN!r}, which turnlog reserves for internal data: choose another name"
        )


def nested_namespace(outer: str, name: str) -> str:
    """Return the namespace of a name within another namespace, as `outer/name`.

    A `/` or `%` in the name is written `%2F` or `%25`, so different names have different namespaces.

    Raises:
        InvalidInput: The nested namespace would have more than 255 bytes.
    """
    namespace = f"{outer}/{_escaped(name)}"
    check_id(namespace, "the nested namespace")
    return namespace


def nested_name(outer: str, namespace: str) -> str | None:
    """Return the first name on the path from a namespace to a namespace that is nested in it, at any depth.

    Returns:
        The name; None if no name has such a path, for example the path to `a/` within `a`.
    """
    written = namespace[len(outer) + 1 :].partition("/")[0]
    name = written.replace("%2F", "/").replace("%25", "%")
    try:
        check_namespace(name)
    except InvalidInput:
        return None
    return name if _escaped(name) == written else None


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")
