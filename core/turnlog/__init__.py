"""turnlog: conversation state for LLM applications.

from turnlog import assistant, open_store, user

async with open_store("sqlite:///chat.db") as store:
    await store.append("alice", [user("My name is Alice."), assistant("Hello, Alice.")])
    history = await store.load("alice", last=20)
"""

from ._change import ABSENT, ANY, Change, Receipt
from ._config import open_store
from ._key import Key
from ._metadata import Metadata
from ._pipeline import Model, Pipeline, Result, Window
from ._record import Record
from ._session import Erased, Page, Query, Session, SessionInfo, Turn
from ._version import Version
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
from .message import Message, assistant, system, tool, user
from .store import Layer, Store

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
