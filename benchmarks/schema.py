"""The frozen message of the hand-written floors."""

from __future__ import annotations

import msgspec


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    id: str
    role: str
    content: str
    ts: float
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


def to_struct(m: dict) -> Message:
    return Message(
        m["id"],
        m["role"],
        m["content"],
        m["ts"],
        tuple(ToolCall(c["id"], c["name"], c["arguments"]) for c in m.get("tool_calls", ())),
        m.get("tool_call_id"),
    )


json_enc = msgspec.json.Encoder()
json_msg = msgspec.json.Decoder(Message)
json_msgs = msgspec.json.Decoder(list[Message])
mp_enc = msgspec.msgpack.Encoder()
mp_msg = msgspec.msgpack.Decoder(Message)
mp_msgs = msgspec.msgpack.Decoder(list[Message])
