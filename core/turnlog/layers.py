"""Layers: backends that wrap a backend.

`Layer` forwards everything.  `MessageLayer` and `PayloadLayer` are enough for most: they need one or two functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Final, Literal, TypeAlias

import msgspec

from .backend import Backend
from .errors import CorruptRecord, InvalidInput, OutcomeUnknown
from .payload import PLAIN, checked_body, codec_of, plain_body, rewrap, unwrap, wrap
from .rules.header import check_seal
from .values.change import Change, Expect, Receipt
from .values.key import Key
from .values.message import Message, check_values
from .values.metadata import Value
from .values.record import Record
from .values.session import Page, Query, Session
from .values.totals import Totals
from .values.version import Version

__all__ = ["POSITIONS", "Layer", "MessageLayer", "PayloadLayer", "Position", "stack_of"]

Position: TypeAlias = Literal["messages", "cache", "compression", "encryption", "anywhere"]
"""Where in a stack a layer belongs."""

POSITIONS: Final[tuple[Position, ...]] = ("messages", "cache", "compression", "encryption")
"""The order of a stack, the outermost first."""


class Layer(Backend):
    """A backend that wraps a backend and forwards every call.

    Override the methods that the layer is for.  A layer that stores something else than it is given also overrides
    `read`, `commit` and `seal`; `copy` then reads and commits through the layer, so that the copy is encoded anew.

    Args:
        inner: The backend to wrap; it is opened and closed with the layer.

    Raises:
        InvalidInput: `inner` is not a backend, or a layer in it belongs outside of this one.
    """

    position: ClassVar[Position] = "anywhere"
    """Where in a stack the layer belongs; a stack in another order is refused.

    A stack may have any number of layers for `messages` and `anywhere`, and one for each of the others.
    """

    portable: ClassVar[bool] = False
    """True if what the layer stores does not depend on the session: then the backend below copies sessions itself."""

    inner: Backend
    """The backend that is wrapped."""

    def __init__(self, inner: Backend) -> None:
        if not isinstance(inner, Backend):
            raise InvalidInput(f"inner must be a Backend, not {type(inner).__name__}: a Store goes around all layers")
        _check_position(type(self), inner)
        super().__init__(ttl=inner.ttl, clock=inner.clock)
        self.inner = inner

    @property
    def location(self) -> str | None:
        return self.inner.location

    def stats(self) -> Mapping[str, float]:
        """Return what the layer has counted, always under the same names, for a telemetry layer; nothing by default."""
        return {}

    async def traces(self, namespace: str, owner: str | None) -> tuple[str, ...]:
        """Return, for people to read, what may hold fragments of an owner's messages after the sessions were deleted.

        Args:
            namespace: The tenant.
            owner: The owner; None: the sessions had none, or it is unknown, and everything that may hold anybody's.
        """
        return await self.inner.traces(namespace, owner) if isinstance(self.inner, Layer) else ()

    def as_read(self, message: Message) -> Message:
        """Return a message as it would be read once it is stored: `Store.save` compares that with what is stored."""
        return self.inner.as_read(message) if isinstance(self.inner, Layer) else message

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        return await self.inner.read(key, last=last, before=before, since=since, touch=touch)

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await self.inner.commit(key, change)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        return await self.inner.delete(key, expect=expect, for_owner=for_owner)

    async def page(self, query: Query) -> Page:
        return await self.inner.page(query)

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        return await self.inner.namespaces(after=after, limit=limit)

    async def seal(self, key: Key, record: Record) -> bool | None:
        return await self.inner.seal(key, record)

    async def copy(
        self,
        source: Key,
        target: Key,
        *,
        at: int | None,
        change_id: str,
        expect: Expect = None,
        for_owner: str | None = None,
    ) -> Receipt:
        copy = self.inner.copy if self.portable else super().copy
        try:
            return await copy(source, target, at=at, change_id=change_id, expect=expect, for_owner=for_owner)
        except OutcomeUnknown as error:
            if self.portable and error.change is not None:
                await self._restore(error)
            raise

    async def _restore(self, error: OutcomeUnknown) -> None:
        """Turn the change of an error from what is stored into what comes through this layer when it is sent again."""

    async def totals(self, namespace: str) -> Totals:
        return await self.inner.totals(namespace)

    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:
        return self.inner.alone(key)

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    def check_open(self) -> None:
        self.inner.check_open()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.inner!r}>"


def stack_of(backend: Backend) -> Iterator[Backend]:
    """Yield the layers of a stack, the outermost first, and then the backend below them."""
    while isinstance(backend, Layer):
        yield backend
        backend = backend.inner
    yield backend


def _check_position(outer: type[Layer], inner: Backend) -> None:
    """Refuse a layer that belongs below one of those that it is put over.

    Raises:
        InvalidInput: One of them belongs outside of it, or at the same position.
    """
    if outer.position == "anywhere":
        return
    rank = POSITIONS.index(outer.position)
    for layer in stack_of(inner):
        if not isinstance(layer, Layer) or layer.position == "anywhere":
            continue
        name, below = type(layer).__name__, layer.position
        if POSITIONS.index(below) < rank:
            raise InvalidInput(
                f"{outer.__name__} ({outer.position}) cannot be over {name} ({below}): the order is "
                f"{', '.join(POSITIONS)}, the outermost first, so put {name} before it"
            )
        if below == outer.position != "messages":
            raise InvalidInput(
                f"{outer.__name__} cannot be over {name}: a stack has one layer for {below}, leave one of them out"
            )


class MessageLayer(Layer):
    """A layer that changes messages: redaction, enrichment.  Override `write_message`, and if needed the other two.

    `write_message` must be deterministic, and `write_message(read_message(stored)) == stored`: then a history that was
    loaded and extended can be saved.  Nothing below the layer keeps what the layer was given.
    """

    position: ClassVar[Position] = "messages"
    portable: ClassVar[bool] = True

    def write_message(self, message: Message) -> Message:
        """Return the message to store in place of one that the application writes; by default the same."""
        return message

    def read_message(self, message: Message) -> Message:
        """Return the message to hand out in place of one that is stored; by default the same."""
        return message

    def write_metadata(self, metadata: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return the metadata to store in place of those that the application writes; by default the same."""
        return metadata

    def as_read(self, message: Message) -> Message:
        return self.read_message(super().as_read(self.write_message(message)))

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        session = await self.inner.read(key, last=last, before=before, since=since, touch=touch)
        if type(self).read_message is MessageLayer.read_message:
            return session
        return msgspec.structs.replace(session, records=tuple([self._restored(one) for one in session.records]))

    async def commit(self, key: Key, change: Change) -> Receipt:
        append = tuple([self._written(record) for record in change.append])
        metadata = None if change.metadata is None else self.write_metadata(change.metadata)
        try:
            return await self.inner.commit(key, change.rewrite(append=append, metadata=metadata))
        except OutcomeUnknown as error:
            error.change = change  # it comes through this layer again
            raise

    async def seal(self, key: Key, record: Record) -> bool | None:
        return await self.inner.seal(key, record.mapped(self.write_message) if type(record) is Record else record)

    async def _restore(self, error: OutcomeUnknown) -> None:
        error.change = error.change.rewrite(append=tuple([self._restored(record) for record in error.change.append]))

    def _written(self, record: Record) -> Record:
        written = record.mapped(self.write_message)
        if written is not record and written.rounds == 1:
            check_values(written.messages)
        return written

    def _restored(self, record: Record) -> Record:
        try:
            return record.mapped(self.read_message)
        except CorruptRecord:
            return record  # it raises the error when its messages are read


class PayloadLayer(Layer):
    """A layer that changes encoded payloads: compression, encryption.  Implement `encode` and `decode`.

    An envelope names one codec.  A layer at the position `compression` is given the plain body and its envelope keeps
    the body's length and checksum; one at `encryption` is given the whole payload, compressed or not.
    """

    codec: ClassVar[int]
    """The codec id in the envelopes of what `encode` returns; 128 to 255 are free for private use."""

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes | None:
        """Return the bytes to store; None: store the payload as it is.

        Args:
            key: The session.
            record_id: Names the record within the session, the same in `decode`: bind what is encrypted to it.
            payload: The plain body, or at the position `encryption` the whole payload.
        """
        raise NotImplementedError

    def decode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        """Return what `encode` was given.

        Args:
            key: The session.
            record_id: As in `encode`.
            payload: What `encode` returned.

        Raises:
            ValueError: It cannot be decoded; the message says why.
        """
        raise NotImplementedError

    async def encode_records(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Return records as they are stored; override it to work in a thread, or to fetch a key first."""
        return tuple([self._encoded(key, record) for record in records])

    async def decode_records(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Return records as they were given to `encode_records`; override it together with that."""
        return tuple([self._decoded(key, record) for record in records])

    async def _restore(self, error: OutcomeUnknown) -> None:
        error.change = error.change.rewrite(append=await self.decode_records(error.key, error.change.append))

    def _encoded(self, key: Key, record: Record) -> Record:
        payload, id = record.payload, _record_id(record)
        if self.position == "encryption":
            data = self.encode(key, id, payload)
            return record if data is None else record.with_payload(wrap(data, self.codec), size=record.size)
        if codec_of(payload) != PLAIN:
            return record
        data = self.encode(key, id, plain_body(payload))
        return record if data is None else record.with_payload(rewrap(payload, self.codec, data))

    def _decoded(self, key: Key, record: Record) -> Record:
        if record.plain or codec_of(record.payload) != self.codec:
            return record
        payload, id = record.payload, _record_id(record)
        try:
            if self.position == "encryption":
                return record.with_payload(self.decode(key, id, checked_body(payload)))
            return record.with_payload(rewrap(payload, PLAIN, self.decode(key, id, unwrap(payload).body)))
        except (CorruptRecord, ValueError) as error:
            return record.damaged(f"{type(self).__name__} cannot decode a record: {error}")

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        session = await self.inner.read(key, last=last, before=before, since=since, touch=touch)
        if all(record.plain for record in session.records):
            return session
        return msgspec.structs.replace(session, records=await self.decode_records(key, session.records))

    async def commit(self, key: Key, change: Change) -> Receipt:
        if not change.append:
            return await self.inner.commit(key, change)
        try:
            return await self.inner.commit(key, change.rewrite(append=await self.encode_records(key, change.append)))
        except OutcomeUnknown as error:
            error.change = change  # it comes through this layer again
            raise

    async def seal(self, key: Key, record: Record) -> bool | None:
        check_seal(key, record)
        (record,) = await self.encode_records(key, (record,))
        return await self.inner.seal(key, record)


def _record_id(record: Record) -> str:
    """Return a name for a record within its session, known before it is stored and the same when it is read."""
    return f"{record.part}:{record.rounds}:{record.id}"
