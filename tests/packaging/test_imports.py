"""What is imported: by whom it may be, and what stays out until it is asked for."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from checkout import PACKAGES, PYPROJECT

DRIVERS = {
    "asyncmy",
    "asyncpg",
    "cyclopts",
    "hiredis",
    "hypothesis",
    "pytest",
    "redis",
    "rich",
    "sqlalchemy",
    "zstandard",
}

MAY_IMPORT = {
    "turnlog": {"msgspec", "stevedore"},
    "turnlog_cache": {"msgspec", "turnlog"},
    "turnlog_cli": {"cyclopts", "rich", "turnlog"},
    "turnlog_compression": {"msgspec", "turnlog", "zstandard"},
    "turnlog_memory": {"turnlog"},
    "turnlog_offline": {"turnlog"},
    "turnlog_redis": {"hiredis", "msgspec", "redis", "turnlog"},
    "turnlog_sql": {"asyncmy", "asyncpg", "msgspec", "sqlalchemy", "turnlog"},
}
KIT_MAY_IMPORT = {"pytest"}


def imported(path: Path) -> set[str]:
    """The packages outside the standard library that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_what_it_declares_and_no_more(package: str) -> None:
    kit = PACKAGES["turnlog"] / "testing"
    found = {path: imported(path) for path in PACKAGES[package].rglob("*.py")}
    strange = {
        f"{path}: {name}"
        for path, names in found.items()
        for name in names - MAY_IMPORT[package] - (KIT_MAY_IMPORT if path.is_relative_to(kit) else set())
    }
    assert strange == set()
    assert set().union(*found.values()) >= MAY_IMPORT[package]


def test_the_contracts_on_imports_know_every_package() -> None:
    linter = PYPROJECT["tool"]["importlinter"]
    plugins = set(PACKAGES) - {"turnlog"}
    forbidden, independent = linter["contracts"][:2]
    assert set(linter["root_packages"]) == set(PACKAGES)
    assert set(forbidden["forbidden_modules"]) >= plugins | (DRIVERS - {"pytest", "hypothesis"})
    assert set(independent["modules"]) == plugins


def loaded(code: str, folder: Path) -> set[str]:
    """The modules that are there after some code has run in a new process."""
    code = f"import json, sys; {code}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, timeout=60)
    return set(json.loads(done.stdout))


def test_importing_turnlog_loads_no_driver_and_no_machinery(tmp_path: Path) -> None:
    modules = loaded(
        "import turnlog, turnlog.config.plugins, turnlog.rules.state, turnlog.rules.history, turnlog.limits", tmp_path
    )
    assert "turnlog.config.plugins" in modules
    machinery = {"asyncio", "concurrent", "difflib", "importlib.metadata", "logging", "ssl", "stevedore", "tomllib"}
    assert modules & (DRIVERS | machinery | {"turnlog.runtime"} | (PACKAGES.keys() - {"turnlog"})) == set()


def test_a_memory_store_loads_no_driver_and_no_event_loop(tmp_path: Path) -> None:
    modules = loaded("import turnlog; turnlog.open_store('memory://')", tmp_path)
    assert "turnlog_memory" in modules
    assert modules & (DRIVERS | {"asyncio", "turnlog.testing", "turnlog_sql", "turnlog_cli"}) == set()
