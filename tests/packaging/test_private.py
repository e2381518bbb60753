"""No module uses private names that another module defines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from checkout import PACKAGES, ROOT

MODULES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
EXAMPLES = sorted((ROOT / "docs" / "examples").rglob("src/**/*.py"))


def is_private(name: str | None) -> bool:
    return name is not None and name.startswith("_") and not name.endswith("__") and name != "_"


def defined(tree: ast.AST) -> set[str]:
    """Return the private names that a module defines: attributes, fields, methods, functions and variables."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=value):
                names.update(str(one.value) for one in ast.walk(value) if isinstance(one, ast.Constant))
            case ast.alias(name=name, asname=other):
                names.add(other or name)
    return {name for name in names if is_private(name)}


def used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each private attribute or keyword that a module uses, with its line, except those of `self` and `cls`."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name, lineno=line) if is_private(name):
                yield line, name
            case ast.keyword(arg=str(name), lineno=line) if is_private(name):
                yield line, name


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def ours() -> set[str]:
    """Return the private names that any module of turnlog defines."""
    public = {"_exit", "_replace"}  # of os, and of named tuples
    return set().union(*(defined(parsed(path)) for path in MODULES)) - public


def strange(tree: ast.AST) -> list[str]:
    """Return the places where a module uses a private name that only other modules of turnlog define."""
    own = defined(tree)
    return [f"line {line}: {name}" for line, name in used(tree) if name in ours() - own]


@pytest.mark.parametrize("path", [*MODULES, *EXAMPLES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_uses_what_is_private_to_another(path: Path) -> None:
    assert strange(parsed(path)) == []


def test_what_is_planted_is_found() -> None:
    source = "def f(record):\n    self._x = record._payload\n    return replace(record, _messages=None)"
    assert strange(ast.parse(source)) == ["line 2: _payload", "line 3: _messages"]
