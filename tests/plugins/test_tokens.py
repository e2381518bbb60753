"""The token counters, with real tokenizers that are trained here, because vocabularies would need a download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiktoken
import tiktoken.registry
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from turnlog import ConfigError, InvalidInput, Message, Pipeline, PluginError, Window, assistant, open_store, tool, user
from turnlog.config import find_token_counter
from turnlog.pipeline import count_texts, estimate
from turnlog.values.json_value import JSON
from turnlog_tokens.tiktoken import TiktokenCounter
from turnlog_tokens.tokenizers import TokenizersCounter

TEXT = "The quick brown fox jumps over the lazy dog. "
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}


def encoding(name: str, *merged: str) -> tiktoken.Encoding:
    """Return an encoding whose tokens are the 256 bytes, some words, and the prefixes of these words."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    for word in merged:
        for end in range(2, len(word) + 1):
            ranks.setdefault(word[:end].encode(), len(ranks))
    return tiktoken.Encoding(
        name, pat_str=r"\w+|\W+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)}
    )


BYTES = encoding("bytes")
WORDS = encoding("words", "quick", "brown", "lazy")


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    """Return a byte-level BPE that was trained on the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT] * 10, trainer)
    return tokenizer


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Provide an empty cache of tiktoken and a proxy without a listener."""
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")


# ------------------------------------------------------------------------------------------------------------ tiktoken


def test_tiktoken_counts_tokens_of_texts_and_frames_of_messages() -> None:
    messages = [user(TEXT), assistant("Ünï")]
    assert TiktokenCounter(BYTES)(messages, model=None) == (len(TEXT) + 5 + 2 * 4, False)
    saved = len("quick") - 1 + len("brown") - 1 + len("lazy") - 1
    assert TiktokenCounter(WORDS)(messages, model="gpt-4o") == (len(TEXT) - saved + 5 + 2 * 4, False)
    assert WORDS.decode(WORDS.encode_ordinary(TEXT)) == TEXT, "decoding returns the text"
    assert TiktokenCounter(BYTES)([], model=None) == (0, False)


def test_tool_calls_and_results_count_as_json_and_as_text() -> None:
    call = json.dumps({"tool_calls": [CALL]}, separators=(",", ":"))
    result = 'Sunny.{"tool_call_id":"call-1"}'
    counter = TiktokenCounter(BYTES)
    assert counter([assistant(None, tool_calls=[CALL])], model=None).tokens == 4 + len(call)
    assert counter([tool("Sunny.", tool_call_id="call-1")], model=None).tokens == 4 + len(result)
    block: JSON = {"type": "tool_use", "id": "c", "name": "é", "input": {}}
    assert (
        counter([assistant([block])], model=None).tokens
        == 4 + len('{"type":"tool_use","id":"c","name":"é","input":{}}') + 1
    )


def test_an_image_of_any_size_counts_1600() -> None:
    def image(size: int) -> Message:
        return user([{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBOR" * size}}])

    for counter in (TiktokenCounter(BYTES), estimate):
        small, large = (counter([image(size)], model=None).tokens for size in (100, 100_000))
        assert small == large
        assert 1_600 < small < 1_700


def test_the_name_of_a_special_token_is_text() -> None:
    text = "<|endoftext|>"
    with pytest.raises(ValueError, match="disallowed special token"):
        BYTES.encode(text)  # as in a naive count
    assert TiktokenCounter(BYTES)([user(text)], model=None).tokens == 4 + len(text)


def test_the_encoding_is_the_one_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = {"o200k_base": WORDS, "cl100k_base": BYTES}
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", loaded)
    counter = TiktokenCounter()
    tokens = {model: counter([user("quick")], model=model).tokens for model in (None, "gpt-4o", "gpt-4", "claude-x")}
    assert tokens == {None: 5, "gpt-4o": 5, "gpt-4": 9, "claude-x": 5}
    assert TiktokenCounter("cl100k_base")([user("quick")], model="gpt-4o").tokens == 9


@pytest.mark.usefixtures("no_network")
def test_a_vocabulary_that_cannot_be_downloaded_is_an_error_with_the_next_step() -> None:
    with pytest.raises(ConfigError) as error:
        TiktokenCounter()
    for part in ("the vocabulary o200k_base (ProxyError)", "TIKTOKEN_CACHE_DIR", "get_encoding('o200k_base')"):
        assert part in str(error.value)
    assert "://" not in str(error.value)
    with pytest.raises(ConfigError, match="cl100k_base"):
        find_token_counter("tiktoken", encoding="cl100k_base")


@pytest.mark.usefixtures("no_network")
def test_a_vocabulary_of_another_model_is_an_error_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {"o200k_base": WORDS})
    counter = TiktokenCounter()
    assert counter([user("quick")], model="gpt-4o").tokens == 5
    with pytest.raises(ConfigError, match="cl100k_base"):
        counter([user("quick")], model="gpt-4")


@pytest.mark.parametrize("name", ["o200k", "", 5])
def test_an_encoding_that_tiktoken_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"encoding must be one of tiktoken's, .*o200k_base.*, not "):
        TiktokenCounter(name)


# ---------------------------------------------------------------------------------------------------------- tokenizers


def test_tokenizers_counts_tokens_of_texts_and_frames_of_messages(trained: Tokenizer) -> None:
    messages = [user(TEXT), assistant(TEXT * 3)]
    count = TokenizersCounter(trained)(messages, model=None)
    length = len(trained.encode(TEXT).ids)
    assert count == (4 * length + 2 * 4, False)
    assert length < len(TEXT) / 3, "it merges bytes into tokens"
    assert count == count_texts(messages, lambda text: len(trained.encode(text).ids))


def test_tokens_that_frame_a_whole_text_do_not_count(trained: Tokenizer) -> None:
    framed = Tokenizer.from_str(trained.to_str())
    framed.add_special_tokens(["<s>"])
    framed.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", framed.token_to_id("<s>") or 0)]
    )
    assert len(framed.encode(TEXT).ids) == len(trained.encode(TEXT).ids) + 1
    assert TokenizersCounter(framed)([user(TEXT)], model=None) == TokenizersCounter(trained)([user(TEXT)], model=None)


@pytest.mark.parametrize("limit", ["truncation", "padding"])
def test_a_tokenizer_that_truncates_or_pads_counts_whole_texts(limit: str, trained: Tokenizer, tmp_path: Path) -> None:
    """The settings of a file are ignored. A tokenizer of the caller is refused and not changed."""
    messages = [user(TEXT), assistant(TEXT * 20)]
    limited = Tokenizer.from_str(trained.to_str())
    if limit == "truncation":
        limited.enable_truncation(5)
    else:
        limited.enable_padding(length=1_000)
    path = tmp_path / "tokenizer.json"
    limited.save(str(path))
    expected = TokenizersCounter(trained)(messages, model=None)
    assert TokenizersCounter(path)(messages, model=None) == expected
    assert TokenizersCounter(str(path))(messages, model=None) == expected
    assert len(limited.encode(TEXT).ids) in (5, 1_000)
    with pytest.raises(InvalidInput, match=r"no_truncation\(\) and no_padding\(\)"):
        TokenizersCounter(limited)


@pytest.mark.parametrize("content", [None, "{}", "not JSON"])
def test_a_file_that_is_no_tokenizer_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInput, match=r"tokenizer '.*tokenizer\.json' is not the path of a readable"):
        TokenizersCounter(path)


# ------------------------------------------------------------------------------------------------------------- by name


def test_counters_are_found_by_name(trained: Tokenizer, tmp_path: Path) -> None:
    assert find_token_counter("estimate") is estimate
    trained.save(str(tmp_path / "tokenizer.json"))
    counter = find_token_counter("tokenizers", tokenizer=str(tmp_path / "tokenizer.json"))
    assert isinstance(counter, TokenizersCounter)
    assert isinstance(find_token_counter("tiktoken", encoding=BYTES), TiktokenCounter)
    with pytest.raises(PluginError, match=r"missing a required argument: 'tokenizer'; .*TokenizersCounter of turnlog"):
        find_token_counter("tokenizers")
    with pytest.raises(PluginError, match=r"there is no token counter named 'tictoken'; .*; did you mean 'tiktoken'\?"):
        find_token_counter("tictoken")


async def test_a_window_holds_as_many_tokens_as_the_counter_counts(trained: Tokenizer) -> None:
    given: list[int] = []

    async def model(messages: list[Message], **options: object) -> Message:
        given.append(len(messages) - 1)
        return assistant("")

    async with open_store("memory://") as store:
        for _ in range(40):
            await store.append("s", [user(TEXT), assistant(TEXT)])
        for counter in (TiktokenCounter(BYTES), TokenizersCounter(trained)):
            turn = counter([user(TEXT), assistant(TEXT)], model=None).tokens
            window = Window(tokens=10 * turn, least=1)
            await Pipeline(store, model, window=window, counter=counter).execute("s", "user", "next")
            await store.rewind("s", turns=1)
            assert given.pop() == 20
