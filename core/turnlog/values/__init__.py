"""The values of the contract.  They are immutable, and check themselves when they are made."""

from __future__ import annotations

from .capability import Capability
from .change import ABSENT, ANY, PRESENT, Change, Expect, Receipt, check_expect, copy_digest
from .ids import encode_id, new_id, new_session_id
from .json_form import from_json, json_text, to_json
from .json_value import JSON
from .key import Key
from .message import Message, MessageLike, as_message, assistant, system, tool, user
from .metadata import Metadata
from .query import Query, check_listing
from .record import Record
from .session import Erased, Page, Session, SessionInfo, check_read, decoded
from .times import Times
from .totals import Totals
from .turn import Turn
from .upkeep import Finding, Remainder
from .version import ExactVersion, SameSession, Version

__all__ = [
    "ABSENT",
    "ANY",
    "JSON",
    "PRESENT",
    "Capability",
    "Change",
    "Erased",
    "ExactVersion",
    "Expect",
    "Finding",
    "Key",
    "Message",
    "MessageLike",
    "Metadata",
    "Page",
    "Query",
    "Receipt",
    "Record",
    "Remainder",
    "SameSession",
    "Session",
    "SessionInfo",
    "Times",
    "Totals",
    "Turn",
    "Version",
    "as_message",
    "assistant",
    "check_expect",
    "check_listing",
    "check_read",
    "copy_digest",
    "decoded",
    "encode_id",
    "from_json",
    "json_text",
    "new_id",
    "new_session_id",
    "system",
    "to_json",
    "tool",
    "user",
]
