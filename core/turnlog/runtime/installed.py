"""`check_installed`: checks that a driver is installed, without importing it."""

from __future__ import annotations

from importlib.util import find_spec


def check_installed(module: str) -> None:
    """Check that a driver is installed, without importing it.

    If importing a driver takes long, call this at the top of the plugin's module, and import the driver where it is
    used.  The lookup of the plugin then fails without the driver, and is fast with it.

    Args:
        module: The name of the driver's top-level module.

    Raises:
        ModuleNotFoundError: The driver is not installed.
    """
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
