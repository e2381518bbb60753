"""The contract of `HistoryProvider`: ours and the framework's own provider meet it in the same way."""

from __future__ import annotations

from typing import Any

import pytest
from agent_framework import Content, HistoryProvider, Message

from adapters.agent_framework.providers import agent_of, dicts, said, scenario, texts, tool_turn, turn


@scenario
async def test_a_missing_session_has_no_messages(provider: HistoryProvider) -> None:
    assert await provider.get_messages("s") == []


@scenario
async def test_messages_are_returned_in_order(provider: HistoryProvider) -> None:
    await provider.save_messages("s", turn("1"))
    await provider.save_messages("s", tool_turn("2"))
    assert dicts(await provider.get_messages("s")) == dicts(turn("1") + tool_turn("2"))


CONTENTS: dict[str, Message] = {
    "text": said("user", "Grüße, 你好 \U0001f600\n\t\0"),
    "nothing": Message("assistant"),
    "fields": said("assistant", "x", author_name="bot", message_id="m", additional_properties={"a": None, "b": [1.5]}),
    "numbers": said("assistant", "x", additional_properties={"large": 2**70, "small": -1}),
    "other role": said("moderator", "x"),
    "call": Message("assistant", [Content.from_function_call("c", "f", arguments={"a": [None, "x"]})]),
    "result": Message("tool", [Content.from_function_result("c", result={"a": [None, "x"]})]),
    "data": Message("user", [Content.from_data(bytes(range(256)), "image/png"), "text"]),
    "link": Message("user", [Content.from_uri("https://example.com/a.png", media_type="image/png")]),
    "reasoning": Message("assistant", [Content.from_text_reasoning(text="think", protected_data="secret")]),
    "error": Message("assistant", [Content.from_error(message="failed", error_code="1", error_details="details")]),
    "usage": Message("assistant", [Content.from_usage({"input_token_count": 1})]),
    "file": Message("user", [Content.from_hosted_file("file-1")]),
}


@pytest.mark.parametrize("message", CONTENTS.values(), ids=CONTENTS)
def test_a_message_is_returned_as_it_was_saved(place: str, message: Message) -> None:
    @scenario
    async def test(provider: HistoryProvider) -> None:
        await provider.save_messages("s", [said("user", "first"), message])
        (_, found) = await provider.get_messages("s")
        assert found.to_dict() == message.to_dict()

    test(place)


@scenario
async def test_saving_nothing_stores_nothing(provider: HistoryProvider) -> None:
    await provider.save_messages("s", [])
    assert await provider.get_messages("s") == []


@scenario
async def test_a_repeated_history_is_stored_once(provider: HistoryProvider) -> None:
    await provider.save_messages("s", turn("1"))
    await provider.save_messages("s", turn("1"))
    await provider.save_messages("s", turn("1") + turn("2"))
    await provider.save_messages("s", turn("2") + turn("3"))
    assert dicts(await provider.get_messages("s")) == dicts(turn("1") + turn("2") + turn("3"))


@scenario
async def test_the_same_question_is_stored_again(provider: HistoryProvider) -> None:
    for _ in range(3):
        await provider.save_messages("s", [said("user", "yes"), said("assistant", "ok")])
        await provider.save_messages("s", [said("user", "yes")])
        await provider.save_messages("s", [said("assistant", "again")])
    assert texts(await provider.get_messages("s")) == ["yes", "ok", "yes", "again"] * 3


@scenario
async def test_a_long_history_repeats_only_its_end(provider: HistoryProvider) -> None:
    for number in range(6):
        await provider.save_messages("s", turn(str(number)))
    await provider.save_messages("s", turn("0"))
    await provider.save_messages("s", [*turn("5"), *turn("0"), *turn("7")])
    found = await provider.get_messages("s")
    assert dicts(found)[10:] == dicts([*turn("5"), *turn("0"), *turn("7")])


IDS = ["alice", "a/b", "a%2Fb", "tab\there", "你好 \U0001f600", "..", " ", "../up"]


@pytest.mark.parametrize("session_id", IDS, ids=range(len(IDS)))
def test_ids_of_any_text_stay_apart(place: str, session_id: str) -> None:
    @scenario
    async def test(provider: HistoryProvider) -> None:
        await provider.save_messages("other", turn("other"))
        await provider.save_messages(session_id, turn("1"))
        assert dicts(await provider.get_messages(session_id)) == dicts(turn("1"))
        assert dicts(await provider.get_messages("other")) == dicts(turn("other"))

    test(place)


@scenario
async def test_an_agent_continues_its_session(provider: HistoryProvider) -> None:
    for number in range(1, 4):
        agent: Any = agent_of(provider)
        answer = await agent.run("hello", session=agent.create_session(session_id="s"))
        assert answer.text == f"You have asked {number} times."
    assert len(await provider.get_messages("s")) == 6
    assert await provider.get_messages("t") == []


@scenario
async def test_an_agent_stores_calls_with_their_results(provider: HistoryProvider) -> None:
    for _ in range(2):
        agent: Any = agent_of(provider)
        await agent.run("the weather?", session=agent.create_session(session_id="s"))
    found = await provider.get_messages("s")
    assert [message.role for message in found] == ["user", "assistant", "tool", "assistant"] * 2
    assert found[2].contents[0].result == "sunny in Paris"
