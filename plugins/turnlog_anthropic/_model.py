"""The model."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from turnlog import Message, Reply, Tool
from turnlog.runtime import PerLoop, check_installed, check_key

from ._messages import answer_of, blocks_of, split, tool_of, usage_of

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

check_installed("anthropic")  # its import takes about a second, which looking the model up need not wait for

_DEFAULT: Final = "claude-sonnet-5-5"
"""The middle one of Anthropic's current models (platform.claude.com, "Models overview")."""

_MAX_TOKENS: Final = 16_384
"""The most tokens of an answer.  The API has no default.  Every current model can write 64,000 or more; Anthropic's
client refuses more than 21,333 for answers that are not streamed, because they may take more than 10 minutes."""

_CACHE: Final = {"type": "ephemeral"}
"""Have the prompt cached up to its last block, for 5 minutes after each use (platform.claude.com, "Prompt caching",
"Automatic caching").  The next request begins with the same blocks, because windows move in steps."""

_KEYS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""The variables that Anthropic's client reads, the first one that is set."""

_CONNECT: Final = 5.0
"""Seconds to connect: those of Anthropic's client (`anthropic.DEFAULT_TIMEOUT`)."""


class AnthropicModel:
    """A model over Anthropic's client and the Messages API: `Pipeline(store, AnthropicModel())`.

    Options are arguments of the client's `messages.create`: `Pipeline(options={"max_tokens": 1000})`.  By default
    `max_tokens` is 16,384, and `cache_control` has the prompt cached.  An option that is None is left out of the
    request: `{"cache_control": None}` turns caching off.  `tools` may hold `Tool`s and dictionaries of the API.

    System messages become the parameter `system`.  Other messages are sent as they are stored; the API joins several of
    one role.  Answers are stored as the API sent them, without entries that are None; an answer that is one text is
    stored as text.  Errors are those of Anthropic's client, or of its HTTP library.

    One object serves any number of event loops and threads.

    Args:
        model: The model's name; None: that of the variable `TURNLOG_ANTHROPIC_MODEL`, or `claude-sonnet-5-5`.
        base_url: Where the server is; None: at the address of the variable `ANTHROPIC_BASE_URL`, or at Anthropic.
        timeout: Seconds that a request waits for the next bytes of the answer; connecting may take 5.
        max_retries: How often a request that failed on its way, or that the server put off, is sent again.

    Attributes:
        model: The model's name.

    Raises:
        ConfigError: Neither of the variables `ANTHROPIC_API_KEY` and `ANTHROPIC_AUTH_TOKEN` is set, or it is not a key.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = 600.0,  # that of Anthropic's client (`anthropic.DEFAULT_TIMEOUT`)
        max_retries: int = 2,  # as many as Anthropic's client sends (`anthropic.DEFAULT_MAX_RETRIES`)
    ) -> None:
        check_key(_KEYS, f"there is no key for Anthropic: set {_KEYS[0]}, or {_KEYS[1]} for a bearer token")
        self.model = model or os.environ.get("TURNLOG_ANTHROPIC_MODEL") or _DEFAULT

        from anthropic import AsyncAnthropic, Timeout

        def client() -> AsyncAnthropic:
            return AsyncAnthropic(
                base_url=base_url, timeout=Timeout(timeout, connect=min(timeout, _CONNECT)), max_retries=max_retries
            )

        self._clients = PerLoop(client, lambda client: client.close())

    async def __call__(self, messages: Sequence[Message], **options: object) -> Reply:
        """Return the answer, whole.

        Args:
            messages: Messages of the Messages API, or with nothing but a role and a text.
            options: Arguments of the client's `messages.create`.

        Raises:
            anthropic.AnthropicError: The request failed.
        """
        client = await self._clients.get()
        answer = await client.messages.create(**self._request(messages, options))
        return Reply(answer_of(answer), usage_of(answer.usage))

    async def stream(self, messages: Sequence[Message], **options: object) -> AsyncGenerator[str | Reply, None]:
        """Yield the answer's text in pieces, and at the end the whole answer.

        Raises:
            anthropic.AnthropicError: The request failed, or the answer ended before it was whole.
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
                    message="the stream ended before the answer was whole", request=answer.response.request
                )
            message = await answer.get_final_message()
        yield Reply(answer_of(message), usage_of(message.usage))

    async def close(self) -> None:
        """Close the connections of all event loops; a loop that ends closes its own."""
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
