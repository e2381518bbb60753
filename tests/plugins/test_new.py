"""`turnlog new-backend` and `new-layer`: the files, and bad input.  `tests/faults` runs the kit of both."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

import turnlog_cli
from turnlog.config import PLUGIN_API
from turnlog_new import new_project


@pytest.mark.parametrize(("kind", "end"), [("backend", "Backend"), ("layer", "Layer")])
def test_a_project_is_complete(kind: str, end: str, tmp_path: Path) -> None:
    folder = new_project(kind, "acme-db2", tmp_path)  # type: ignore[arg-type]
    assert folder == tmp_path / "turnlog-acme-db2"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        ".github/workflows/tests.yml",
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "src/turnlog_acme_db2/__init__.py",
        "src/turnlog_acme_db2/py.typed",
        "tests/test_contract.py",
    }
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "turnlog-acme-db2"
    assert project["entry-points"][f"turnlog.{kind}s"] == {"acme-db2": f"turnlog_acme_db2:AcmeDb2{end}"}
    source = (folder / "src/turnlog_acme_db2/__init__.py").read_text()
    classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert classes == [f"AcmeDb2{end}"]
    assert f"plugin_api = {PLUGIN_API}\n" in source
    left = [path for path in folder.rglob("*") if path.is_file() and "__NAME__" in path.read_text()]
    assert left == []


@pytest.mark.parametrize("name", ["", "Acme", "acme_db", "-acme", "acme--db", "acme-", "9acme", "ac/me", "ac me", "ä"])
def test_a_wrong_name_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = turnlog_cli.main(["new-backend", "--into", str(tmp_path), "--", name])
    output, error = capsys.readouterr()
    assert (code, output) == (2, "")
    assert "not a name for a backend" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name"), [("backend", "sqlite"), ("backend", "sql"), ("layer", "cache"), ("layer", "zstd")]
)
def test_the_name_of_an_installed_plugin_is_refused(
    kind: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both would be registered under one name, or as one Python package."""
    assert turnlog_cli.main([f"new-{kind}", name, "--into", str(tmp_path)]) == 2
    assert f"{name!r} is the name of an installed plugin: choose another name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    assert turnlog_cli.main(["new-backend", "acme", "--into", str(file)]) == 2
    assert "turnlog-acme cannot be written: Not a directory: choose another folder" in capsys.readouterr().err


def test_a_project_that_exists_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "turnlog-redact").mkdir()
    assert turnlog_cli.main(["new-layer", "redact", "--into", str(tmp_path)]) == 2
    assert "turnlog-redact exists: choose another name" in capsys.readouterr().err


def test_the_command_prints_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert turnlog_cli.main(["new-layer", "redact", "--into", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(f"cd {tmp_path / 'turnlog-redact'} && pip install -e '.[test]' && pytest\n")
