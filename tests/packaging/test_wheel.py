"""The wheel and the source distribution that are built from the tree have the right contents."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from checkout import PACKAGES, PYPROJECT, ROOT

PROJECT = PYPROJECT["project"]

JUNK = [
    ".venv/lib/x.py",
    ".hypothesis/x",
    ".mypy_cache/x.json",
    "chat.db",
    "chat.db-wal",
    "core/turnlog/__pycache__/errors.pyc",
    "core/turnlog/chat.db",
    "dist/turnlog-0.0.1.tar.gz",
    "notes.txt",
    "tests/core/__pycache__/model.pyc",
]

# Loads every entry point of the unpacked wheel from that wheel, and prints them.
LOAD = """
import json, sys
from importlib.metadata import Distribution

wheel, *roots = sys.argv[1:]
sys.path[:] = [wheel, *(path for path in sys.path if path not in roots)]
(distribution,) = Distribution.discover(name="turnlog", path=[wheel])
for entry in distribution.entry_points:
    entry.load()
    assert sys.modules[entry.module].__file__.startswith(wheel), sys.modules[entry.module].__file__
print(json.dumps(sorted([entry.group, entry.name, entry.value] for entry in distribution.entry_points)))
"""


def build(kind: str, tree: Path, folder: Path) -> Path:
    """Build a wheel or a source distribution from a tree, without the network; return its path."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True, timeout=60)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the tree."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the files that a wheel installs, with their bytes, without those of the metadata."""
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_package_whole_and_nothing_else(wheel: Path) -> None:
    tree = {
        path.relative_to(folder.parent).as_posix(): path.read_bytes()
        for folder in PACKAGES.values()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert contents(wheel) == tree


def test_every_package_says_that_it_is_typed(wheel: Path) -> None:
    names = contents(wheel).keys()
    assert {name.partition("/")[0] for name in names} == PACKAGES.keys()
    assert [package for package in PACKAGES if f"{package}/py.typed" not in names] == []


def test_every_entry_point_loads_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    ZipFile(wheel).extractall(tmp_path)
    roots = {str(folder.parent) for folder in PACKAGES.values()}
    command = [sys.executable, "-c", LOAD, str(tmp_path), *roots]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    groups = {**PROJECT["entry-points"], "console_scripts": PROJECT["scripts"]}
    declared = sorted([group, name, value] for group, entries in groups.items() for name, value in entries.items())
    assert json.loads(done.stdout) == declared


def test_the_metadata_is_what_an_installer_needs(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
        licences = [name for name in archive.namelist() if ".dist-info/licenses/" in name]
    needs = metadata.get_all("Requires-Dist", [])
    always = {re.split(r"[^\w-]", need)[0] for need in needs if "extra ==" not in need}
    assert always == {"msgspec", "stevedore"}
    assert {"sql", "redis", "zstd", "tiktoken", "tokenizers", "cli", "all", "test"} <= set(
        metadata.get_all("Provides-Extra", [])
    )
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert [Path(name).name for name in licences] == ["LICENSE"]
    assert metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_source_distribution_holds_no_junk_and_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    kept = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    for name in [*kept, "pyproject.toml", "README.md", "LICENSE", ".gitignore"]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        else:
            shutil.copy(ROOT / name, tree / name)
    clean = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    for name in JUNK:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"x")

    with tarfile.open(build("sdist", tree, tmp_path / "sdist")) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
        if hasattr(tarfile, "data_filter"):  # since Python 3.11.4
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path)
    assert held == clean | {"PKG-INFO"}
    (unpacked,) = tmp_path.glob("turnlog-*")
    assert contents(build("wheel", unpacked, tmp_path / "again")) == contents(wheel)
