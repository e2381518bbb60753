"""Small distributions, written to disk as an installer writes them, for tests of plugins."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    name: str,
    entries: dict[str, dict[str, str]],
    version: str = "1.0",
    **modules: str,
) -> None:
    """Put a distribution on the path: its entry points by group and name, and its modules by name."""
    place = folder / f"site-{name}"
    info = place / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{key} = {target}\n" for key, target in table.items())
        for group, table in entries.items()
    ]
    info.joinpath("entry_points.txt").write_text("\n".join(groups))
    for module, source in modules.items():
        place.joinpath(f"{module}.py").write_text(dedent(source))
        monkeypatch.setitem(sys.modules, module, None)  # monkeypatch then restores the absence of the module
        del sys.modules[module]
    monkeypatch.syspath_prepend(place)
