"""Packages import only the permitted packages, and load modules only when they are needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from checkout import PACKAGES, PYPROJECT

DRIVERS = {
    "agent_framework",
    "agents",
    "anthropic",
    "asyncmy",
    "asyncpg",
    "claude_agent_sdk",
    "cyclopts",
    "google",
    "hiredis",
    "httpx2",
    "hypothesis",
    "jinja2",
    "langchain_core",
    "langgraph",
    "llama_index",
    "openai",
    "opentelemetry",
    "ormsgpack",
    "prometheus_client",
    "pydantic",
    "pydantic_ai",
    "pydantic_core",
    "pytest",
    "redis",
    "rich",
    "sqlalchemy",
    "starlette",
    "strands",
    "tiktoken",
    "tokenizers",
    "uvicorn",
    "zstandard",
}

MAY_IMPORT = {
    "turnlog": {"msgspec", "stevedore"},
    "turnlog_agent_framework": {"agent_framework", "turnlog"},
    "turnlog_alerts": {"cyclopts", "httpx2", "msgspec", "rich", "turnlog"},
    "turnlog_anthropic": {"anthropic", "turnlog"},
    "turnlog_cache": {"msgspec", "turnlog"},
    "turnlog_claude_agent_sdk": {"anyio", "claude_agent_sdk", "turnlog"},
    "turnlog_cli": {"cyclopts", "rich", "turnlog"},
    "turnlog_compression": {"cyclopts", "msgspec", "rich", "turnlog", "zstandard"},
    "turnlog_google_adk": {"google", "turnlog"},
    "turnlog_inspect": {"cyclopts", "jinja2", "markupsafe", "msgspec", "starlette", "turnlog", "uvicorn"},
    "turnlog_langgraph": {"langchain_core", "langgraph", "msgspec", "ormsgpack", "turnlog"},
    "turnlog_llama_index": {"llama_index", "turnlog"},
    "turnlog_memory": {"turnlog"},
    "turnlog_metrics": {"cyclopts", "prometheus_client", "rich", "turnlog"},
    "turnlog_new": {"cyclopts", "turnlog"},
    "turnlog_offline": {"turnlog"},
    "turnlog_openai": {"openai", "turnlog"},
    "turnlog_openai_agents": {"agents", "turnlog"},
    "turnlog_pydantic_ai": {"pydantic", "pydantic_ai", "pydantic_core", "turnlog"},
    "turnlog_redis": {"hiredis", "msgspec", "redis", "turnlog"},
    "turnlog_sql": {"asyncmy", "asyncpg", "cyclopts", "msgspec", "sqlalchemy", "turnlog"},
    "turnlog_strands": {"strands", "turnlog"},
    "turnlog_telemetry": {"opentelemetry", "turnlog"},
    "turnlog_tokens": {"tiktoken", "tokenizers", "turnlog"},
    "turnlog_transfer": {"cyclopts", "msgspec", "rich", "turnlog"},
}
KIT_MAY_IMPORT = {"hypothesis", "pytest"}


def imported(path: Path) -> set[str]:
    """Return the packages outside the standard library that a module imports, in any scope."""
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


RUNS_DATA = {"dill", "jsonpickle", "marshal", "pickle", "shelve", "yaml"}
"""Modules whose loaders can run code."""


def runs_data(source: str) -> list[str]:
    """Return the modules and functions in a source that can run data as code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name.partition(".")[0] in RUNS_DATA]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
            found.append(node.func.id)
    return found


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_no_module_can_run_stored_data(package: str) -> None:
    assert runs_data("import pickle\nfrom marshal import loads\neval('1')") == ["pickle", "marshal", "eval"]
    for path in PACKAGES[package].rglob("*.py"):
        assert runs_data(path.read_text(encoding="utf-8")) == [], path


def test_the_contracts_on_imports_know_every_package() -> None:
    linter = PYPROJECT["tool"]["importlinter"]
    plugins = set(PACKAGES) - {"turnlog"}
    forbidden, independent = linter["contracts"][:2]
    assert set(linter["root_packages"]) == set(PACKAGES)
    assert set(forbidden["forbidden_modules"]) >= plugins | (DRIVERS - {"pytest", "hypothesis"})
    assert set(independent["modules"]) == plugins


def module_of(path: Path) -> str:
    """Return the dotted name of a module of turnlog."""
    (folder,) = (folder for folder in PACKAGES.values() if path.is_relative_to(folder))
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def arrows(path: Path, modules: set[str]) -> set[str]:
    """Return the modules of turnlog that a module imports, in any scope, also for type checkers only."""
    name = module_of(path)
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            inner = {f"{origin}.{alias.name}" for alias in node.names} & modules
            found |= inner
            if len(inner) < len(node.names):  # otherwise the statement imports only modules of the package
                found.add(origin)
    return (found & modules) - {name}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the cycles of a graph, each as the list of its modules."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = [start]
        while todo:
            new = graph[todo.pop()] - seen
            seen |= new
            todo += new
        reach[start] = seen
    found = {
        frozenset({one, *(other for other in reach[one] if one in reach[other])}) for one in graph if one in reach[one]
    }
    return sorted(sorted(cycle) for cycle in found)


def test_no_module_imports_itself_through_others() -> None:
    paths = [path for folder in PACKAGES.values() for path in folder.rglob("*.py")]
    modules = {module_of(path) for path in paths}
    graph = {module_of(path): arrows(path, modules) for path in paths}
    assert sum(map(len, graph.values())) > 500
    assert cycles(graph) == []


def test_a_planted_cycle_is_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def loaded(code: str, folder: Path) -> set[str]:
    """Run code in a new process, and return the modules that it has loaded."""
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


def after(arguments: list[str], folder: Path) -> set[str]:
    """Run a command in a new process, and return the modules that it has loaded."""
    code = "import contextlib, io, json, sys, turnlog_cli\n"
    code += f"with contextlib.redirect_stdout(io.StringIO()): turnlog_cli.main({arguments})\npass"
    return loaded(code, folder)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["list", "--store=memory://"], ["namespaces", "--store=memory://"]]
)
def test_a_built_in_command_loads_no_command_of_a_plugin(arguments: list[str], tmp_path: Path) -> None:
    modules = after(arguments, tmp_path)
    assert "turnlog_cli._app" in modules
    assert modules & {"sqlalchemy", "zstandard", "turnlog_sql", "turnlog_compression"} == set()


def test_a_command_of_a_plugin_loads_no_other_plugin(tmp_path: Path) -> None:
    modules = after(["recompress", "--store=memory://?layers=gzip"], tmp_path)
    assert "turnlog_compression.commands" in modules
    assert modules & {"sqlalchemy", "turnlog_sql"} == set()
