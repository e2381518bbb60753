"""Tests that a framework publishes, run with our class in place of theirs.

A plugin of pytest, named by the caller, replaces the class.  It calls `built` of this module whenever a test constructs
ours, so that a run shows which tests really used it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

_TESTS = Path(__file__).resolve().parents[1]
_LOG = "TURNLOG_TEST_BUILT"


@cache
def sources(name: str, version: str) -> Path:
    """Download the source distribution of a package from the package index, and return its folder."""
    folder = Path(tempfile.gettempdir()) / f"turnlog-published-{os.getuid()}" / f"{name}-{version}"
    if not folder.exists():
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name]
            subprocess.run([*pip, "-d", place, f"{name}=={version}"], check=True, timeout=300)
            (archive,) = Path(place).glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(Path(place) / "unpacked", filter="data")
            (top,) = (Path(place) / "unpacked").iterdir()
            if not folder.exists():
                top.rename(folder)
    return folder


class Outcomes(NamedTuple):
    """The tests of a run, by name without the file; a parametrized test has its parameters in brackets."""

    passed: frozenset[str]
    failed: Mapping[str, str]
    """The message of each test that failed, or of an error in its fixtures."""
    skipped: Mapping[str, str]
    built: frozenset[str]
    """The tests that constructed our class."""


def built() -> None:
    """Note that the running test constructs our class."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "outside a test").rpartition(" ")[0]
    with open(os.environ[_LOG], "a", encoding="utf-8") as log:
        log.write(test.rpartition("::")[2] + "\n")


def run(folder: Path, files: Sequence[str], *, plugin: str, url: str, options: Sequence[str] = ()) -> Outcomes:
    """Run published tests in a process of their own, and return the outcome of each.

    Args:
        folder: The unpacked source distribution; the working directory of the tests.
        files: The test files, relative to `folder`.
        plugin: The dotted name of the pytest plugin that replaces the class, such as `adapters.strands.swap`.
        url: The store's URL, for the plugin: the environment variable TURNLOG_TEST_URL.
        options: Further arguments for pytest.
    """
    with tempfile.TemporaryDirectory() as place:
        report, log = Path(place) / "report.xml", Path(place) / "built"
        log.touch()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "TURNLOG_TEST_URL": url,
            _LOG: str(log),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, f"--junitxml={report}", *options, *files]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        if not report.exists():
            raise AssertionError(done.stdout + done.stderr)
        return _read(report, frozenset(log.read_text(encoding="utf-8").split("\n")) - {""})


def _read(report: Path, used: frozenset[str]) -> Outcomes:
    passed: set[str] = set()
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        name = case.attrib["name"]
        for kind, found in (("failure", failed), ("error", failed), ("skipped", skipped)):
            node = case.find(kind)
            if node is not None:
                found[name] = node.attrib.get("message", "") or (node.text or "")
                break
        else:
            passed.add(name)
    return Outcomes(frozenset(passed - failed.keys()), failed, skipped, used)
