"""Models: async callables that return an answer whole or in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, nullcontext
from typing import TypeAlias

import msgspec

from ..errors import InvalidInput
from ..values.checks import shown
from ..values.message import Message, MessageLike, as_message, assistant
from .surrogates import paired


class Usage(msgspec.Struct, frozen=True):
    """The tokens of one request, as the provider reports them.

    Attributes:
        input: Tokens of the request, cached ones included.
        output: Tokens of the answer.
        cached: Tokens of the request that the provider read from its prompt cache.
    """

    input: int
    output: int
    cached: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input + other.input, self.output + other.output, self.cached + other.cached)


class Reply(msgspec.Struct, frozen=True):
    """A model's answer with the usage that the provider reports.

    Attributes:
        message: The answer; a dictionary becomes a `Message`.
        usage: The tokens of the request; None: not reported.
    """

    message: MessageLike
    usage: Usage | None = None


Piece: TypeAlias = str | MessageLike | Reply
"""An item of a streamed answer: a piece of text.  The last item is the whole answer if that holds more than text."""

Model: TypeAlias = Callable[..., Awaitable[MessageLike | Reply] | AsyncIterator[Piece]]
"""A model: `model(messages, **options)` answers a list of `Message`.

A model is an async function that returns the answer, or an async generator that yields the answer in pieces.  An object
may offer both: the pipeline calls the object itself for a whole answer, and its method `stream` for a streamed answer.
A pipeline with tools passes them in the option `tools`, a list of `Tool`.
"""


async def ask(
    model: Model, messages: Sequence[Message], options: Mapping[str, object], *, streamed: bool
) -> AsyncGenerator[str | Reply, None]:
    """Yield the text of an answer in pieces, and then the whole answer: a `Reply` that holds a `Message`.

    Args:
        model: The model.
        messages: The request; the model receives a copy of the list.
        options: Passed by keyword.
        streamed: Whether to use the model's method `stream`, if it has one.

    Raises:
        InvalidInput: The model is neither an async function nor an async generator, or its answer is not a message.
    """
    call = getattr(model, "stream", model) if streamed else model
    answer = call(list(messages), **options)
    if isinstance(answer, Awaitable):
        reply = checked(await answer)
        if streamed and (text := reply.message.text):
            yield text
        yield reply
        return
    if not isinstance(answer, AsyncIterator):
        raise InvalidInput(
            f"the model must be an async function or an async generator, and it returned {type(answer).__name__} at "
            "once: define it with async def"
        )
    said: list[str] = []
    whole: Checked | None = None
    async with aclosing(answer) if isinstance(answer, AsyncGenerator) else nullcontext():
        async for piece in answer:
            if whole is not None:
                raise InvalidInput("the model yielded another piece after its whole message: yield the message last")
            if isinstance(piece, str):
                if piece:  # providers send an empty first piece
                    said.append(piece)
                    yield piece
            else:
                whole = checked(piece)
    if whole is None:
        if not said:
            raise InvalidInput("the model's answer is empty: yield text, or a message such as assistant('Hello')")
        whole = Checked(assistant(paired("".join(said))))
    yield whole


class Checked(Reply, frozen=True):
    """A reply whose answer is a `Message`."""

    message: Message


def checked(answer: MessageLike | Reply) -> Checked:
    """Return the whole answer of a model as a reply.

    Raises:
        InvalidInput: It is not a message of the assistant, or its usage is not a `Usage`.
    """
    if isinstance(answer, Reply):
        if answer.usage is not None and not isinstance(answer.usage, Usage):
            raise InvalidInput(f"the usage must be Usage(input=..., output=...), not {shown(answer.usage)}")
        return Checked(_answered(answer.message), answer.usage)
    return Checked(_answered(answer))


def _answered(answer: MessageLike) -> Message:
    if not isinstance(answer, Mapping | Message) and not hasattr(answer, "model_dump"):
        raise InvalidInput(
            f"the model's answer must be a Message such as assistant(text), or a dictionary, not {shown(answer)}; a "
            "generator may also yield text"
        )
    try:
        message = as_message(answer, "the model's answer")
    except InvalidInput as error:
        error.answer = answer
        raise
    if message.role is None and message.content is None and message.is_plain:
        raise InvalidInput("the model's answer is empty: return a message such as assistant('Hello')")
    if message.role == "user":
        raise InvalidInput(f"the model's answer must not be a message of the user: {shown(message.to_dict())}")
    return message
