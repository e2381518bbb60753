"""`ScriptedModel`: a model for the tests of applications, which gives prepared answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ..pipeline import Reply
from ..values.message import Message, MessageLike, assistant

__all__ = ["ScriptedModel"]


class ScriptedModel:
    """A model that gives prepared answers, one for each request.

        model = ScriptedModel("Hello, Alice!", TimeoutError("the provider is down"), "Your name is Alice.")
        pipeline = Pipeline(store, model)

    Args:
        answers: A text, a message, a dictionary or a `Reply` for each request; an exception is raised instead.

    Attributes:
        requests: The messages of each request so far.
        options: The options of each request so far.
    """

    def __init__(self, *answers: str | MessageLike | Reply | BaseException) -> None:
        self._answers = list(answers)
        self.requests: list[list[Message]] = []
        self.options: list[dict[str, object]] = []

    async def __call__(self, messages: Sequence[Message], **options: object) -> MessageLike | Reply:
        self.requests.append(list(messages))
        self.options.append(options)
        number = len(self.requests)
        if number > len(self._answers):
            raise AssertionError(f"request {number} has no prepared answer: the model has {len(self._answers)}")
        answer = self._answers[number - 1]
        if isinstance(answer, BaseException):
            raise answer
        return assistant(answer) if isinstance(answer, str) else answer

    async def stream(self, messages: Sequence[Message], **options: object) -> AsyncIterator[str | MessageLike | Reply]:
        """Yield the text of the next answer word by word, and then the whole answer."""
        answer = await self(messages, **options)
        message = answer.message if isinstance(answer, Reply) else answer
        text = (message if isinstance(message, Message) else Message.from_dict(message)).text
        for place, word in enumerate(text.split(" ")):
            yield f" {word}" if place else word
        yield answer
