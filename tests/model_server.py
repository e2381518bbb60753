"""A strict server on the loopback for Chat Completions and Anthropic's Messages, with and without streaming.

It checks requests against the documented schemas and refuses the same errors as the providers: unknown entries, calls
without results, results without calls, messages without content.  Its answers depend on the messages:

- to `weather`, with tools: two calls of the first tool, for Oslo and for Rome;
- to results of tools: `It is` and the results;
- to `What is my name?`: the word that followed `My name is`;
- to anything else: `Hello!`.

Anthropic's model sends a thinking block before it calls tools, and if the user says `Think`.

A message, a block and the list of tools count 10 tokens each.  If a request begins with all the parts of an earlier
request, these parts count as cached.  With Anthropic, that earlier request must have set `cache_control`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple

KEY = "sk-loopback-0123456789"
ENTRIES = {
    "system": "name",
    "developer": "name",
    "user": "name",
    "assistant": "content name refusal tool_calls",
    "tool": "",
}
SIGNATURE = "c2lnbmF0dXJl"
OUTPUT_TOKENS = 7
TOKENS = 10


class Refused(Exception):
    """A request that breaks a rule of the API."""


class Request(NamedTuple):
    """A request that the server received."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Call(NamedTuple):
    """A call of a tool."""

    id: str
    name: str
    arguments: dict[str, Any]


class Said(NamedTuple):
    """An answer of the model: a text, calls, or both."""

    text: str
    calls: list[Call]


class ModelServer(ThreadingHTTPServer):
    """The server.

    Attributes:
        requests: The received requests, valid or not.
        failures: Statuses for the next answers.
        cut: The number of events after which a stream breaks off; None: it is complete.
        how: The way that a stream breaks off: the response ends, the connection ends, or an event reports an error.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []
        self.failures: list[int] = []
        self.cut: int | None = None
        self.how: Literal["response", "connection", "error"] = "response"
        self.known: set[str] = set()

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def cached(self, parts: list[Any], *, write: bool) -> int:
        """Return the number of leading parts of a prompt that are cached, and cache all parts if `write` is true."""
        for count in range(len(parts), 0, -1):
            if json.dumps(parts[:count]) in self.known:
                break
        else:
            count = 0
        if write:
            self.known.add(json.dumps(parts))
        return count


@contextmanager
def serving() -> Iterator[ModelServer]:
    """Run a server until the block ends."""
    with ModelServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ModelServer

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        """Answer a request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Request(self.path, headers, body))
        if self.server.failures:
            self._fail(self.server.failures.pop(0), "try again")
            return
        protocols: dict[str, ChatCompletions | Messages] = {
            "/v1/chat/completions": ChatCompletions(),
            "/v1/messages": Messages(),
        }
        protocol = protocols.get(self.path)
        if protocol is None:
            self._fail(404, f"unknown path {self.path}")
        elif not protocol.knows(headers):
            self._fail(401, "invalid key")
        else:
            try:
                protocol.check(body)
                events = protocol.answer(self.server, body)
            except Refused as error:
                self._fail(400, str(error))
            else:
                self._stream(protocol, events) if body.get("stream") else self._send(200, events[0])

    def _fail(self, status: int, message: str) -> None:
        kind = {400: "invalid_request_error", 401: "authentication_error"}.get(status, "api_error")
        error = {"type": kind, "message": message}
        self._send(status, {"error": error} if "chat" in self.path else {"type": "error", "error": error})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, protocol: ChatCompletions | Messages, events: list[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        lines = protocol.lines(events)
        cut = self.server.cut
        if cut is not None:
            assert cut < len(lines)
            lines = [*lines[:cut], *([protocol.failure] if self.server.how == "error" else [])]
        for line in lines:
            self.wfile.write(f"{len(line.encode()):x}\r\n{line}\r\n".encode())
        if cut is None or self.server.how != "connection":
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True


def _known(what: dict[str, Any], where: str, *required: str, optional: str = "") -> None:
    """Refuse unknown entries and missing required ones."""
    if not isinstance(what, dict):
        raise Refused(f"{where}: must be an object")
    for name in required:
        if name not in what:
            raise Refused(f"{where}.{name}: field required")
    for name in what:
        if name not in required and name not in optional.split():
            raise Refused(f"{where}.{name}: extra inputs are not permitted")


def _name(name: str, where: str) -> None:
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise Refused(f"{where}: not a name of a tool")


def _pieces(text: str) -> list[str]:
    return [text[place : place + 4] for place in range(0, len(text), 4)]


def _says(texts: list[str], results: list[str], tools: list[str]) -> Said:
    """Return the model's answer to the user's texts, the results at the end, and the names of the tools."""
    if results:
        return Said(f"It is {' and '.join(results)}.", [])
    if "weather" in texts[-1] and tools:
        cities = ("Oslo", "Rome")
        return Said("", [Call(f"call_{number}", tools[0], {"city": city}) for number, city in enumerate(cities)])
    names = [found[1] for text in texts if (found := re.search(r"My name is (\w+)", text))]
    if "What is my name" in texts[-1]:
        return Said(f"Your name is {names[-1]}." if names else "I do not know your name.", [])
    return Said(f"Hello, {names[-1]}!" if names else "Hello!", [])


class ChatCompletions:
    """`POST /v1/chat/completions` (platform.openai.com/docs/api-reference/chat/create)."""

    failure = f"data: {json.dumps({'error': {'message': 'overloaded', 'type': 'server_error'}})}\n\n"

    def knows(self, headers: dict[str, str]) -> bool:
        """Return whether the key is right."""
        return headers.get("authorization") == f"Bearer {KEY}"

    def check(self, body: dict[str, Any]) -> None:
        """Refuse a request that breaks the schema."""
        optional = "max_completion_tokens metadata stream stream_options temperature tools"
        _known(body, "body", "model", "messages", optional=optional)
        if "stream_options" in body:
            _known(body["stream_options"], "stream_options", "include_usage")
            if not body.get("stream"):
                raise Refused("stream_options: only allowed when 'stream' is enabled")
        for tool in body.get("tools", []):
            _known(tool, "tools", "type", "function")
            _known(tool["function"], "tools.function", "name", optional="description parameters")
            _name(tool["function"]["name"], "tools.function.name")
            if tool["function"]["parameters"]["type"] != "object":
                raise Refused("tools.function.parameters: must be an object")
        waiting: list[str] = []
        for number, message in enumerate(body["messages"]):
            where = f"messages.{number}"
            role = message.get("role")
            if role not in ENTRIES:
                raise Refused(f"{where}.role: {role!r}")
            if role == "tool":
                _known(message, where, "role", "content", "tool_call_id")
                if message["tool_call_id"] not in waiting:
                    raise Refused(f"{where}: a message of role 'tool' must follow a message with 'tool_calls'")
                waiting.remove(message["tool_call_id"])
                continue
            if waiting:
                raise Refused(f"{where}: 'tool_calls' must be followed by results for {waiting}")
            required = ("role",) if role == "assistant" else ("role", "content")
            _known(message, where, *required, optional=ENTRIES[role])
            calls = message.get("tool_calls")
            if calls == [] or not (calls or isinstance(message.get("content"), (str, list))):
                raise Refused(f"{where}: expected content, or calls that are not empty")
            for call in calls or []:
                _known(call, f"{where}.tool_calls", "id", "type", "function")
                _known(call["function"], f"{where}.tool_calls.function", "name", "arguments")
                json.loads(call["function"]["arguments"])
                waiting.append(call["id"])
        if waiting or not body["messages"]:
            raise Refused(f"messages: 'tool_calls' must be followed by results for {waiting}")

    def answer(self, server: ModelServer, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the answer, or its chunks."""
        messages = body["messages"]
        last = max(number for number, message in enumerate(messages) if message["role"] == "user")
        results = [message["content"] for message in messages[last:] if message["role"] == "tool"]
        tools = [tool["function"]["name"] for tool in body.get("tools", [])]
        said = _says([message["content"] for message in messages if message["role"] == "user"], results, tools)
        parts = [body.get("tools"), *messages]
        usage = {
            "prompt_tokens": TOKENS * len(parts),
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": TOKENS * len(parts) + OUTPUT_TOKENS,
            "prompt_tokens_details": {"cached_tokens": TOKENS * server.cached(parts, write=True), "audio_tokens": 0},
        }
        head = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            message: dict[str, Any] = {
                "role": "assistant",
                "content": said.text or None,
                "refusal": None,
                "annotations": [],
            }
            if said.calls:
                message["tool_calls"] = [self._call(call) for call in said.calls]
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason(said)}
            return [{**head, "object": "chat.completion", "choices": [choice], "usage": usage}]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if said.calls else "", "refusal": None}]
        deltas += [{"content": piece} for piece in _pieces(said.text)]
        for number, call in enumerate(said.calls):
            whole = self._call(call)
            arguments = whole["function"]["arguments"]
            begun = {"index": number, **whole, "function": {"name": call.name, "arguments": ""}}
            deltas.append({"tool_calls": [begun]})
            deltas += [
                {"tool_calls": [{"index": number, "function": {"arguments": piece}}]} for piece in _pieces(arguments)
            ]
        head["object"] = "chat.completion.chunk"
        chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": self._reason(said)}]})
        if body.get("stream_options", {}).get("include_usage"):
            chunks = [{**chunk, "usage": None} for chunk in chunks]
            chunks.append({**head, "choices": [], "usage": usage})
        return chunks

    def lines(self, events: list[dict[str, Any]]) -> list[str]:
        """Return the lines of a stream of server-sent events."""
        return [*(f"data: {json.dumps(event)}\n\n" for event in events), "data: [DONE]\n\n"]

    def _call(self, call: Call) -> dict[str, Any]:
        return {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }

    def _reason(self, said: Said) -> str:
        return "tool_calls" if said.calls else "stop"


class Messages:
    """`POST /v1/messages` (platform.claude.com/docs/en/api/messages)."""

    failure = (
        "event: error\n"
        f"data: {json.dumps({'type': 'error', 'error': {'type': 'overloaded_error', 'message': 'overloaded'}})}\n\n"
    )

    def knows(self, headers: dict[str, str]) -> bool:
        """Return whether the key is right and the version is given."""
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")  # older, newer
        return given == KEY and "anthropic-version" in headers

    def check(self, body: dict[str, Any]) -> None:
        """Refuse a request that breaks the schema."""
        optional = "cache_control metadata stream system tools"
        _known(body, "body", "model", "max_tokens", "messages", optional=optional)
        if not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1:
            raise Refused("max_tokens: must be an integer of 1 or more")
        if "cache_control" in body:
            _known(body["cache_control"], "cache_control", "type", optional="ttl")
        for tool in body.get("tools", []):
            _known(tool, "tools", "name", "input_schema", optional="description")
            _name(tool["name"], "tools.name")
            if tool["input_schema"]["type"] != "object":
                raise Refused("tools.input_schema.type: must be 'object'")
        for block in self._blocks(body.get("system", [])):
            self._check_block(block, "system")
        for number, message in enumerate(body["messages"]):
            where = f"messages.{number}"
            _known(message, where, "role", "content")
            if message["role"] not in ("user", "assistant"):
                raise Refused(f"{where}.role: must be 'user' or 'assistant': use the parameter 'system'")
            if not message["content"]:
                raise Refused(f"{where}: all messages must have non-empty content")
            for block in self._blocks(message["content"]):
                self._check_block(block, where)
        waiting: set[str] = set()
        for role, blocks in self._merged(body):
            results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            if set(results) != waiting or len(results) != len(set(results)) or (results and role != "user"):
                raise Refused(f"messages: calls {sorted(waiting)} are followed by results for {results}")
            if [block["type"] for block in blocks[: len(results)]] != ["tool_result"] * len(results):
                raise Refused("messages: results must come before other blocks")
            waiting = {block["id"] for block in blocks if block["type"] == "tool_use"}
        if waiting or not body["messages"] or body["messages"][0]["role"] != "user":
            raise Refused("messages: must begin with the user, and have a result for each call")

    def answer(self, server: ModelServer, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the answer, or its events."""
        merged = self._merged(body)
        texts = [
            block["text"] for role, blocks in merged if role == "user" for block in blocks if block["type"] == "text"
        ]
        results = [block["content"] for block in merged[-1][1] if block["type"] == "tool_result"]
        said = _says(texts, results, [tool["name"] for tool in body.get("tools", [])])
        parts = [body.get("tools"), *self._blocks(body.get("system", []))]
        parts += [[role, block] for role, blocks in merged for block in blocks]
        write = "cache_control" in body
        read = server.cached(parts, write=write)
        left = TOKENS * (len(parts) - read)
        usage: dict[str, Any] = {
            "input_tokens": 0 if write else left,
            "cache_creation_input_tokens": left if write else 0,
            "cache_read_input_tokens": TOKENS * read,
            "output_tokens": OUTPUT_TOKENS,
        }
        blocks: list[dict[str, Any]] = []
        if said.calls or "Think" in texts[-1]:
            blocks.append({"type": "thinking", "thinking": "I need a tool.", "signature": SIGNATURE})
        if said.text:
            blocks.append({"type": "text", "text": said.text, "citations": None})
        blocks += [
            {
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": call.arguments,
                "caller": {"type": "direct"},
            }
            for call in said.calls
        ]
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": blocks,
            "stop_reason": "tool_use" if said.calls else "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
        if not body.get("stream"):
            return [message]
        begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
        for number, block in enumerate(blocks):
            empty, deltas = self._deltas(block)
            events.append({"type": "content_block_start", "index": number, "content_block": empty})
            events.append({"type": "ping"})
            events += [{"type": "content_block_delta", "index": number, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": number})
        delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": OUTPUT_TOKENS}})
        events.append({"type": "message_stop"})
        return events

    def lines(self, events: list[dict[str, Any]]) -> list[str]:
        """Return the lines of a stream of server-sent events."""
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]

    def _deltas(self, block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the empty block that starts a stream, and its deltas."""
        if block["type"] == "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        if block["type"] == "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [*thoughts, signed]
        pieces = _pieces(json.dumps(block["input"]))
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]

    def _blocks(self, content: Any) -> list[dict[str, Any]]:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    def _merged(self, body: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
        """Return the blocks by role, those of consecutive messages with one role joined."""
        merged: list[tuple[str, list[dict[str, Any]]]] = []
        for message in body["messages"]:
            blocks = self._blocks(message["content"])
            if merged and merged[-1][0] == message["role"]:
                merged[-1][1].extend(blocks)
            else:
                merged.append((message["role"], [*blocks]))
        return merged

    def _check_block(self, block: dict[str, Any], where: str) -> None:
        match block.get("type"):
            case "text":
                _known(block, where, "type", "text", optional="cache_control citations")
                if not block["text"]:
                    raise Refused(f"{where}: text content blocks must be non-empty")
            case "thinking":
                _known(block, where, "type", "thinking", "signature")
                if (block["thinking"], block["signature"]) != ("I need a tool.", SIGNATURE):
                    raise Refused(f"{where}: invalid signature in thinking block")
            case "tool_use":
                _known(block, where, "type", "id", "name", "input", optional="cache_control caller")
                if not isinstance(block["input"], dict):
                    raise Refused(f"{where}.input: must be an object")
            case "tool_result":
                _known(block, where, "type", "tool_use_id", optional="cache_control content is_error")
            case kind:
                raise Refused(f"{where}.type: {kind!r}")
