"""`OpenAIModel`: calls the Chat Completions API."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Final

from turnlog import Message, Reply, Tool, Usage
from turnlog.runtime import PerLoop, check_api_key, check_installed

from ._deltas import add_delta, finished

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import CompletionUsage

check_installed("openai")  # its import takes about half a second, which looking the model up need not wait for

_DEFAULT: Final = "gpt-5.4-mini"
"""A small, current model.  It calls tools over Chat Completions unless reasoning is requested.  Newer models of OpenAI
refuse tools there without `reasoning_effort="none"` (developers.openai.com/api/docs/models)."""

_KEY: Final = "OPENAI_API_KEY"
"""The environment variable that OpenAI's client reads."""

_CONNECT: Final = 5.0
"""Timeout for a connection in seconds, the default of OpenAI's client (`openai.DEFAULT_TIMEOUT`)."""


class OpenAIModel:
    """A model over OpenAI's client and the Chat Completions API: `Pipeline(store, OpenAIModel())`.

    Options are arguments of the client's `chat.completions.create`: `Pipeline(options={"temperature": 0})`.  An option
    that is None is left out of the request.  For example, `{"stream_options": None}` does not request the usage of
    streamed answers, for servers without this parameter.  `tools` may contain `Tool`s and dictionaries of the API.

    Messages are sent as they are stored.  Answers are stored as the API sent them, without entries that are None or an
    empty list.  Errors are those of OpenAI's client, or of its HTTP library.

    Several event loops and threads may use one object.

    Args:
        model: The model's name at the server; None: the environment variable `TURNLOG_OPENAI_MODEL`, or `gpt-5.4-mini`.
        base_url: The address of the server; None: the environment variable `OPENAI_BASE_URL`, or OpenAI.
        timeout: Seconds to wait for the next bytes of the answer; the limit for a connection is 5 or less.
        max_retries: The largest number of retries if the connection fails, or the server asks for a retry.

    Attributes:
        model: The model's name.

    Raises:
        ConfigError: The environment variable `OPENAI_API_KEY` is not set, or is not a key.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = 600.0,  # the default of OpenAI's client (`openai.DEFAULT_TIMEOUT`)
        max_retries: int = 2,  # the default of OpenAI's client (`openai.DEFAULT_MAX_RETRIES`)
    ) -> None:
        check_api_key([_KEY], f"OpenAIModel needs an API key: set {_KEY} (to any text, if the server requires no key)")
        self.model: str = model or os.environ.get("TURNLOG_OPENAI_MODEL") or _DEFAULT

        from openai import AsyncOpenAI, Timeout

        def client() -> AsyncOpenAI:
            return AsyncOpenAI(
                base_url=base_url, timeout=Timeout(timeout, connect=min(timeout, _CONNECT)), max_retries=max_retries
            )

        self._clients = PerLoop(client, lambda client: client.close())

    async def __call__(self, messages: Sequence[Message], **options: object) -> Reply:
        """Return the whole answer.

        Args:
            messages: Messages of Chat Completions, or messages with only a role and a text.
            options: Arguments of the client's `chat.completions.create`.

        Raises:
            openai.OpenAIError: The request failed.
        """
        client = await self._clients.get()
        answer = await client.chat.completions.create(**self._request(messages, options))
        return Reply(finished(answer.choices[0].message.to_dict()), _usage(answer.usage))

    async def stream(self, messages: Sequence[Message], **options: object) -> AsyncGenerator[str | Reply, None]:
        """Yield the text of the answer in pieces, then the whole answer.

        Raises:
            openai.OpenAIError: The request failed, or the connection ended before the whole answer arrived.
        """
        client = await self._clients.get()
        request = self._request(messages, {"stream_options": {"include_usage": True}, **options, "stream": True})
        message: dict[str, Any] = {}
        usage: CompletionUsage | None = None
        whole = False
        async with await client.chat.completions.create(**request) as answer:
            async for chunk in answer:
                usage = chunk.usage or usage
                for choice in chunk.choices[:1]:
                    add_delta(message, choice.delta.to_dict())
                    whole = whole or choice.finish_reason is not None
                    if choice.delta.content:
                        yield choice.delta.content
            if not whole:
                from openai import APIConnectionError

                raise APIConnectionError(
                    message="the stream ended before the whole answer arrived", request=answer.response.request
                )
        yield Reply(finished(message), _usage(usage))

    async def close(self) -> None:
        """Close the connections of all event loops.  The end of a loop also closes the connections of that loop."""
        await self._clients.close()

    def _request(self, messages: Sequence[Message], options: dict[str, Any]) -> dict[str, Any]:
        request = {"model": self.model, "messages": [message.to_dict() for message in messages], **options}
        if request.get("tools"):
            request["tools"] = [_function(tool) if isinstance(tool, Tool) else tool for tool in request["tools"]]
        return {name: value for name, value in request.items() if value is not None}

    def __repr__(self) -> str:
        return f"OpenAIModel({self.model!r})"


def _function(tool: Tool) -> dict[str, Any]:
    """Return a tool in the format of the API (`FunctionDefinition`)."""
    described = {"description": tool.description} if tool.description else {}
    return {"type": "function", "function": {"name": tool.name, **described, "parameters": tool.schema}}


def _usage(usage: CompletionUsage | None) -> Usage | None:
    """Return the tokens of a request; `prompt_tokens` includes the cached tokens."""
    if usage is None:
        return None
    details = usage.prompt_tokens_details
    return Usage(usage.prompt_tokens, usage.completion_tokens, (details and details.cached_tokens) or 0)
