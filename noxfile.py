"""The checks of a change: `nox` runs all of them, `nox -s lint` a part; `.ci/run` does the same on a fresh machine."""

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


def _installed(version: str) -> bool:
    """Return whether this Python runs here: a name may be on the path and lead nowhere."""
    name = shutil.which(f"python{version}")
    if name is None:
        return False
    return subprocess.run([name, "--version"], capture_output=True, check=False).returncode == 0  # noqa: S603


PYTHONS = [version for version in (f"3.{minor}" for minor in range(11, 30)) if _installed(version)]
"""Python 3.11 to the newest that is installed."""


@nox.session
def lint(session: nox.Session) -> None:
    """Form, findings, prose, and which module may import which."""
    session.install("-e", ".[dev]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")
    session.run("python", "tests/docs/prose.py")


@nox.session
def typing(session: nox.Session) -> None:
    """Types of the core, the plugins and the tests, strictly."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole suite on each installed Python, in three processes; arguments after `--` go to pytest instead."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "3", "--dist", "worksteal"]))


@nox.session
def minimal(session: nox.Session) -> None:
    """The wheel without extras, and the part of the suite that needs none."""
    session.install("hatchling", "hypothesis", "pytest", "pytest-timeout")
    session.install(str(_built("wheel", session, Path(session.create_tmp()))))
    session.run("python", "-m", "pytest", *NEED_NO_EXTRA)


@nox.session
def docs(session: nox.Session) -> None:
    """The snippets of the documentation, and its links."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "tests/docs", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The source distribution and the wheel, in dist/."""
    session.install("hatchling")
    for kind in ("sdist", "wheel"):
        session.log(_built(kind, session, Path("dist")))


def _built(kind: str, session: nox.Session, folder: Path) -> Path:
    session.run("python", "-m", "hatchling", "build", "--target", kind, "--directory", str(folder), silent=True)
    return max(
        folder.glob("turnlog-*.whl" if kind == "wheel" else "turnlog-*.tar.gz"), key=lambda it: it.stat().st_mtime
    )
