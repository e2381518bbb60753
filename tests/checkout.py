"""The checkout that is tested."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

PACKAGES = {path.name: path for root in ("core", "plugins") for path in (ROOT / root).iterdir() if path.is_dir()}
"""The folder of each import package in the wheel, by package name."""

_CONTRACTS = {one["name"]: one for one in PYPROJECT["tool"]["importlinter"]["contracts"]}

ADAPTERS = frozenset(_CONTRACTS["adapters use the API for applications"]["source_modules"])
"""The packages that need a framework, which only `nox -s adapters` installs."""
