"""Each module lists its public names, and every public name has a docstring."""

from __future__ import annotations

import ast
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from checkout import ADAPTERS, PACKAGES
from turnlog import errors

MODULES = sorted(
    f"{package}.{path.stem}".removesuffix(".__init__")
    for package, folder in PACKAGES.items()
    if package not in ADAPTERS
    for path in folder.glob("*.py")
    if path.stem == "__init__" or not path.stem.startswith("_")
) + [f"turnlog.{path.parent.name}" for path in PACKAGES["turnlog"].glob("*/__init__.py")]


def names(module: ModuleType) -> tuple[set[str], set[str]]:
    """Return the public names that a module defines, and the names that it imports from its package."""
    defined: set[str] = set()
    imported: set[str] = set()
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                defined.add(name)
            case ast.Assign(targets=targets):
                defined.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                defined.add(name)
            case ast.ImportFrom(level=1, names=aliases):
                imported.update(alias.asname or alias.name for alias in aliases)
    return {name for name in defined if not name.startswith("_")}, imported


def as_ruff_sorts(name: str) -> tuple[bool, bool, str]:
    """Return a sort key: constants, then classes, then functions."""
    return not name.isupper(), not name[0].isupper(), name


def described(module: ModuleType) -> Iterator[tuple[str, str | None]]:
    """Yield each public class, function, method and property with its docstring, which methods may inherit."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            yield name, value.__doc__
            for inner, member in inspect.getmembers(value):
                if not inner.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
                    yield f"{name}.{inner}", inspect.getdoc(member)
        elif inspect.isfunction(value):
            yield name, value.__doc__


@pytest.mark.parametrize("name", MODULES)
def test_a_module_exports_what_it_defines_and_a_package_what_it_gathers(name: str) -> None:
    module = importlib.import_module(name)
    defined, imported = names(module)
    exported = set(module.__all__)
    assert module.__all__ == sorted(exported, key=as_ruff_sorts)
    assert defined <= exported <= defined | imported
    if hasattr(module, "__path__"):
        assert exported == defined | imported


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_described(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert [what for what, text in described(module) if not text] == []


def signatures(module: ModuleType) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield each public class, function and method with its name."""
    for name in module.__all__:
        value = getattr(module, name)
        if (inspect.isclass(value) and not typing.is_typeddict(value)) or inspect.isfunction(value):
            yield name, value
        if inspect.isclass(value) and value.__module__.startswith("turnlog"):
            for inner, member in inspect.getmembers(value):
                if inspect.isfunction(member) and (not inner.startswith("_") or inner == "__init__"):
                    yield f"{name}.{inner}", member


@pytest.mark.parametrize("name", MODULES)
def test_signatures_and_their_types_resolve(name: str) -> None:
    module = importlib.import_module(name)
    for what, value in signatures(module):
        try:
            typing.get_type_hints(value)
            inspect.signature(value)
        except Exception as error:
            raise AssertionError(f"{name}.{what}") from error


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn: dict[str, tuple[str | None, list[str]]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        place = len(line) - len(line.lstrip(" │├└─"))
        word = line[place:].split(" ")[0]
        if not place or not word:
            continue
        above = [(indent, name) for indent, name in above if indent < place]
        also = [also] if (also := line[place + len(word) :].strip().partition(")")[0]).startswith("(") else []
        drawn[word] = (above[-1][1] if above else None, [name.removeprefix("(") for name in also])
        above.append((place, word))

    def bases(name: str) -> tuple[str | None, list[str]]:
        first, *others = (base.__name__ for base in getattr(errors, name).__bases__)
        return (None if first == "Exception" else first), others

    assert drawn == {name: bases(name) for name in errors.__all__}
