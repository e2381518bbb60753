"""`Layer`, `MessageLayer` and `PayloadLayer`: backends that wrap a backend.

`Layer` forwards every call.  Most layers derive from `MessageLayer` or `PayloadLayer` and implement one or two methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Final, Literal, TypeAlias, TypeVar

import msgspec

from .backend import Backend
from .backend_check import check_backend
from .errors import CorruptRecord, InvalidInput, OutcomeUnknown
from .payload import PLAIN, checked_body, codec_of, plain_body, rewrap, unwrap, wrap
from .rules.sealing import check_seal
from .values.capability import Capability
from .values.change import Change, Expect, Receipt
from .values.json_value import JSON
from .values.key import Key
from .values.message import Message, check_messages
from .values.query import Query
from .values.record import Record
from .values.session import Page, Session
from .values.totals import Totals
from .values.version import Version

__all__ = ["POSITIONS", "Layer", "MessageLayer", "PayloadLayer", "Position", "find_layer", "stack_of"]

_L = TypeVar("_L", bound="Layer")

Position: TypeAlias = Literal["messages", "cache", "compression", "encryption", "anywhere"]
"""The position of a layer in a stack."""

POSITIONS: Final[tuple[Position, ...]] = ("messages", "cache", "compression", "encryption")
"""The positions in the order of a stack, outermost first."""


class Layer(Backend):
    """A backend that wraps a backend and forwards every call.

    A subclass overrides the methods whose behaviour it changes.  A layer that changes the stored data overrides `read`,
    `commit` and `seal`.  `copy` then reads and commits through the layer, which encodes the copy again.

    Args:
        inner: The backend to wrap; the layer opens and closes it.

    Raises:
        InvalidInput: `inner` is not a backend, or contains a layer that must be above this one, or a second layer at a
            position that allows only one.
    """

    position: ClassVar[Position] = "anywhere"
    """The layer's position in a stack.  The constructor refuses a stack that is not in the order of `POSITIONS`.

    A stack may have any number of layers at `messages` and `anywhere`, and one at each other position.
    """

    portable: ClassVar[bool] = False
    """True if the stored form does not depend on the session's key: then the backend may copy records as they are."""

    inner: Backend
    """The wrapped backend."""

    def __init__(self, inner: Backend) -> None:
        check_backend(inner, type(self).__name__)
        _check_position(type(self), inner)
        super().__init__(ttl=inner.ttl, clock=inner.clock)
        self.inner = inner
        self.capabilities: frozenset[Capability] = inner.capabilities

    @property
    def location(self) -> str | None:
        return self.inner.location

    def stats(self) -> Mapping[str, float]:
        """Return the layer's counters by name, for a telemetry layer.

        A layer must not change the names of its counters.  The default returns no counters.
        """
        return {}

    async def traces(self, namespace: str, owner: str | None) -> tuple[str, ...]:
        """Describe data that may still contain parts of an owner's messages after the sessions were deleted.

        Args:
            namespace: The tenant.
            owner: The owner; None: describe the data that may contain messages of anybody.
        """
        return await self.inner.traces(namespace, owner) if isinstance(self.inner, Layer) else ()

    def as_read(self, message: Message) -> Message:
        """Return a message as `read` would return it after it was stored; `Store.save` compares this form."""
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
        """Decode `error.change`, so that it passes through this layer again when it is sent again."""

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
    """Yield the layers of a stack, outermost first, and then its backend."""
    while isinstance(backend, Layer):
        yield backend
        backend = backend.inner
    yield backend


def find_layer(backend: Backend, kind: type[_L]) -> _L:
    """Return the outermost layer of a class in a stack.

    Raises:
        InvalidInput: The stack has no such layer.
    """
    if not isinstance(kind, type):
        raise InvalidInput(f"find takes a class such as CacheLayer, not {kind!r}")
    for layer in stack_of(backend):
        if isinstance(layer, kind):
            return layer
    raise InvalidInput(
        f"this store has no {kind.__name__}: open the store with this layer, as in open_store(url, layers=[...])"
    )


def _check_position(outer: type[Layer], inner: Backend) -> None:
    """Refuse `outer` if `inner` contains a layer that must be above it, or a second layer at its position.

    Only `messages` and `anywhere` allow several layers.

    Raises:
        InvalidInput: `outer` is refused; the message names the right order.
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
                f"{outer.__name__} ({outer.position}) cannot wrap {name} ({below}): write "
                f"{name}({outer.__name__}(backend)); the order of positions is {', '.join(POSITIONS)}"
            )
        if below == outer.position != "messages":
            raise InvalidInput(
                f"{outer.__name__} cannot wrap {name}: a stack has at most one layer for {below}; remove one of the two"
            )


class MessageLayer(Layer):
    """A layer that changes messages, for redaction or enrichment.

    A subclass overrides `write_message`, and `read_message` and `write_metadata` if it needs them.  `write_message`
    must be deterministic, and `write_message(read_message(stored)) == stored`; otherwise `Store.save` of a loaded
    history raises `Conflict`.  The layers and the backend below see only written messages.
    """

    position: ClassVar[Position] = "messages"
    portable: ClassVar[bool] = True

    def write_message(self, message: Message) -> Message:
        """Return the message to store for a message that the application writes; by default the same one."""
        return message

    def read_message(self, message: Message) -> Message:
        """Return the message that the application reads for a stored message; by default the same one."""
        return message

    def write_metadata(self, metadata: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Return the metadata to store for metadata that the application writes; by default the same."""
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
            error.change = change  # plain: it passes through this layer again
            raise

    async def seal(self, key: Key, record: Record) -> bool | None:
        return await self.inner.seal(key, record.mapped(self.write_message) if type(record) is Record else record)

    async def _restore(self, error: OutcomeUnknown) -> None:
        error.change = error.change.rewrite(append=tuple([self._restored(record) for record in error.change.append]))

    def _written(self, record: Record) -> Record:
        written = record.mapped(self.write_message)
        if written is not record and written.rounds == 1:
            check_messages(written.messages)
        return written

    def _restored(self, record: Record) -> Record:
        try:
            return record.mapped(self.read_message)
        except CorruptRecord:
            return record  # reading its messages raises the error


class PayloadLayer(Layer):
    """A layer that changes encoded payloads, for compression or encryption.

    A subclass implements `encode` and `decode` and sets `codec` and `position`.  At the position `compression` it gets
    the plain body of a payload, and the envelope keeps the body's length and checksum.  At `encryption` it gets the
    whole payload with its envelope, compressed or not, and the result gets a second envelope.  Each envelope names one
    codec.
    """

    codec: ClassVar[int]
    """The codec id that the envelope stores; 128 to 255 are for private use."""

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes | None:
        """Return the bytes to store; None: store the payload unchanged.

        Args:
            key: The session.
            record_id: The record's name within the session; `decode` gets the same one.  An encryption layer should
                authenticate it, together with the session's `Key`, as associated data.
            payload: The plain body, or at the position `encryption` the whole payload.
        """
        raise NotImplementedError

    def decode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        """Return the payload that `encode` was called with.

        Args:
            key: The session.
            record_id: As in `encode`.
            payload: The bytes that `encode` returned.

        Raises:
            ValueError: The bytes cannot be decoded; the message says why.
        """
        raise NotImplementedError

    async def encode_records(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Return records in their stored form.  Override this to encode in a thread, or to fetch an encryption key."""
        return tuple([self._encoded(key, record) for record in records])

    async def decode_records(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Return stored records in their plain form.  Override this together with `encode_records`."""
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
            error.change = change  # plain: it passes through this layer again
            raise

    async def seal(self, key: Key, record: Record) -> bool | None:
        check_seal(key, record)
        (record,) = await self.encode_records(key, (record,))
        return await self.inner.seal(key, record)


def _record_id(record: Record) -> str:
    """Return a record's name within its session: known before the commit, and the same when it is read."""
    return f"{record.part}:{record.rounds}:{record.id}"
