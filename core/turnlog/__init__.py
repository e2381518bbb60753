"""turnlog: conversation state for LLM applications.

from turnlog import assistant, open_store, user

async with open_store("sqlite:///chat.db") as store:
    await store.append("alice", [user("My name is Alice."), assistant("Hello, Alice.")])
    history = await store.load("alice", last=20)
"""

from .backend import Backend
from .config import open_store
from .errors import (
    AccessError,
    Closed,
    ConfigError,
    Conflict,
    CorruptRecord,
    FormatTooNew,
    HistoryRegressed,
    IdReused,
    InvalidInput,
    ModelError,
    OutcomeUnknown,
    PluginError,
    SchemaError,
    SessionNotFound,
    SplitsSealed,
    TooLarge,
    TurnlogError,
    Unavailable,
    Unsupported,
)
from .layers import Layer, MessageLayer, PayloadLayer
from .pipeline import Model, Pipeline, Reply, Result, Serialize, Stream, Summaries, TokenCount, Tool, Usage, Window
from .store import Store
from .turn_writer import TurnWriter
from .values import (
    ABSENT,
    ANY,
    PRESENT,
    Change,
    Erased,
    Expect,
    Key,
    Message,
    Metadata,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    SessionInfo,
    Totals,
    Turn,
    Version,
    assistant,
    system,
    tool,
    user,
)

__version__ = "0.1.0"

__all__ = [
    "ABSENT",
    "ANY",
    "PRESENT",
    "AccessError",
    "Backend",
    "Change",
    "Closed",
    "ConfigError",
    "Conflict",
    "CorruptRecord",
    "Erased",
    "Expect",
    "FormatTooNew",
    "HistoryRegressed",
    "IdReused",
    "InvalidInput",
    "Key",
    "Layer",
    "Message",
    "MessageLayer",
    "Metadata",
    "Model",
    "ModelError",
    "OutcomeUnknown",
    "Page",
    "PayloadLayer",
    "Pipeline",
    "PluginError",
    "Query",
    "Receipt",
    "Record",
    "Reply",
    "Result",
    "SchemaError",
    "Serialize",
    "Session",
    "SessionInfo",
    "SessionNotFound",
    "SplitsSealed",
    "Store",
    "Stream",
    "Summaries",
    "TokenCount",
    "TooLarge",
    "Tool",
    "Totals",
    "Turn",
    "TurnWriter",
    "TurnlogError",
    "Unavailable",
    "Unsupported",
    "Usage",
    "Version",
    "Window",
    "assistant",
    "open_store",
    "system",
    "tool",
    "user",
]
