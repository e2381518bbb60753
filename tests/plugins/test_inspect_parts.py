"""Messages of all dialects as the inspector shows them: texts, calls with results, images, problems, and JSON."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects import ASK, DIALECTS, WEATHER
from turnlog import CorruptRecord, Message, Turn
from turnlog_inspect._conversation import ShownTurn, brief, conversation, texts_of
from turnlog_inspect._html import rendered
from turnlog_inspect._image import image_in
from turnlog_inspect._json import json_line, json_tree
from turnlog_inspect._parts import Call, Data, Text
from turnlog_inspect._text import line, visible

GIF = base64.b64encode(b"GIF89a" + bytes(20)).decode()


def turns(*turns: list[dict[str, Any]], **more: Any) -> list[ShownTurn]:
    """Return turns of these messages as a page shows them."""
    made = [Turn(n, f"t{n}", 0.0, tuple(map(Message.from_dict, turn)), **more) for n, turn in enumerate(turns)]
    return conversation(made)


def calls(turn: ShownTurn) -> list[Call]:
    return [part for part in turn.parts if isinstance(part, Call)]


def problems(shown: list[ShownTurn]) -> list[tuple[int, str, str]]:
    return [(turn, text, detail) for one in shown for turn, text, detail in one.problems]


@pytest.mark.parametrize("name", [name for name in DIALECTS if name != "sharegpt"])
def test_each_dialect_shows_its_calls_with_their_results(name: str) -> None:
    first, second, third = turns(*DIALECTS[name])
    said = [(shown.speaker, part.text) for shown in (*first.messages, *third.messages) for part in shown.parts]  # type: ignore[union-attr]
    assert said[-4:] == [
        ("user", "Hello"),
        ("assistant", "Hi."),
        ("user", "Thanks"),
        ("assistant", "You are welcome."),
    ]
    assert said[:-4] in ([], [("system", "Be brief.")])
    assert second.messages[0].speaker == "user"
    assert [part.text for part in second.messages[0].parts] == [ASK]  # type: ignore[union-attr]
    found = calls(second)
    assert [call.name for call in found] == ["weather", "weather"]
    assert [call.arguments for call in found] in ([{"city": city} for city in WEATHER], [{}, {}])
    answers = list(WEATHER.values()) if name != "pydantic-ai" else ["sunny", "Which Rome?"]
    assert [brief(call.result.content) for call in found if call.result] == answers
    assert "tool" not in {shown.speaker for shown in second.messages}  # no result is left over


def test_a_retry_of_pydantic_ai_is_a_failure() -> None:
    assert problems(turns(*DIALECTS["pydantic-ai"])) == [(1, "weather failed", "Which Rome?")]


FAILURES: dict[str, list[dict[str, Any]]] = {
    "anthropic": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "no", "is_error": True}]},
    ],
    "bedrock": [
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c", "name": "f", "input": {}}}]},
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "c", "content": [{"text": "no"}], "status": "error"}}],
        },
    ],
    "gemini": [
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"error": "no"}}}]},
    ],
    "chat completions": [
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": '{"error": "no"}'},
    ],
    "responses": [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "no", "status": "incomplete"},
    ],
    "openai-agents": [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": "An error occurred while running the tool. Please try again. Error: no",
        },
    ],
    "langgraph": [
        {"type": "ai", "content": "", "tool_calls": [{"name": "f", "args": {}, "id": "c", "type": "tool_call"}]},
        {"type": "tool", "content": "Error: no\n Please fix your mistakes.", "tool_call_id": "c", "status": "error"},
    ],
    "vercel ui": [
        {
            "role": "assistant",
            "parts": [{"type": "tool-f", "toolCallId": "c", "state": "output-error", "input": {}, "errorText": "no"}],
        },
    ],
    "vercel model": [
        {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "c", "toolName": "f", "input": {}}]},
        {
            "role": "tool",
            "content": [
                {
                    "type": "tool-result",
                    "toolCallId": "c",
                    "toolName": "f",
                    "output": {"type": "error-text", "value": "no"},
                }
            ],
        },
    ],
    "claude code": [
        {
            "type": "assistant",
            "message": {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
        },
        {
            "type": "user",
            "message": {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c", "content": "no", "is_error": True}],
            },
        },
    ],
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_tool_is_a_problem_in_each_dialect(name: str) -> None:
    one_turn = turns(FAILURES[name])
    apart = turns(*([message] for message in FAILURES[name]))  # a framework may store each step as a turn
    for shown in (one_turn, apart):
        ((turn, text, detail),) = problems(shown)
        assert (turn, text) == (0, "f failed")
        assert "no" in detail
        assert sum(len(calls(turn)) for turn in shown) == 1


@pytest.mark.parametrize(
    "content", ["no error was found", '{"error": null, "rows": 3}', '{"status": "ok"}', "", None, 7, []]
)
def test_a_result_that_reports_no_error_is_no_problem(content: object) -> None:
    message = {"role": "tool", "tool_call_id": "c", "content": content}
    assert problems(turns([FAILURES["chat completions"][0], message])) == []


def test_calls_without_results_refusals_interruptions_and_damage_are_problems() -> None:
    call = FAILURES["chat completions"][0]
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    assert problems(turns([call, refusal])) == [(0, "f: no result", ""), (0, "refusal", "I cannot.")]
    assert problems(turns([call], open=True)) == []  # the result may follow
    interrupted = turns([call], open=True, interrupted=True)
    assert problems(interrupted) == [(0, "f: no result", ""), (0, "interrupted", "")]
    assert conversation([CorruptRecord("broken", turn=4)])[0].problems == [(4, "damaged", "turn 4: broken")]


def test_the_error_of_a_langgraph_task_is_a_problem() -> None:
    writes = {"role": "writes", "content": "messages, __error__", "channels": ["messages", "__error__"]}
    good = ["msgpack", msgspec.msgpack.encode("ConnectionError('refused')")]
    (turn,) = turns([writes, {"role": "values", "content": "9 bytes", "values": [["null", b""], good]}])
    assert problems([turn]) == [(0, "a task failed", "ConnectionError('refused')")]
    assert "ConnectionError" in rendered("turns.html", visit=None, turns=[turn], write=False).partition("<section")[0]
    for odd in (["msgpack", b"\xc1"], ["pickle", b"x"], ["msgpack", b"\x01"], ["msgpack"], 5, ["msgpack", "x"]):
        (turn,) = turns([writes, {"role": "values", "content": "9 bytes", "values": [["null", b""], odd]}])
        assert turn.error == "The error of the task cannot be shown."
    for other in ([], None, [["null", b""]]):
        (turn,) = turns([{**writes, "channels": ["messages"]}, {"role": "values", "content": "", "values": other}])
        assert not turn.error
    assert not turns([writes])[0].error


def test_two_calls_with_one_id_get_their_results_in_order() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    answers = [{"functionResponse": {"name": "f", "response": {"output": text}}} for text in ("one", "two")]
    (turn,) = turns([{"role": "model", "parts": [call, call]}, {"role": "user", "parts": answers}])
    assert [brief(call.result.content) for call in calls(turn) if call.result] == ["one", "two"]


REASONING: list[dict[str, Any]] = [
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}]},
    {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "hm"}}}]},
    {"role": "model", "parts": [{"text": "hm", "thought": True}]},
    {"role": "assistant", "content": None, "reasoning_content": "hm"},
    {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]},
    {"kind": "response", "parts": [{"part_kind": "thinking", "content": "hm"}]},
]


@pytest.mark.parametrize("message", REASONING)
def test_reasoning_is_told_from_the_answer(message: dict[str, Any]) -> None:
    ((shown,),) = (turn.messages for turn in turns([message]))
    assert shown.parts == [Text("hm", "reasoning")]
    assert shown.speaker == "assistant"


IMAGES: dict[str, dict[str, Any]] = {
    "chat completions": {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{GIF}"}},
    "responses": {"type": "input_image", "image_url": f"data:image/gif;base64,{GIF}"},
    "screenshot": {"type": "computer_screenshot", "image_url": f"data:image/gif;base64,{GIF}"},
    "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": GIF}},
    "bedrock": {"image": {"format": "gif", "source": {"bytes": base64.b64decode(GIF)}}},
    "gemini": {"inlineData": {"mimeType": "image/gif", "data": GIF}},
    "mcp": {"type": "image", "data": GIF, "mimeType": "image/gif"},
    "langchain": {"type": "image", "source_type": "base64", "data": GIF, "mime_type": "image/gif"},
    "pydantic-ai": {"kind": "binary", "data": GIF, "media_type": "image/gif"},
    "vercel": {"type": "file", "mediaType": "image/gif", "url": f"data:image/gif;base64,{GIF}"},
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_found_in_each_dialect(name: str) -> None:
    found = image_in(IMAGES[name])
    assert found
    assert found.source == f"data:image/gif;base64,{GIF}"


@pytest.mark.parametrize(
    ("url", "source", "link"),
    [
        ("https://example.com/a.png", False, True),
        ("javascript:alert(1)", False, False),
        ("data:image/svg+xml;base64,PHN2Zy8+", False, False),
        ("data:text/html;base64,PGI+", False, False),
        ("data:image/png;base64,é", False, False),
        (f"data:text/html;base64,{GIF}", True, False),  # the first bytes decide
        ("", False, False),
    ],
)
def test_only_raster_images_are_shown_and_remote_ones_are_links(url: str, *, source: bool, link: bool) -> None:
    found = image_in({"type": "image_url", "image_url": {"url": url}})
    assert found
    assert (bool(found.source), bool(found.link)) == (source, link)
    assert found.source.startswith("data:image/gif;") or not source


def test_url_safe_and_wrapped_base64_are_decoded() -> None:
    data = base64.b64decode(GIF) + b"\xfb\xef\xff"
    plain = base64.b64encode(data).decode()
    safe = base64.urlsafe_b64encode(data).decode()
    assert safe != plain
    for text in (safe, f"{plain[:8]}\r\n{plain[8:]}"):
        found = image_in({"inlineData": {"mimeType": "image/gif", "data": text}})
        assert found
        assert found.source == f"data:image/gif;base64,{plain}"


@pytest.mark.parametrize("kind", [str, bytes])
def test_a_very_large_image_is_not_shown(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlog_inspect._image._LARGEST", 20)
    data = GIF if kind is str else base64.b64decode(GIF)
    found = image_in({"image": {"format": "gif", "source": {"bytes": data}}})
    assert found
    assert found.note.endswith("too large to show")
    assert not found.source


def test_text_and_files_are_no_images() -> None:
    for part in ({"type": "text", "text": "image"}, {"type": "file", "mediaType": "application/pdf", "data": "x"}, {}):
        assert image_in(part) is None


def test_a_part_that_no_table_knows_is_shown_as_data() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AAAA"}}
    ((shown,),) = (turn.messages for turn in turns([{"role": "user", "content": [part]}]))
    assert shown.parts == [Data(part, "input_audio")]
    ((shown,),) = (turn.messages for turn in turns([{"role": "checkpoint", "content": "loop, step 2", "id": "x"}]))
    assert (shown.speaker, shown.label) == ("other", "checkpoint")


@pytest.mark.parametrize("content", [{"text": "hello"}, 5, True, {"a": [1]}, [7, None, ["x"]], [{"type": 5}]])
def test_content_of_any_type_is_shown(content: object) -> None:
    ((shown,),) = (turn.messages for turn in turns([{"role": "user", "content": content}]))
    assert shown.parts


def test_a_message_without_known_parts_shows_its_entries() -> None:
    message = {"role": "assistant", "content": None, "id": "x", "audio": {"id": "a1", "transcript": "Hello"}}
    ((shown,),) = (turn.messages for turn in turns([message]))
    assert shown.parts == [Data({"audio": {"id": "a1", "transcript": "Hello"}})]
    assert turns([{"role": "assistant", "content": "", "id": "x"}])[0].messages == []


@pytest.mark.parametrize("deep", ["[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900])
def test_deep_json_in_a_text_is_shown(deep: str) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": deep}}
    (turn,) = turns(
        [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": deep}]
    )
    (found,) = calls(turn)
    assert found.result
    for value in (found.arguments, *(part.value for part in found.result.content if isinstance(part, Data))):
        assert "…" in str(json_tree(value))
    assert rendered("turns.html", visit=None, turns=[turn], write=False)
    assert all(isinstance(text, str) for text in texts_of(Message.from_dict({"role": "tool", "content": deep})))


def test_a_search_reads_calls_and_results() -> None:
    found = [text for message in FAILURES["langgraph"] for text in texts_of(Message.from_dict(message))]
    assert found == ["f()", "Error: no\n Please fix your mistakes."]


def test_a_search_reads_the_whole_json_of_calls_and_results() -> None:
    value = {"payment": [{"note": "word " * 3_000 + "needle"}], "more": list(range(60))}
    call = {"id": "c", "function": {"name": "pay", "arguments": json.dumps(value)}}
    for message in (
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": json.dumps(value)},
        {"role": "user", "content": [{"type": "form", "value": value}]},
    ):
        (text,) = texts_of(Message.from_dict(message))
        assert "needle" in text
        assert "59" in text


NAMES = re.findall(
    r"\w+",
    """role content parts type text value data message tool_calls function function_call name arguments args input id
    call_id tool_call_id tool_use_id toolCallId output response result error errorText status state is_error image
    image_url url source bytes media_type inlineData toolUse toolResult functionCall functionResponse reasoning
    reasoning_content summary thinking refusal kind part_kind thought reasoningContent reasoningText json from""",
)
WORDS = re.findall(
    r"[\w-]+",
    """user assistant model system tool text image image_url tool_use tool_result tool-call tool-result function_call
    function_call_output reasoning thinking request response user-prompt tool-return output-available error ai human""",
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(), max_size=5)  # with lone surrogates
    | st.sampled_from([*WORDS, "http://\ud800"])
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), values, max_size=6), max_size=4))
def test_no_message_breaks_the_page(messages: list[dict[str, Any]]) -> None:
    html = rendered("turns.html", visit=None, turns=turns(messages), write=False)
    assert html.encode()
    assert html.count("<section") == html.count("</section>")
    assert html.count("<details") == html.count("</details>")
    for message in messages:
        assert all(isinstance(text, str) for text in texts_of(Message.from_dict(message)))


# --------------------------------------------------------------------------------------------------------------- HTML


def test_json_is_escaped_folded_and_bounded() -> None:
    html = str(json_tree({"<b>": ["</script>", None, True, 1.5, {"deep": {"deeper": []}}]}))
    assert "<b>" not in html
    assert "&lt;/script&gt;" in html
    assert html.count("<details") == html.count("</details>") == 3
    small = str(json_tree({"flights": [{"number": "HAT078", "date": "2024-05-20"}]}))
    assert small.count("<details open>") == 2
    large = str(json_tree({"flights": [dict.fromkeys("abcde", 1), {"a": {"b": 1}}]}))
    assert large.count("<details>") == 2
    many = str(json_tree(list(range(100_000))))
    assert many.count("leaf") < 2_100
    assert "more in the raw view" in many
    nested: object = 1
    for _ in range(5_000):
        nested = [nested]
    deep = str(json_tree(nested))
    assert deep.count("<div") == deep.count("</div>") < 100
    assert len(str(json_tree("x" * 1_000_000))) < 10_000


def test_json_on_one_line_is_short() -> None:
    assert json_line({"city": "Paris", "days": [1, 2]}) == "city: Paris, days: [1, 2]"
    assert len(json_line({"text": "x" * 100_000})) <= 100
    assert len(json_line(json.loads("[" * 900 + "]" * 900))) <= 100
    assert line("one\n two\t three") == "one two three"
    assert line("word " * 1_000_000, 20) == "word word word word…"


def test_control_and_invisible_characters_are_visible() -> None:
    assert visible("a<b>&\"'") == "a&lt;b&gt;&amp;&#34;&#39;"
    shown = visible("\x00\x1b\x7f\u202e\u2066\u200b\ufeff\U000e0041\ud800")
    for sign in ("x00", "x1b", "x7f", "u202e", "u2066", "u200b", "ufeff", "U000e0041", "ud800"):
        assert f"\\{sign}" in shown
    for text in ("Zoë", "שלום", "日本", "👩\u200d💻", "tab\tand\nline"):
        assert visible(text) == text
    assert visible("line\r\nline") == "line\nline"
