"""The same small history in each dialect: three turns, the second with two tool calls at once.

Each history follows its provider's documented schema.
"""

from __future__ import annotations

from typing import Any

Turns = list[list[dict[str, Any]]]

ASK, WEATHER = "What is the weather in Paris and Rome?", {"Paris": "sunny", "Rome": "rain"}


def _chat_completions() -> Turns:
    def call(city: str) -> dict[str, Any]:
        return {
            "id": f"call-{city}",
            "type": "function",
            "function": {"name": "weather", "arguments": f'{{"city":"{city}"}}'},
        }

    return [
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi."},
        ],
        [
            {"role": "user", "content": [{"type": "text", "text": ASK}]},
            {"role": "assistant", "content": None, "tool_calls": [call(city) for city in WEATHER]},
            *({"role": "tool", "tool_call_id": f"call-{city}", "content": said} for city, said in WEATHER.items()),
            {"role": "assistant", "content": "Sunny; rain."},
        ],
        [{"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "You are welcome."}],
    ]


def _responses() -> Turns:
    def said(text: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        return {"type": "message", "id": f"msg-{text}", "role": "assistant", "status": "completed", "content": content}

    return [
        [{"role": "user", "content": "Hello"}, said("Hi.")],
        [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASK}]},
            {"type": "reasoning", "id": "rs-1", "summary": []},
            *(
                {"type": "function_call", "call_id": f"call-{city}", "name": "weather", "arguments": "{}"}
                for city in WEATHER
            ),
            *(
                {"type": "function_call_output", "call_id": f"call-{city}", "output": said}
                for city, said in WEATHER.items()
            ),
            said("Sunny; rain."),
        ],
        [{"role": "user", "content": "Thanks"}, said("You are welcome.")],
    ]


def _anthropic() -> Turns:
    return [
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": [{"type": "text", "text": "Hi."}]}],
        [
            {"role": "user", "content": ASK},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I will look."},
                    *(
                        {"type": "tool_use", "id": f"call-{city}", "name": "weather", "input": {"city": city}}
                        for city in WEATHER
                    ),
                ],
            },
            {
                "role": "user",
                "content": [
                    *(
                        {"type": "tool_result", "tool_use_id": f"call-{city}", "content": said}
                        for city, said in WEATHER.items()
                    ),
                    {"type": "text", "text": "Here they are."},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "Sunny; rain."}]},
        ],
        [{"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "You are welcome."}],
    ]


def _bedrock() -> Turns:
    def said(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"text": text}]}

    return [
        [said("user", "Hello"), said("assistant", "Hi.")],
        [
            said("user", ASK),
            {
                "role": "assistant",
                "content": [
                    {"toolUse": {"toolUseId": f"call-{city}", "name": "weather", "input": {"city": city}}}
                    for city in WEATHER
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": f"call-{city}", "content": [{"text": said}], "status": "success"}}
                    for city, said in WEATHER.items()
                ],
            },
            said("assistant", "Sunny; rain."),
        ],
        [said("user", "Thanks"), said("assistant", "You are welcome.")],
    ]


def _gemini() -> Turns:
    def said(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "parts": [{"text": text}]}

    return [
        [said("user", "Hello"), said("model", "Hi.")],
        [
            said("user", ASK),
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"id": f"call-{city}", "name": "weather", "args": {"city": city}}}
                    for city in WEATHER
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": f"call-{city}", "name": "weather", "response": {"output": said}}}
                    for city, said in WEATHER.items()
                ],
            },
            said("model", "Sunny; rain."),
        ],
        [said("user", "Thanks"), said("model", "You are welcome.")],
    ]


def _langchain() -> Turns:
    def call(city: str) -> dict[str, Any]:
        return {"name": "weather", "args": {"city": city}, "id": f"call-{city}", "type": "tool_call"}

    return [
        [
            {"type": "system", "content": "Be brief."},
            {"type": "human", "content": "Hello"},
            {"type": "ai", "content": "Hi.", "tool_calls": []},
        ],
        [
            {"type": "human", "data": {"content": ASK, "type": "human", "additional_kwargs": {}}},
            {"type": "ai", "data": {"content": "", "type": "ai", "tool_calls": [call(city) for city in WEATHER]}},
            *(
                {"type": "tool", "data": {"content": said, "type": "tool", "tool_call_id": f"call-{city}"}}
                for city, said in WEATHER.items()
            ),
            {"type": "ai", "data": {"content": "Sunny; rain.", "type": "ai", "tool_calls": []}},
        ],
        [{"type": "human", "content": "Thanks"}, {"type": "ai", "content": "You are welcome."}],
    ]


def _pydantic_ai() -> Turns:
    def prompt(text: str) -> dict[str, Any]:
        return {"part_kind": "user-prompt", "content": text, "timestamp": "2026-01-01T00:00:00Z"}

    def response(*parts: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "response", "parts": list(parts), "model_name": "test"}

    def said(text: str) -> dict[str, Any]:
        return response({"part_kind": "text", "content": text})

    system = {"part_kind": "system-prompt", "content": "Be brief."}
    return [
        [{"kind": "request", "parts": [system, prompt("Hello")]}, said("Hi.")],
        [
            {"kind": "request", "parts": [prompt(ASK)]},
            response(
                *(
                    {"part_kind": "tool-call", "tool_name": "weather", "args": "{}", "tool_call_id": f"call-{city}"}
                    for city in WEATHER
                )
            ),
            {
                "kind": "request",
                "parts": [
                    {
                        "part_kind": "tool-return",
                        "tool_name": "weather",
                        "content": WEATHER["Paris"],
                        "tool_call_id": "call-Paris",
                    },
                    {
                        "part_kind": "retry-prompt",
                        "tool_name": "weather",
                        "content": "Which Rome?",
                        "tool_call_id": "call-Rome",
                    },
                ],
            },
            said("Sunny; I do not know."),
        ],
        [{"kind": "request", "parts": [prompt("Thanks")]}, said("You are welcome.")],
    ]


def _agent_framework() -> Turns:
    def said(role: str, *content: dict[str, Any]) -> dict[str, Any]:
        return {"type": "message", "role": role, "content": list(content), "additional_properties": {}}

    def text(it: str) -> dict[str, Any]:
        return {"type": "text", "text": it, "additional_properties": {}}

    calls = [
        {"type": "function_call", "call_id": f"call-{city}", "name": "weather", "arguments": f'{{"city":"{city}"}}'}
        for city in WEATHER
    ]
    results = [
        {"type": "function_result", "call_id": f"call-{city}", "result": it, "items": [text(it)]}
        for city, it in WEATHER.items()
    ]
    return [
        [said("user", text("Hello")), said("assistant", text("Hi."))],
        [
            said("user", text(ASK)),
            said("assistant", *calls),
            said("tool", *results),
            said("assistant", text("Sunny; rain.")),
        ],
        [said("user", text("Thanks")), said("assistant", text("You are welcome."))],
    ]


def _vercel_ui() -> Turns:
    def said(role: str, text: str) -> dict[str, Any]:
        return {"id": f"{role}-{text}", "role": role, "parts": [{"type": "text", "text": text, "state": "done"}]}

    parts = [
        {
            "type": "tool-weather",
            "toolCallId": f"call-{city}",
            "state": "output-available",
            "input": {"city": city},
            "output": said,
        }
        for city, said in WEATHER.items()
    ]
    return [
        [said("user", "Hello"), said("assistant", "Hi.")],
        [
            said("user", ASK),
            {"id": "a", "role": "assistant", "parts": [*parts, {"type": "text", "text": "Sunny; rain."}]},
        ],
        [said("user", "Thanks"), said("assistant", "You are welcome.")],
    ]


def _vercel_model() -> Turns:
    return [
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}],
        [
            {"role": "user", "content": [{"type": "text", "text": ASK}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool-call", "toolCallId": f"call-{city}", "toolName": "weather", "input": {"city": city}}
                    for city in WEATHER
                ],
            },
            {
                "role": "tool",
                "content": [
                    {
                        "type": "tool-result",
                        "toolCallId": f"call-{city}",
                        "toolName": "weather",
                        "output": {"type": "text", "value": said},
                    }
                    for city, said in WEATHER.items()
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "Sunny; rain."}]},
        ],
        [{"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "You are welcome."}],
    ]


def _claude_export() -> Turns:
    def said(sender: str, text: str, *blocks: dict[str, Any]) -> dict[str, Any]:
        return {"uuid": text, "sender": sender, "text": text, "content": [*blocks, {"type": "text", "text": text}]}

    blocks: list[dict[str, Any]] = []
    for city, answer in WEATHER.items():
        blocks += [
            {"type": "tool_use", "id": f"call-{city}", "name": "weather", "input": {}},
            {"type": "tool_result", "tool_use_id": f"call-{city}", "content": answer},
        ]
    return [
        [said("human", "Hello"), said("assistant", "Hi.")],
        [said("human", ASK), said("assistant", "Sunny; rain.", *blocks)],
        [said("human", "Thanks"), said("assistant", "You are welcome.")],
    ]


def _sharegpt() -> Turns:
    return [
        [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Hello"},
            {"from": "gpt", "value": "Hi."},
        ],
        [
            {"from": "human", "value": ASK},
            {"from": "function_call", "value": "weather"},
            {"from": "observation", "value": "sunny; rain"},
            {"from": "gpt", "value": "Sunny; rain."},
        ],
        [{"from": "human", "value": "Thanks"}, {"from": "gpt", "value": "You are welcome."}],
    ]


DIALECTS: dict[str, Turns] = {
    "chat completions": _chat_completions(),
    "responses": _responses(),
    "anthropic": _anthropic(),
    "bedrock converse": _bedrock(),
    "gemini": _gemini(),
    "langchain": _langchain(),
    "pydantic-ai": _pydantic_ai(),
    "agent framework": _agent_framework(),
    "vercel ui": _vercel_ui(),
    "vercel model": _vercel_model(),
    "claude export": _claude_export(),
    "sharegpt": _sharegpt(),
}
