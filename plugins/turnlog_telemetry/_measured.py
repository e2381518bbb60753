"""`Measured`: the span of one operation, which is the current span during the operation, and its measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import Final, NamedTuple, Self

from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from turnlog import Conflict, Session, SessionNotFound, SplitsSealed
from turnlog.errors import TurnlogError

from . import _conventions as names
from ._failures import Failures
from ._figures import Figures, figures_of, status_code_of
from ._instruments import Series

_ANSWERS: Final[tuple[type[TurnlogError], ...]] = (SessionNotFound, Conflict, SplitsSealed)
"""Errors that are expected answers: the span has `error.type`, but not the status `ERROR`."""


class Operation(NamedTuple):
    """The common data of all spans and measurements of one operation in one namespace.

    Attributes:
        name: The name of the method of the backend.
        span: The name of the spans.
        attributes: The attributes of each span at its start.
        series: The sums of its figures.
    """

    name: str
    span: str
    attributes: Mapping[str, str]
    series: Series


class Tools(NamedTuple):
    """The objects with which a layer measures.

    Attributes:
        tracer: Creates the spans.
        duration: Receives the duration of each operation in seconds.
        timer: Returns seconds, never decreasing.
        ids: Whether spans show session ids and owners.
        failures: Receives the errors of telemetry itself.
    """

    tracer: Tracer
    duration: Histogram
    timer: Callable[[], float]
    ids: bool
    failures: Failures


class Measured:
    """A context manager around one operation.  It passes on every exception, and raises none itself.

    Args:
        tools: The objects with which the layer measures.
        operation: The operation.
        asked: The `Change`, `Query` or `Record` of the call; None for all other operations.
        session: The id of the session; None: the operation has no session.
        owner: The owner among the other arguments of the call; None: none.

    Attributes:
        answer: The return value of the operation, to be set by the caller.
    """

    __slots__ = ("_asked", "_operation", "_owner", "_session", "_span", "_start", "_token", "_tools", "answer")

    def __init__(
        self, tools: Tools, operation: Operation, asked: object, session: str | None, owner: str | None
    ) -> None:
        self._tools = tools
        self._operation = operation
        self._asked = asked
        self._session = session
        self._owner = owner
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self.answer: object = None

    def __enter__(self) -> Self:
        tools, operation = self._tools, self._operation
        try:
            attributes: dict[str, str | int] | Mapping[str, str] = operation.attributes
            records = len(getattr(self._asked, "append", ()))
            if records > 1 or tools.ids:
                attributes = {**attributes, **self._more(records)}
            span = tools.tracer.start_span(operation.span, kind=SpanKind.CLIENT, attributes=attributes)
            if span.get_span_context().is_valid:
                self._span = span
                self._token = attach(set_span_in_context(span))
        except Exception as failure:  # noqa: BLE001 - an operation never fails because of telemetry
            tools.failures.note(failure)
        self._start = tools.timer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        seconds = self._tools.timer() - self._start
        if self._token is not None:
            detach(self._token)
        try:
            try:
                self._record(error, seconds)
            finally:
                if self._span is not None:
                    self._span.end()
        except Exception as failure:  # noqa: BLE001 - as above
            self._tools.failures.note(failure)

    def _more(self, records: int) -> dict[str, str | int]:
        """Return the attributes that depend on the call."""
        more: dict[str, str | int] = {}
        if records > 1:  # by the conventions, a single record is not a batch
            more[names.DB_OPERATION_BATCH_SIZE] = records
        if self._tools.ids:
            if self._session is not None:
                more[names.GEN_AI_CONVERSATION_ID] = self._session
            owner = self._owner or getattr(self._asked, "for_owner", None) or getattr(self._asked, "owner", None)
            if owner:
                more[names.ENDUSER_ID] = owner
        return more

    def _record(self, error: BaseException | None, seconds: float) -> None:
        series, span = self._operation.series, self._span
        if error is None:
            self._tools.duration.record(seconds, series.attributes)
            figures = figures_of(self._operation.name, self._asked, self.answer)
            if figures.messages is not None:
                series.add(figures.messages, figures.size or 0, repeat=figures.repeat)
            if span is not None and span.is_recording():
                self._describe(span, figures)
            return
        failure = {names.ERROR_TYPE: type(error).__qualname__}
        code = status_code_of(error)
        if code is not None:
            failure[names.DB_RESPONSE_STATUS_CODE] = code
        self._tools.duration.record(seconds, {**series.attributes, **failure})
        if span is not None and span.is_recording():
            span.set_attributes(failure)
            if not isinstance(error, _ANSWERS):
                span.set_status(StatusCode.ERROR)  # without the message, because it contains the session id

    def _describe(self, span: Span, figures: Figures) -> None:
        if figures.messages is not None:
            span.set_attribute(names.GEN_AI_MEMORY_RECORD_COUNT, figures.messages)
        if figures.size is not None:
            span.set_attribute(names.TURNLOG_BYTES, figures.size)
        if figures.repeat:
            span.set_attribute(names.TURNLOG_REPEAT, True)  # noqa: FBT003 - a positional argument of the API
        if figures.rows is not None:
            span.set_attribute(names.DB_RESPONSE_RETURNED_ROWS, figures.rows)
        if self._tools.ids and isinstance(self.answer, Session) and self.answer.info.owner:
            span.set_attribute(names.ENDUSER_ID, self.answer.info.owner)
