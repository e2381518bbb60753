"""Layers meet the contract: a `Layer` that changes nothing, message layers and payload layers."""

from __future__ import annotations

from typing import ClassVar, Unpack

from further_ways import OverMemory
from sql_places import OverSQLite
from turnlog import Backend, Key, Layer, Message, MessageLayer, PayloadLayer, assistant, user
from turnlog.layers import Position
from turnlog.metrics import LoadTimes
from turnlog.testing import BackendContract, BackendOptions, LayerContract, MessageLayerContract
from turnlog_memory import MemoryBackend


class TestLayerOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return Layer(Layer(MemoryBackend(**options)))


class TestLayerOverSQLite(LayerContract):
    below = OverSQLite

    def layer(self, inner: Backend) -> Backend:
        return Layer(inner)


class TestLoadTimesOverMemory(LayerContract):
    below = OverMemory

    def layer(self, inner: Backend) -> Backend:
        return LoadTimes(inner)


class Renaming(MessageLayer):
    """Renames each entry of a message for storage."""

    def write_message(self, message: Message) -> Message:
        return Message.from_dict({f"~{name}": value for name, value in message.to_dict().items()})

    def read_message(self, message: Message) -> Message:
        return Message.from_dict({name.removeprefix("~"): value for name, value in message.to_dict().items()})


class TestMessageLayerOverMemory(BackendContract):
    reads_messages = True

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return Renaming(MemoryBackend(**options))


class TestRenaming(MessageLayerContract):
    messages = (user("a"), assistant(None, tool_calls=[{"id": "c1"}]), Message.from_dict({"type": "reasoning"}))

    def make(self, **options: Unpack[BackendOptions]) -> MessageLayer:
        return Renaming(MemoryBackend(**options))


class Redacting(MessageLayer):
    """Replaces a word."""

    def write_message(self, message: Message) -> Message:
        if "secret" not in message.text:
            return message
        return Message.from_dict({**message.to_dict(), "content": message.text.replace("secret", "***")})


class TestRedacting(MessageLayerContract):
    messages = (user("It is secret."), assistant("Is it?"), user("Yes, secret, secret!"))

    def make(self, **options: Unpack[BackendOptions]) -> MessageLayer:
        return Redacting(Layer(Redacting(MemoryBackend(**options))))


class Reversing(PayloadLayer):
    """Stores the bytes of each payload in reverse, after a byte that depends on the session and the record."""

    codec = 200
    position: ClassVar[Position] = "compression"

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes | None:
        return self.mark(key, record_id) + payload[::-1]

    def decode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        if not payload.startswith(self.mark(key, record_id)):
            raise ValueError(f"it is not of record {record_id} of session {key}")
        return payload[:0:-1]

    @staticmethod
    def mark(key: Key, record_id: str) -> bytes:
        return bytes([sum(f"{key}{record_id}".encode()) % 256])


class Whole(Reversing):
    """The same at the position of encryption, where a whole payload is encoded."""

    codec = 201
    position: ClassVar[Position] = "encryption"


class TestPayloadLayersOverMemory(LayerContract):
    below = OverMemory

    def layer(self, inner: Backend) -> Backend:
        return Reversing(Whole(inner))


class TestAllLayersOverMemory(BackendContract):
    reads_messages = True

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return Renaming(Reversing(Whole(MemoryBackend(**options))))
