"""The offline model: each rule, and answers from the given messages alone."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from turnlog import Message, assistant, system, tool, user
from turnlog.config import find_model
from turnlog_offline import offline


def ask(*said: str | Message) -> str:
    """Return the answer to messages. A string is a user message."""
    messages = [user(item) if isinstance(item, str) else item for item in said]
    return asyncio.run(offline(messages)).text


def test_it_is_the_registered_model_and_an_async_callable() -> None:
    assert find_model("offline") is offline
    assert inspect.iscoroutinefunction(offline)


def test_options_are_accepted_and_change_nothing() -> None:
    messages = [user("My name is Alice"), assistant("Hello!"), user("Who am I?")]
    assert asyncio.run(offline(messages, temperature=0.7)) == asyncio.run(offline(messages))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("My name is Alice", "Alice"),
        ("my name is alice.", "alice"),
        ("Hi! My name is Alice.", "Alice"),
        ("My name's Alice", "Alice"),
        ("My name’s Zoë!", "Zoë"),
        ("I'm Alice", "Alice"),
        ("I’m Alice.", "Alice"),
        ("Hello, I'm Alice and I need help", "Alice"),
        ("I am Ömer, from Ankara", "Ömer"),
        ("I am called Alice", "Alice"),
        ("My name is Mary Ann Smith from Rome.", "Mary Ann Smith"),
        ("My name is Alice, and my favourite colour is blue", "Alice"),
    ],
)
def test_it_greets_by_name_and_remembers_the_name(said: str, name: str) -> None:
    greeting = ask(said)
    assert greeting.startswith((f"Hello, {name}!", f"Noted: your name is {name}."))
    for question in ("What is my name?", "what's my name", "Who am I?", "Do you remember my name?", "Tell me my name."):
        assert ask(said, assistant(greeting), "Fine weather.", question) == f"Your name is {name}."


@pytest.mark.parametrize(
    "said", ["I'm tired", "I am looking for a flight", "My name is not Alice", "What if my name is Alice?", "Alice"]
)
def test_a_sentence_without_a_name_states_none(said: str) -> None:
    assert ask(said, assistant("?"), "What is my name?").startswith("I do not know your name")


def test_the_last_statement_wins() -> None:
    assert (
        ask("My name is Alice", assistant("Hello"), "I'm Bob", assistant("Hello"), "Who am I?") == "Your name is Bob."
    )
    assert ask("My dog is Rex", "My dog is Max", assistant("!"), "What is my dog?") == "Your dog is Max."


def test_an_unknown_name_is_unknown_in_this_conversation() -> None:
    answer = ask("What is my name?")
    assert "do not know your name" in answer
    assert "in this conversation" in answer


def test_only_user_messages_state_facts() -> None:
    others = [assistant("My name is Eve"), tool("My name is Eve", tool_call_id="1"), system("My name is Eve")]
    assert ask("Hello", *others, "What is my name?").startswith("I do not know")


def test_it_keeps_simple_facts() -> None:
    told = "My favourite colour is blue, and my shoes are red; my lucky number is 3.14."
    assert ask(told, assistant("!"), "What is my favourite colour?") == "Your favourite colour is blue."
    assert ask(told, assistant("!"), "What is my favorite color?") == "Your favourite colour is blue."
    assert ask(told, assistant("!"), "What are my shoes?") == "Your shoes are red."
    assert ask(told, assistant("!"), "Do you know what my lucky number is?") == "Your lucky number is 3.14."
    assert ask(told, assistant("!"), "What is my hat?").startswith("I do not know your hat")


def test_it_quotes_the_first_and_the_last_message() -> None:
    history: list[str | Message] = ["It’s raining.", assistant("Yes."), "Now it snows.", assistant("No.")]
    assert ask(*history, "What did I say first?") == "You said first: It’s raining."
    assert ask(*history, "What did I say last?") == "You said last: Now it snows."
    assert ask(*history, "What was my last message?") == "You said last: Now it snows."
    assert "nothing before" in ask("What did I say first?")


def test_it_counts_the_messages_it_was_given() -> None:
    answer = ask(system("Be brief."), "a", assistant("b"), "c", assistant("d"), "How many messages are there?")
    assert answer == "I was given 4 messages before this one: 2 of yours and 2 of mine."


def test_otherwise_it_says_what_it_is_and_how_to_use_another() -> None:
    answer = ask(system("Be brief."), "a", assistant("b"), "Write a poem.")
    for part in ("turnlog's offline model", "rules", "2 earlier messages", "turnlog.models", "--model"):
        assert part in answer
    assert "1 earlier message " in ask("a", "b")


@pytest.mark.parametrize(
    "said", ["My name is Alice", "What is my name?", "What did I say first?", "How many messages?", "Sing!"]
)
def test_only_the_first_reply_names_the_model(said: str) -> None:
    assert ask(system("Be brief."), said).count("turnlog's offline model") == 1
    if said != "Sing!":
        assert "offline" not in ask("a", assistant("b"), said)


def test_it_forgets_messages_outside_the_window() -> None:
    history: list[str | Message] = ["My name is Alice", assistant("Hello"), "a", assistant("b"), "What is my name?"]
    assert "Alice" in ask(*history)
    assert ask(*history[2:]).startswith("I do not know")


def test_it_reads_blocks_and_accepts_messages_without_text() -> None:
    blocks = Message.from_dict(
        {"role": "user", "content": [{"type": "text", "text": "My name is Alice"}, {"type": "image", "url": "x"}]}
    )
    item = Message.from_dict({"type": "reasoning", "id": "r"})
    assert ask(blocks, item, assistant(None, tool_calls=[]), "Who am I?") == "Your name is Alice."
    assert "offline" in asyncio.run(offline([])).text
    assert "offline" in ask(item)
