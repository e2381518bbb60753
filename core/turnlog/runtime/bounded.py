"""A map with a maximum size."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedMap(Generic[K, V]):
    """A map that drops the least recently used entry beyond a maximum.  Threads may share it.

    Setting or getting an entry counts as use.

    The map uses no lock: a fork could copy a lock that another thread holds.  Each call of an `OrderedDict` method is
    atomic, provided that comparing keys runs no Python code.  Between two such calls another thread may drop an entry.

    Args:
        maximum: Maximum number of entries.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return the value of a key; None if the map does not contain the key."""
        value = self._entries.get(key)
        if value is not None:
            try:  # noqa: SIM105 - contextlib.suppress takes longer than the rest of this method
                self._entries.move_to_end(key)
            except KeyError:  # another thread has dropped the entry
                pass
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        try:
            self._entries.move_to_end(key)
            if len(self._entries) > self._maximum:
                self._entries.popitem(last=False)
        except KeyError:  # another thread has dropped the entry, or emptied the map
            pass

    def pop(self, key: K, default: V | None = None) -> V | None:
        """Remove a key and return its value; return the default if the map does not contain the key."""
        return self._entries.pop(key, default)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
