"""turnlog: conversation state for LLM applications.

from turnlog import assistant, open_store, user

async with open_store("sqlite:///chat.db") as store:
    await store.append("alice", [user("My name is Alice."), assistant("Hello, Alice.")])
    history = await store.load("alice", last=20)
"""

from .config import open_store
from .errors import (
    Closed,
    ConfigError,
    Conflict,
    CorruptRecord,
    FormatTooNew,
    HistoryRegressed,
    IdReused,
    InvalidInput,
    OutcomeUnknown,
    PluginError,
    SchemaError,
    SessionNotFound,
    SplitsSealed,
    TooLarge,
    TurnlogError,
    Unavailable,
)
from .pipeline import Model, Pipeline, Result, Window
from .store import Layer, Store
from .values.change import ABSENT, ANY, Change, Receipt
from .values.key import Key
from .values.message import Message, assistant, system, tool, user
from .values.metadata import Metadata
from .values.record import Record
from .values.session import Erased, Page, Query, Session, SessionInfo
from .values.turn import Turn
from .values.version import Version

__all__ = [
    "ABSENT",
    "ANY",
    "Change",
    "Closed",
    "ConfigError",
    "Conflict",
    "CorruptRecord",
    "Erased",
    "FormatTooNew",
    "HistoryRegressed",
    "IdReused",
    "InvalidInput",
    "Key",
    "Layer",
    "Message",
    "Metadata",
    "Model",
    "OutcomeUnknown",
    "Page",
    "Pipeline",
    "PluginError",
    "Query",
    "Receipt",
    "Record",
    "Result",
    "SchemaError",
    "Session",
    "SessionInfo",
    "SessionNotFound",
    "SplitsSealed",
    "Store",
    "TooLarge",
    "Turn",
    "TurnlogError",
    "Unavailable",
    "Version",
    "Window",
    "assistant",
    "open_store",
    "system",
    "tool",
    "user",
]
