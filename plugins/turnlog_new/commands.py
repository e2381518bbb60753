"""The commands `turnlog new-backend` and `turnlog new-layer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from ._project import new_project

__all__ = ["new_backend", "new_layer"]

_Into = Annotated[Path, Parameter(help="The folder in which the project's folder is created.")]


def new_backend(app: App) -> None:
    """Register `turnlog new-backend`."""
    app.command(_new_backend, name="new-backend")


def new_layer(app: App) -> None:
    """Register `turnlog new-layer`."""
    app.command(_new_layer, name="new-layer")


def _new_backend(
    name: Annotated[str, Parameter(help="The URL's scheme of the backend, for example acme.")],
    /,
    *,
    into: _Into = Path(),
) -> None:
    """Write a distribution with a backend that passes the tests of the whole contract: replace its storage by yours."""
    _write("backend", name, into)


def _new_layer(
    name: Annotated[str, Parameter(help="The name of the layer, for example redact.")],
    /,
    *,
    into: _Into = Path(),
) -> None:
    """Write a distribution with a layer that changes messages, and with its tests."""
    _write("layer", name, into)


def _write(kind: Literal["backend", "layer"], name: str, into: Path) -> None:
    folder = new_project(kind, name, into)
    print(f"{folder}: a {kind} and its tests. Next:")
    print(f"  cd {folder} && pip install -e '.[test]' && pytest")
