"""The rules of the contract, once for all backends, layers and tools."""

from __future__ import annotations

from .header import Header, check_delete, check_whole, created_by, fits, missing, reused
from .history import begins_turn, common, cut_off, divide, exact, split_turns
from .state import SessionState, file_key, page

__all__ = [
    "Header",
    "SessionState",
    "begins_turn",
    "check_delete",
    "check_whole",
    "common",
    "created_by",
    "cut_off",
    "divide",
    "exact",
    "file_key",
    "fits",
    "missing",
    "page",
    "reused",
    "split_turns",
]
