"""What is asked of a change: `nox` runs all of it, `nox -s lint` a part; `.ci/run` does the same on a fresh machine."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True

NEED_NO_EXTRA = [
    "tests/packaging/minimal.py",
    "tests/packaging/test_plugins.py",
    "tests/contract/test_memory_contract.py",
    "tests/contract/test_within_contract.py",
    "tests/core",
    "tests/plugins/test_offline.py",
]


@nox.session
def lint(session: nox.Session) -> None:
    """Form, findings, and which module may import which."""
    session.install("-e", ".[dev]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Types of the core, the plugins and the tests, strictly."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite, in two processes; arguments after `--` go to pytest instead."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "2"]))


@nox.session
def minimal(session: nox.Session) -> None:
    """The wheel without extras, and the part of the suite that needs none."""
    session.install("hatchling", "hypothesis", "pytest")
    session.install(str(_built("wheel", session, Path(session.create_tmp()))))
    # more examples than these are for the whole suite
    session.run("python", "-m", "pytest", *NEED_NO_EXTRA, env={"HYPOTHESIS_PROFILE": "default"})


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
