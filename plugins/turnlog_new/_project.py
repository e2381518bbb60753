"""`new_project`: writes the files of a distribution from templates."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from turnlog.config import PLUGIN_API, installed
from turnlog.errors import InvalidInput

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
"""A name that fits a distribution, a URL's scheme (RFC 3986, 3.1) and, with `_` for `-`, a Python module."""


def new_project(kind: Literal["backend", "layer"], name: str, parent: Path) -> Path:
    """Write a distribution, and return its folder.

    Args:
        kind: The kind of plugin.
        name: The plugin's name: the URL's scheme of a backend, or the name of a layer.
        parent: The folder in which the project's folder is created.

    Raises:
        InvalidInput: The name breaks a rule or is the name of an installed plugin, or the project's folder exists or
            cannot be written.
    """
    if not _NAME.match(name):
        raise InvalidInput(
            f"{name!r} is not a name for a {kind}: use small letters, digits and single hyphens; begin with a letter"
        )
    package = f"turnlog_{name.replace('-', '_')}"
    if find_spec(package) or any(plugin.group == f"turnlog.{kind}s" and plugin.name == name for plugin in installed()):
        raise InvalidInput(f"{name!r} is the name of an installed plugin: choose another name")
    folder = parent / f"turnlog-{name}"
    if folder.exists():
        raise InvalidInput(f"{folder} exists: choose another name, or another folder with --into")
    words = {
        "NAME": name,
        "PACKAGE": package,
        "CLASS": "".join(part.capitalize() for part in name.split("-")),
        "API": str(PLUGIN_API),
    }
    templates = resources.files(__package__) / "templates"
    try:
        for root in (templates / "common", templates / kind):
            for path, text in _files(root):
                target = folder / _filled(path.removesuffix(".template"), words)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(_filled(text, words), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InvalidInput(
            f"{folder} cannot be written: {error.strerror}: choose another folder with --into"
        ) from error
    return folder


def _files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path of each template below a folder, and its text."""
    for item in folder.iterdir():
        if item.is_dir():
            yield from _files(item, f"{prefix}{item.name}/")
        elif item.name.endswith(".template"):
            yield prefix + item.name, item.read_text(encoding="utf-8")


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"__([A-Z]+)__", lambda found: words[found[1]], text)
