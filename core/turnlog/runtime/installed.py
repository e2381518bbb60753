"""Whether a driver is installed, without importing it."""

from __future__ import annotations

from importlib.util import find_spec


def check_installed(module: str) -> None:
    """Check that a driver is installed whose import takes long, so that it can be imported later.

    Call it at the top of a plugin's module: looking the plugin up then fails without the driver, and is fast with it.

    Args:
        module: The name of the driver's top-level module.

    Raises:
        ModuleNotFoundError: The driver is not installed.
    """
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
