"""`check_backend`: refuse an argument that is not a backend."""

from __future__ import annotations

from .backend import Backend
from .errors import InvalidInput

__all__ = ["check_backend"]


def check_backend(given: object, layer: str = "") -> None:
    """Refuse an argument that is not a backend.

    Args:
        given: The argument.
        layer: The name of the layer that it was given to; empty: it was given to `Store`.

    Raises:
        InvalidInput: The argument is not a backend.
    """
    if isinstance(given, Backend):
        return
    made = f"Store({layer}(backend))" if layer else "Store(backend)"
    hint = f"write {made} with a backend such as MemoryBackend()"
    if isinstance(given, str):
        hint = "for a URL, call open_store(url, layers=[...])" if layer else "for a URL, call open_store(url)"
    elif isinstance(getattr(given, "backend", None), Backend):
        hint = f"write {made.replace('backend', 'store.backend')} to use the backend of that store"
    raise InvalidInput(f"{layer or 'Store'} needs a Backend, not {type(given).__name__}: {hint}")
