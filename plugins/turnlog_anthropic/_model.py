"""`AnthropicModel`: calls the Messages API."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from turnlog import Message, Reply, Tool
from turnlog.runtime import PerLoop, check_api_key, check_installed

from ._messages import answer_of, blocks_of, split, tool_of, usage_of

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

check_installed("anthropic")  # its import takes about a second, which looking the model up need not wait for

_DEFAULT: Final = "claude-sonnet-5-5"
"""The medium-sized current model of Anthropic (platform.claude.com, "Models overview")."""

_MAX_TOKENS: Final = 16_384
"""The largest number of tokens of an answer.  The API has no default.  Every current model can write 64,000 or more.
Anthropic's client refuses more than 21,333 for answers that are not streamed, because they may take more than 10
minutes."""

_CACHE: Final = {"type": "ephemeral"}
"""Caches the prompt up to its last block, for 5 minutes after each use (platform.claude.com, "Prompt caching",
"Automatic caching").  The next request begins with the same blocks, because windows move in steps."""

_KEYS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""The environment variables that Anthropic's client reads; it uses the first one that is set."""

_CONNECT: Final = 5.0
"""Timeout for a connection in seconds, the default of Anthropic's client (`anthropic.DEFAULT_TIMEOUT`)."""


class AnthropicModel:
    """A model over Anthropic's client and the Messages API: `Pipeline(store, AnthropicModel())`.

    Options are arguments of the client's `messages.create`: `Pipeline(options={"max_tokens": 1000})`.  By default
    `max_tokens` is 16,384, and `cache_control` caches the prompt.  An option that is None is left out of the request:
    `{"cache_control": None}` turns caching off.  `tools` may contain `Tool`s and dictionaries of the API.

    System messages become the parameter `system`.  Other messages are sent as they are stored; the API joins
    consecutive messages of one role.  Answers are stored as the API sent them, without entries that are None; an answer
    with a single text block is stored as text.  Errors are those of Anthropic's client, or of its HTTP library.

    Several event loops and threads may use one object.

    Args:
        model: The model's name; None: the environment variable `TURNLOG_ANTHROPIC_MODEL`, or `claude-sonnet-5-5`.
        base_url: The address of the server; None: the environment variable `ANTHROPIC_BASE_URL`, or Anthropic.
        timeout: Seconds to wait for the next bytes of the answer; the limit for a connection is 5 or less.
        max_retries: The largest number of retries if the connection fails, or the server asks for a retry.

    Attributes:
        model: The model's name.

    Raises:
        ConfigError: Neither `ANTHROPIC_API_KEY` nor `ANTHROPIC_AUTH_TOKEN` is set in the environment, or the value is
            not a key.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = 600.0,  # the default of Anthropic's client (`anthropic.DEFAULT_TIMEOUT`)
        max_retries: int = 2,  # the default of Anthropic's client (`anthropic.DEFAULT_MAX_RETRIES`)
    ) -> None:
        check_api_key(_KEYS, f"AnthropicModel needs an API key: set {_KEYS[0]}, or {_KEYS[1]} for a bearer token")
        self.model: str = model or os.environ.get("TURNLOG_ANTHROPIC_MODEL") or _DEFAULT

        from anthropic import AsyncAnthropic, Timeout

        def client() -> AsyncAnthropic:
            return AsyncAnthropic(
                base_url=base_url, timeout=Timeout(timeout, connect=min(timeout, _CONNECT)), max_retries=max_retries
            )

        self._clients = PerLoop(client, lambda client: client.close())

    async def __call__(self, messages: Sequence[Message], **options: object) -> Reply:
        """Return the whole answer.

        Args:
            messages: Messages of the Messages API, or messages with only a role and a text.
            options: Arguments of the client's `messages.create`.

        Raises:
            anthropic.AnthropicError: The request failed.
        """
        client = await self._clients.get()
        answer = await client.messages.create(**self._request(messages, options))
        return Reply(answer_of(answer), usage_of(answer.usage))

    async def stream(self, messages: Sequence[Message], **options: object) -> AsyncGenerator[str | Reply, None]:
        """Yield the text of the answer in pieces, then the whole answer.

        Raises:
            anthropic.AnthropicError: The request failed, or the connection ended before the whole answer arrived.
        """
        client = await self._clients.get()
        whole = False
        async with client.messages.stream(**self._request(messages, options)) as answer:
            async for event in answer:
                if event.type == "text":
                    yield event.text
                whole = whole or event.type == "message_stop"
            if not whole:
                from anthropic import APIConnectionError

                raise APIConnectionError(
                    message="the stream ended before the whole answer arrived", request=answer.response.request
                )
            message = await answer.get_final_message()
        yield Reply(answer_of(message), usage_of(message.usage))

    async def close(self) -> None:
        """Close the connections of all event loops.  The end of a loop also closes the connections of that loop."""
        await self._clients.close()

    def _request(self, messages: Sequence[Message], options: Mapping[str, Any]) -> dict[str, Any]:
        system, said = split(messages)
        request = {"max_tokens": _MAX_TOKENS, "cache_control": _CACHE, **options, "messages": said}
        request.setdefault("model", self.model)
        if system := [*blocks_of(request.get("system")), *system]:
            request["system"] = system
        if request.get("tools"):
            request["tools"] = [tool_of(tool) if isinstance(tool, Tool) else tool for tool in request["tools"]]
        return {name: value for name, value in request.items() if value is not None}

    def __repr__(self) -> str:
        return f"AnthropicModel({self.model!r})"
