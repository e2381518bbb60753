"""Plain functions as models: they run in the thread that called the pipeline."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias, cast

from ..pipeline import Model as AsyncModel
from ..pipeline import Piece, Reply
from ..pipeline.model import checked
from ..values.message import Message, MessageLike
from .caller import in_caller

Model: TypeAlias = Callable[
    ..., MessageLike | Reply | Iterator[Piece] | Awaitable[MessageLike | Reply] | AsyncIterator[Piece]
]
"""A model: `model(messages, **options)` answers a list of `Message`.

A model is a function that returns the answer, or a generator that yields the answer in pieces, plain or async, as in
`turnlog.Model`.  Plain ones run in the thread that called the pipeline.
"""

_END: Final = object()


def as_async(model: Model) -> AsyncModel:
    """Return a model for the asynchronous pipeline: the same one, or an adapter if a part of it is plain."""
    stream = getattr(model, "stream", None)
    is_async = _is_async(model) and (stream is None or _is_async(stream))
    if is_async or isinstance(model, type) or not isinstance(model, Callable):  # type: ignore[arg-type]
        return cast("AsyncModel", model)  # the pipeline refuses an object that cannot be called, and a class
    return _Adapter(model) if stream is None else _StreamAdapter(model, stream)


class _Adapter:
    """An async generator over a plain model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __call__(self, messages: Sequence[Message], **options: object) -> AsyncIterator[Piece]:
        return _pieces(self._model, messages, options)


class _StreamAdapter(_Adapter):
    """An adapter for an object that answers in pieces by its method `stream`."""

    def __init__(self, model: Model, stream: Model) -> None:
        super().__init__(model)
        self._stream = stream

    def stream(self, messages: Sequence[Message], **options: object) -> AsyncIterator[Piece]:
        """Yield the answer in pieces."""
        return _pieces(self._stream, messages, options)


async def _pieces(model: Model, messages: Sequence[Message], options: dict[str, object]) -> AsyncGenerator[Piece, None]:
    answer: Any = model(messages, **options) if _is_async(model) else await in_caller(model, messages, **options)
    if isinstance(answer, AsyncIterator):
        async for piece in answer:
            yield piece
    elif isinstance(answer, Iterator):
        try:
            while (piece := await in_caller(next, answer, _END)) is not _END:
                yield piece
        finally:
            if hasattr(answer, "close"):
                await in_caller(answer.close)
    else:
        reply = checked(await answer if isinstance(answer, Awaitable) else answer)
        if text := reply.message.text:
            yield text
        yield reply


def _is_async(function: Callable[..., Any]) -> bool:
    """Return whether a call gives a coroutine or an async generator, as far as that is known before the call."""
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one)
        for one in (function, getattr(type(function), "__call__", None))  # noqa: B004 - the method, not whether it exists
    )
