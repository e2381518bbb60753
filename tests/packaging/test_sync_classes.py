"""`turnlog.sync` has every public method of the asynchronous classes, with equal signatures, types and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import turnlog
import turnlog.sync
from generate_sync import CORE, DEFINITIONS, generate

SPECIAL = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}
CLASSES = [turnlog.Store, turnlog.TurnWriter, turnlog.Stream, turnlog.Result, turnlog.Pipeline]
TWINS: dict[Any, Any] = {one: getattr(turnlog.sync, one.__name__) for one in CLASSES}
TWINS[turnlog.Model] = turnlog.sync.Model
MADE_BY_METHODS = {turnlog.TurnWriter, turnlog.Stream, turnlog.Result}
OTHER_WORDS = {"Pipeline", "Store"}  # classes whose docstrings have further replacements


def members(cls: type) -> dict[str, Any]:
    """Return the methods and properties of a class that an application uses."""
    found = {name: inspect.getattr_static(cls, name) for name in dir(cls)}
    kinds = (property, staticmethod, classmethod)
    return {
        name: member
        for name, member in found.items()
        if (isinstance(member, kinds) or inspect.isfunction(member))
        and (name in SPECIAL or not name.startswith("_") or (name == "__init__" and cls not in MADE_BY_METHODS))
    }


def as_sync(hint: Any) -> Any:
    """Return the type that the synchronous method has in place of one of the asynchronous method."""
    if typing.get_origin(hint) is AsyncIterator:
        return Iterator[typing.get_args(hint)[0]]  # type: ignore[misc]
    return TWINS.get(hint, hint)


def words(text: str | None) -> str | None:
    return None if text is None else re.sub(r"\basync (?=with\b|for\b)|\bawait ", "", text)


def function_of(member: Any) -> Any:
    """Return the function of a method or a property."""
    return member.fget if isinstance(member, property) else getattr(member, "__func__", member)


def differences(cls: type, twin: type) -> list[str]:
    """Return the public methods of a class that its synchronous twin lacks, or has otherwise."""
    found = []
    for name, member in members(cls).items():
        other = inspect.getattr_static(twin, SPECIAL.get(name, name), None)
        if type(other) is not type(member):
            found.append(f"{name} is missing")
            continue
        one, two = function_of(member), function_of(other)
        if inspect.iscoroutinefunction(two) or inspect.isasyncgenfunction(two):
            found.append(f"{name} is async")
        parameters = [
            [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()] for f in (one, two)
        ]
        if parameters[0] != parameters[1]:
            found.append(f"{name} has another signature")
        hints = {key: as_sync(hint) for key, hint in typing.get_type_hints(one).items()}
        if repr(hints) != repr(typing.get_type_hints(two)):  # each module has a type variable of its own
            found.append(f"{name} has other types")
        if words(one.__doc__) != two.__doc__ and not name.startswith("__"):
            found.append(f"{name} has another docstring")
    return found


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_method_differs(cls: type) -> None:
    assert differences(cls, TWINS[cls]) == []
    assert words(inspect.getdoc(cls) or "").split("\n")[0] == (inspect.getdoc(TWINS[cls]) or "").split("\n")[0]  # type: ignore[union-attr]


def test_open_store_differs_only_in_its_result() -> None:
    one, two = turnlog.open_store, turnlog.sync.open_store
    assert str(inspect.signature(one)) == str(inspect.signature(two))
    assert {key: as_sync(hint) for key, hint in typing.get_type_hints(one).items()} == typing.get_type_hints(two)
    assert words(one.__doc__) == two.__doc__


def test_attributes_of_instances_are_there() -> None:
    store = turnlog.open_store("memory://")

    async def model(messages: list[turnlog.Message], **options: object) -> turnlog.Message:
        return turnlog.assistant("yes")

    pipeline = turnlog.Pipeline(store, model)
    for one in (store, store.write_turn("s"), pipeline, turnlog.Result(turnlog.assistant("a"), (), None)):
        names = [*getattr(one, "__dict__", ()), *getattr(one, "__struct_fields__", ())]
        twin = TWINS[type(one)].over(one)
        for name in names:
            if not name.startswith("_"):
                getattr(twin, name)


def test_differences_are_found() -> None:
    class Store(turnlog.Store):
        async def more(self) -> None:
            """Do more."""

        async def load(self, session_id: str, *, last: int | None = 3, before: int | None = None) -> list[str]:  # type: ignore[override]
            """Load less."""
            return []

    assert differences(Store, turnlog.sync.Store) == [
        "load has another signature",
        "load has other types",
        "load has another docstring",
        "more is missing",
    ]


@pytest.mark.parametrize("file", DEFINITIONS)
def test_a_generated_file_is_current(file: str) -> None:
    """If not, run `python tests/generate_sync.py` and `ruff format`."""
    written = (CORE / "sync" / f"{file}.py").read_text(encoding="utf-8")
    assert plain(written) == plain(generate(file))


def plain(source: str) -> str:
    """Return source in a form that does not depend on its format."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = "\n".join(line.strip() for line in node.value.strip().splitlines())
    return ast.unparse(tree)
