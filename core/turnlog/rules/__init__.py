"""The rules of the contract, which all backends, layers and tools share."""

from __future__ import annotations

from .conditions import check_absent, check_condition, missing, regressed
from .dialects import Outline, begins_turn, outline_of
from .expiry import expiry_is_due, latest_due
from .file_key import file_key
from .header import Header, check_delete
from .history import TurnRule, check_rule, common, divide, split_turns
from .one_turn import is_one_turn, one_turn_text
from .page import listed_key, page, page_of, page_of_all, page_of_lines
from .plan import NOTHING, Near, Plan, Remembered, needs, plan
from .sealing import check_seal, fits
from .state import SessionState
from .totals import totals_of
from .window import check_whole, cut_off, exact, newest, window

__all__ = [
    "NOTHING",
    "Header",
    "Near",
    "Outline",
    "Plan",
    "Remembered",
    "SessionState",
    "TurnRule",
    "begins_turn",
    "check_absent",
    "check_condition",
    "check_delete",
    "check_rule",
    "check_seal",
    "check_whole",
    "common",
    "cut_off",
    "divide",
    "exact",
    "expiry_is_due",
    "file_key",
    "fits",
    "is_one_turn",
    "latest_due",
    "listed_key",
    "missing",
    "needs",
    "newest",
    "one_turn_text",
    "outline_of",
    "page",
    "page_of",
    "page_of_all",
    "page_of_lines",
    "plan",
    "regressed",
    "split_turns",
    "totals_of",
    "window",
]
