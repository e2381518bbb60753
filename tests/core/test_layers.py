"""Layers: positions in a stack, message layers and payload layers.

These tests use small layers, like those of an application.  A comment names the bugs in `turnlog.layers` with which
each test has failed.
"""

from __future__ import annotations

import gc
import itertools
import zlib
from collections.abc import Iterator, Mapping
from hashlib import shake_128
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, ClassVar, cast

import msgspec
import pytest
from msgspec.structs import replace

from turnlog import (
    ANY,
    Backend,
    Change,
    Conflict,
    CorruptRecord,
    InvalidInput,
    Key,
    Layer,
    Message,
    MessageLayer,
    OutcomeUnknown,
    PayloadLayer,
    Receipt,
    Record,
    Session,
    SplitsSealed,
    Store,
    TooLarge,
    assistant,
    tool,
    user,
)
from turnlog.errors import Closed
from turnlog.layers import POSITIONS, Position, stack_of
from turnlog.payload import codec_of, plain_body, wrap
from turnlog.values import JSON
from turnlog_memory import MemoryBackend

KEY = Key("default", "s")
SECRET = "hunter2"  # noqa: S105 - the text that `leaks` searches for

# ------------------------------------------------------------------------------------------------------------ positions


class Messages(Layer):
    position = "messages"


class Cache(Layer):
    position = "cache"


class Compression(Layer):
    position = "compression"


class Encryption(Layer):
    position = "encryption"


LAYERS: list[type[Layer]] = [Messages, Cache, Compression, Encryption]


def stack(*layers: type[Layer]) -> Backend:
    """Return a stack over memory, with the outermost layer first."""
    backend: Backend = MemoryBackend()
    for layer in reversed(layers):
        backend = layer(backend)
    return backend


def test_there_is_a_layer_here_for_each_position() -> None:
    assert [layer.position for layer in LAYERS] == list(POSITIONS)


@pytest.mark.parametrize("between", [(), (Layer,), (Layer, Layer)])
@pytest.mark.parametrize("inner", LAYERS)
@pytest.mark.parametrize("outer", LAYERS)
def test_a_layer_may_be_over_those_that_come_after_it(
    outer: type[Layer], inner: type[Layer], between: tuple[type[Layer], ...]
) -> None:
    # Fails if `_check_position` compares only the next layer, uses `<=` for `<`, or lacks its second error.
    right = LAYERS.index(outer) < LAYERS.index(inner) or outer is inner is Messages
    if right:
        stacked = stack(outer, *between, inner)
        assert [type(one) for one in stack_of(stacked)] == [outer, *between, inner, MemoryBackend]
        return
    with pytest.raises(InvalidInput) as caught:
        stack(outer, *between, inner)
    said = str(caught.value)
    assert said.startswith(f"{outer.__name__} ") and f"wrap {inner.__name__}" in said
    assert ("one layer for" in said) == (outer is inner)


def test_one_order_of_all_four_is_right() -> None:
    for order in itertools.permutations(LAYERS):
        if list(order) == LAYERS:
            stack(*order)
        else:
            with pytest.raises(
                InvalidInput, match="the order of positions is messages, cache, compression, encryption"
            ):
                stack(*order)


def test_a_layer_for_anywhere_may_be_anywhere() -> None:
    # Fails without the `continue` for `anywhere`.
    for place in range(len(LAYERS) + 1):
        stack(*LAYERS[:place], Layer, *LAYERS[place:])
    stack(Layer, Messages, Layer, Messages, Layer, Cache, Layer, Compression, Layer, Encryption, Layer)


def test_a_layer_is_made_over_a_backend() -> None:
    for wrong in (Store(MemoryBackend()), "memory://", None, MemoryBackend):
        with pytest.raises(
            InvalidInput, match=r"Layer needs a Backend, not .*(store.backend|open_store|MemoryBackend)"
        ):
            Layer(wrong)  # type: ignore[arg-type]


async def test_a_layer_has_the_options_of_its_backend_and_opens_and_closes_it() -> None:
    # Fails if `Layer.close` closes only the layer itself.
    backend = MemoryBackend(ttl=5, clock=lambda: 7.0)
    layer = Layer(Layer(backend))
    assert (layer.ttl, layer.clock()) == (5, 7.0)
    assert layer.stats() == {}
    assert await layer.traces("default", "ann") == ()
    async with layer:
        layer.check_open()
    with pytest.raises(Closed) as closed:
        backend.check_open()
    assert str(closed.value) == "the store is not open: use it inside its 'with' block, or after open()"


# ------------------------------------------------------------------------------------------------------ message layers


def redacted(value: JSON) -> JSON:
    """Return a JSON value with the secret removed from all texts, but not from names of entries."""
    if isinstance(value, str):
        return value.replace(SECRET, "[redacted]")
    if isinstance(value, list):
        return [redacted(item) for item in value]
    if isinstance(value, dict):
        return {name: redacted(item) for name, item in value.items()}
    return value


class Redaction(MessageLayer):
    """Removes a secret before messages and metadata are stored."""

    def write_message(self, message: Message) -> Message:
        return Message.from_dict(cast("dict[str, JSON]", redacted(message.to_dict())))

    def write_metadata(self, metadata: Mapping[str, JSON]) -> Mapping[str, JSON]:
        return {name: redacted(value) for name, value in metadata.items()}


CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "login", "arguments": f'{{"password": "{SECRET}"}}'},
}
SAID = [
    user(f"My password is {SECRET}."),
    user([{"type": "text", "text": f"Again: {SECRET}"}, {"type": "image", "source": {"alt": [SECRET]}}]),
    assistant(None, tool_calls=[CALL], reasoning=f"It is {SECRET}"),
    tool(f"{SECRET} is right", tool_call_id="c1"),
    assistant("Welcome!"),
]


def reachable(root: object) -> Iterator[object]:
    """Yield every object that can be reached from an instance, except code and objects reachable through code only."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        code = isinstance(one, type | ModuleType | FunctionType | BuiltinFunctionType | MethodType | CodeType)
        if id(one) in seen or code:
            continue
        seen.add(id(one))
        yield one
        waiting += gc.get_referents(one)
        if isinstance(one, msgspec.Struct):  # `get_referents` ignores objects with gc=False
            waiting += [getattr(one, name) for name in one.__struct_fields__]


def leaks(backend: Backend, secret: str = SECRET) -> list[object]:
    """Return the texts and bytes in a backend that contain a secret."""
    found = list(reachable(backend))
    assert len(found) > 30
    return [
        one
        for one in found
        if (isinstance(one, str) and secret in one) or (isinstance(one, bytes) and secret.encode() in one)
    ]


async def test_a_secret_in_a_store_without_the_layer_is_found() -> None:
    """`leaks` finds the secret in a text, in blocks, in arguments, in metadata, and in encoded records."""
    for message in SAID[:4]:
        backend = MemoryBackend()
        await Store(backend).append("s", [message])
        assert leaks(backend)
    backend = MemoryBackend()
    await Store(backend).merge_metadata("s", {"title": [SECRET]})
    assert leaks(backend)
    record = Record.of((SAID[0],), id="t", time=0.0)
    backend = MemoryBackend()
    await backend.commit(KEY, Change(append=(record.with_payload(record.payload),)))
    assert leaks(backend)


async def test_nothing_below_a_redaction_keeps_what_it_removed() -> None:
    # Fails if `MessageLayer.commit` passes on the metadata, the records, or the old change in `asked`, if
    # `Record.mapped` keeps the payload, or if `seal` maps nothing.
    backend = MemoryBackend()
    store = Store(Redaction(backend))
    for place, message in enumerate(SAID):
        for _ in range(2):  # the second one is a repeat
            metadata: dict[str, JSON] = {"title": [f"It is {SECRET}"], "n": place}
            await store.append("s", [message], turn_id=f"t{place}", metadata=metadata)
    await store.save("saved", SAID)
    await store.save("saved", [*SAID, *SAID])
    await store.save("saved", [*SAID[:3], *SAID], expect=ANY)
    await store.fork("s", "copy", at=3)
    await store.rewind("saved", messages=1)
    encoded = Record.of((SAID[0],), id="encoded", time=0.0)
    await store.backend.commit(KEY, Change(append=(encoded.with_payload(encoded.payload),)))
    records = (await store.backend.read(KEY)).records
    assert await store.backend.seal(KEY, Record.seal(records[1:4])) is True
    texts = [redacted(message.to_dict()) for message in SAID]
    assert [message.to_dict() for message in await store.load("s")][:5] == texts
    assert dict((await store.info("s")).metadata) == {"title": ["It is [redacted]"], "n": 4}
    del records, encoded
    assert leaks(backend) == []


async def test_a_seal_is_redacted_too() -> None:
    """The caller seals a record with other messages than the stored ones."""
    # Fails if `seal` maps nothing.
    backend = MemoryBackend()
    store = Store(Redaction(backend))
    for place in range(3):
        await store.append("s", [user(f"{place} [redacted]")])
    records = (await backend.read(KEY)).records
    unredacted = Record.seal(records).mapped(lambda message: user(message.text.replace("[redacted]", SECRET)))
    assert await store.backend.seal(KEY, unredacted) is True
    assert [message.text for message in await store.load("s")] == [f"{place} [redacted]" for place in range(3)]
    assert leaks(backend) == []


async def test_a_loaded_history_is_extended_and_saved() -> None:
    # Fails if `Store` compares the messages to be written: `as_read=None` in `common`.
    backend = MemoryBackend()
    store = Store(Layer(Redaction(backend)))  # an outer layer passes `as_read` on
    receipt = await store.save("s", SAID)
    loaded = await store.load("s")
    assert loaded[0].text == "My password is [redacted]."
    for history in (loaded, SAID):  # the loaded history, and the application's own
        more = [*history, user(f"And {SECRET}")]
        extended = await store.save("s", more)
        assert extended.turns == receipt.turns + 1
        again = await store.save("s", more)
        assert (again.version, again.previous) == (extended.version, extended.version)  # nothing is written
        await store.rewind("s", turns=1)
    with pytest.raises(Conflict, match=r"save would discard 1 of the 5 stored messages .* ends before messages\[4\]"):
        await store.save("s", SAID[:4])
    assert leaks(backend) == []


class Numbering(MessageLayer):
    """Stores texts in lower case, and returns them with a mark."""

    def write_message(self, message: Message) -> Message:
        return user(message.text.removesuffix(" (read)").lower())

    def read_message(self, message: Message) -> Message:
        return user(f"{message.text} (read)")


async def test_a_layer_that_changes_what_is_read_is_saved_through_as_well() -> None:
    # Fails if `as_read` does not call `read_message`.
    backend = MemoryBackend()
    store = Store(Numbering(backend))
    await store.save("s", [user("One"), user("Two")])
    assert [message.text for message in await store.load("s")] == ["one (read)", "two (read)"]
    assert [message.text for message in (await backend.read(KEY)).messages] == ["one", "two"]
    receipt = await store.save("s", [*await store.load("s"), user("Three")])
    assert (receipt.number, receipt.turns) == (2, 3)
    assert (await store.save("s", [user("ONE"), user("Two"), user("three")])).turns == 3
    assert [message.text for message in (await backend.read(KEY)).messages] == ["one", "two", "three"]


async def test_message_layers_are_applied_from_the_outside_in_and_back() -> None:
    # Fails if `as_read` does not call `super().as_read`.
    store = Store(Numbering(Layer(Redaction(MemoryBackend()))))
    await store.save("s", [user(f"One {SECRET}")])
    assert [message.text for message in await store.load("s")] == ["one [redacted] (read)"]
    receipt = await store.save("s", [user(f"ONE {SECRET}"), user("Two")])
    assert (receipt.number, receipt.turns) == (1, 2)


async def test_a_damaged_record_hides_no_other_from_a_message_layer() -> None:
    # Fails if `MessageLayer.read` maps without `_restored`.
    backend = MemoryBackend()
    store = Store(Numbering(backend))
    records = [Record.of((user(f"q{n}"),), id=f"t{n}", time=0.0) for n in range(3)]
    records[1] = records[1].with_payload(records[1].payload[:-1])
    await backend.commit(KEY, Change(append=tuple(records)))
    session = await store.session("s")
    assert [session.records[place].messages for place in (0, 2)] == [(user("q0 (read)"),), (user("q2 (read)"),)]
    with pytest.raises(CorruptRecord) as caught:
        await store.load("s")
    assert (caught.value.key, caught.value.turn) == (KEY, 1)


# ------------------------------------------------------------------------------------------------------ payload layers


class Secret(PayloadLayer):
    """Encrypts well enough for a test: XOR with a key stream derived from the session and the record."""

    codec = 200
    position: ClassVar[Position] = "encryption"

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes | None:
        stream = shake_128(f"{key.namespace}|{key.session}|{record_id}".encode()).digest(len(payload))
        return bytes(a ^ b for a, b in zip(payload, stream, strict=True))

    def decode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        plain = self.encode(key, record_id, payload)
        assert plain is not None
        return plain


class Deflate(PayloadLayer):
    """Compresses payloads that become smaller."""

    codec = 201
    position: ClassVar[Position] = "compression"

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes | None:
        data = zlib.compress(payload)
        return data if len(data) < len(payload) else None

    def decode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        try:
            return zlib.decompress(payload)
        except zlib.error as error:
            raise ValueError(str(error)) from None


LONG = user(f"{SECRET} " * 50)


async def payloads(backend: Backend, session: str = "s") -> list[bytes]:
    return [record.payload for record in (await backend.read(Key("default", session))).records]


async def test_encryption_below_compression_stores_neither_text_nor_compressed_text() -> None:
    # Fails if `_encoded` passes the plain body to the encryption, or if `commit` encodes nothing.
    backend = MemoryBackend()
    store = Store(Deflate(Secret(backend)))
    assert repr(store.backend) == "<Deflate over <Secret over <MemoryBackend>>>"
    await store.append("s", [LONG], turn_id="t0")
    await store.append("s", [user(SECRET)], turn_id="t1", open=True)
    await store.append("s", [assistant(SECRET)], turn_id="t1", part=1)
    assert await store.load("s") == [LONG, user(SECRET), assistant(SECRET)]
    stored = await payloads(backend)
    assert [codec_of(payload) for payload in stored] == [200, 200, 200]
    assert len(stored[0]) < len(LONG.text) / 3
    assert leaks(backend) == []
    assert zlib.compress(plain_body(Record.of((LONG,), id="t0", time=0.0).payload)) not in stored[0]
    between = await payloads(store.find(Secret))
    assert [codec_of(payload) for payload in between] == [201, 0, 0]  # a short payload is not compressed
    assert [len(payload) + 12 for payload in between] == [len(payload) for payload in stored]


async def test_a_record_that_is_compressed_and_encrypted_counts_what_a_reader_holds() -> None:
    # Fails if the size is that of the stored payload.
    plain, backend = Store(MemoryBackend()), MemoryBackend()
    store = Store(Deflate(Secret(backend)), max_session_bytes=5_000)
    said = [user(f"{number} {SECRET} " + "and so on, " * 100) for number in range(4)]
    for message in said:
        await plain.append("s", [message])
        await store.append("s", [message])
    size = (await plain.info("s")).bytes
    assert 4_000 < size < 5_000
    await store.fork("s", "copy")
    assert await store.backend.seal(KEY, Record.seal((await store.backend.read(KEY)).records[:3])) is True
    await store.fork("s", "part", at=2)  # a part of a sealed record
    for session, share in (("s", 1.0), ("copy", 1.0), ("part", 0.5)):
        assert (await store.info(session)).bytes == pytest.approx(size * share, rel=0.05)
        assert sum(map(len, await payloads(backend, session))) < size / 3
    with pytest.raises(TooLarge, match="the limit is 5000"):
        await store.append("s", said)


async def test_a_message_layer_cannot_bring_a_turn_over_the_limit_of_values() -> None:
    class Enriching(MessageLayer):
        def write_message(self, message: Message) -> Message:
            return Message.from_dict({**message.to_dict(), "seen": [0] * 60_000})

    backend = MemoryBackend()
    store = Store(Enriching(backend))
    await store.append("s", [user("one")])
    with pytest.raises(TooLarge, match="more than 100000 values"):
        await store.append("s", [user("two"), user("three")])
    assert (await store.info("s")).turns == 1


async def test_a_copy_and_a_seal_are_encoded_anew() -> None:
    # Fails with `portable = True`, or if `copy` or `seal` forwards the call.
    backend = MemoryBackend()
    store = Store(Deflate(Secret(backend)))
    said = [LONG, user("b"), user("c"), user("d")]
    for place, message in enumerate(said):
        await store.append("s", [message], turn_id=f"t{place}")
    await store.fork("s", "copy", at=3)
    assert await store.load("copy") == said[:3]
    records = (await store.backend.read(KEY)).records
    assert await store.backend.seal(KEY, Record.seal(records[:3])) is True
    assert [codec_of(payload) for payload in await payloads(backend)] == [200, 200]
    assert await store.load("s") == said
    assert [turn.messages for turn in (await store.session("s", before=2)).turns] == [(LONG,), (user("b"),)]
    await store.fork("s", "part", at=2)  # a part of a sealed record
    assert await store.load("part") == said[:2]
    assert leaks(backend) == []


@pytest.mark.parametrize("kind", [Secret, Deflate])
async def test_a_damaged_payload_is_an_error_only_when_its_messages_are_read(kind: type[PayloadLayer]) -> None:
    # Fails if `_decoded` raises, or catches only one of its two errors.
    source, backend = MemoryBackend(), MemoryBackend()
    for message in (LONG, user("x" * 500), user("y" * 500)):
        await Store(kind(source)).append("s", [message])
    good = (await source.read(KEY)).records
    damaged = {
        "a flipped bit": bytes([*good[1].payload[:20], good[1].payload[20] ^ 1, *good[1].payload[21:]]),
        "cut": good[1].payload[:-1],
        "an envelope around nothing": wrap(b"", kind.codec),
        "an envelope around something else": wrap(b"something else", kind.codec),
        "another record": good[2].payload,
        "an envelope that is cut": good[1].payload[:8],
    }
    for name, payload in damaged.items():
        backend = MemoryBackend()
        await backend.commit(KEY, Change(append=(good[0], good[1].with_payload(payload), good[2])))
        store = Store(kind(backend))
        session = await store.session("s")
        assert (session.info.turns, session.records[0].messages, session.records[2].count) == (3, (LONG,), 1)
        assert (await store.load("s", last=1), (await store.info("s")).messages) == ([user("y" * 500)], 3), name
        if name == "another record" and kind is Deflate:
            continue  # without encryption, the backend detects it: it stores the envelope with the head
        for of, what in ((session.records[1], "messages"), (session, "messages"), (session, "turns")):
            with pytest.raises(CorruptRecord) as caught:
                getattr(of, what)
            assert caught.value.turn == 1, name
        await store.append("s", [user("next")])
        assert await store.load("s", last=2) == [user("y" * 500), user("next")]


async def test_a_record_of_another_codec_is_passed_on() -> None:
    # Fails if `_decoded` and `_encoded` ignore the codec.
    backend = MemoryBackend()
    plain, packed, sealed = Store(backend), Store(Deflate(backend)), Store(Secret(backend))
    for place, store in enumerate((plain, packed, sealed)):
        await store.append("s", [user(f"{place}" * 200)])
    assert [codec_of(payload) for payload in await payloads(backend)] == [0, 201, 200]
    read = (await packed.session("s")).records
    assert [record.messages for record in read[:2]] == [(user("0" * 200),), (user("1" * 200),)]
    with pytest.raises(CorruptRecord, match="codec 200, which is unknown"):
        _ = read[2].messages
    encoded = Record.of((user("2" * 200),), id="again", time=0.0)
    other = encoded.with_payload(wrap(b"of another layer", 222))
    await packed.backend.commit(KEY, Change(append=(other,)))
    assert (await payloads(backend))[-1] == other.payload


# ---------------------------------------------------------------------------------------------------- lost answers


class Lossy(Layer):
    """Stores the first commit, but loses its answer."""

    lost = False

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        if not self.lost:
            self.lost = True
            raise OutcomeUnknown("the answer was lost", key=key, change=change)
        return receipt


@pytest.mark.parametrize("layer", [Redaction, Numbering, Secret, Deflate])
async def test_a_change_whose_answer_was_lost_is_sent_again_from_the_top(layer: type[Layer]) -> None:
    # Fails if a layer leaves the inner change in the error.
    backend = MemoryBackend()
    store = Store(layer(Lossy(backend)))
    with pytest.raises(OutcomeUnknown) as caught:
        await store.append("s", [LONG], metadata={"title": SECRET})
    assert caught.value.change.append[0].messages == (LONG,)
    receipt = await store.resend(caught.value, delays=(0, 0))
    assert (receipt.turns, receipt.messages) == (1, 1)
    assert len(await store.load("s")) == 1


# ------------------------------------------------------------------------------------------ copies whose answer is lost


class Lost(Layer):
    """Loses the next commit, and reports an unknown outcome."""

    lose = False

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self.lose:
            self.lose = False
            raise OutcomeUnknown("lost", key=key, change=change)
        return await super().commit(key, change)


class Brackets(MessageLayer):
    def write_message(self, message: Message) -> Message:
        return user(f"<{message.text}>")

    def read_message(self, message: Message) -> Message:
        return user(message.text[1:-1])


class Backwards(PayloadLayer):
    """A simple encryption, the same for every session."""

    codec: ClassVar[int] = 201
    position: ClassVar[Position] = "encryption"
    portable: ClassVar[bool] = True

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        return payload[::-1]

    def decode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        return payload[::-1]


@pytest.mark.parametrize("layer", [Brackets, Backwards])
async def test_a_copy_that_is_sent_again_is_encoded_once(layer: type[Layer]) -> None:
    # Fails if the error has the encoded change.
    backend = MemoryBackend()
    lossy = Lost(backend)
    store = Store(layer(lossy))
    await store.append("s", [user("hello")])
    lossy.lose = True
    with pytest.raises(OutcomeUnknown) as caught:
        await store.fork("s", "t")
    await store.resend(caught.value, delays=())
    assert await store.load("t") == [user("hello")]
    source, target = [(await backend.read(Key("default", name))).records[0] for name in "st"]
    assert source.payload == target.payload


async def test_a_copy_up_to_a_turn_inside_a_sealed_record_needs_its_layer() -> None:
    backend = MemoryBackend()
    store = Store(Deflate(backend))
    for number in range(3):
        await store.append("s", [user(f"{number} " + LONG.text)])
    key = Key("default", "s")
    assert await store.backend.seal(key, Record.seal((await store.backend.read(key)).records))
    await Store(Layer(store.backend)).fork("s", "t", at=2)
    assert [message.text[0] for message in await store.load("t")] == ["0", "1"]
    with pytest.raises(SplitsSealed, match="turn 2 is inside: put the layer that wrote it over the backend") as caught:
        await Store(Layer(backend)).fork("s", "u", at=2)
    assert caught.value.boundary == 0


async def test_a_copy_up_to_a_turn_inside_a_damaged_record_names_the_source() -> None:
    class Damaging(Layer):
        async def read(self, key: Key, **options: Any) -> Session:
            session = await super().read(key, **options)
            return replace(session, records=tuple(record.damaged("it is damaged") for record in session.records))

    backend = MemoryBackend()
    store, key = Store(backend), Key("default", "s")
    for number in range(3):
        await store.append("s", [user(f"{number}")])
    assert await backend.seal(key, Record.seal((await backend.read(key)).records))
    with pytest.raises(CorruptRecord, match="it is damaged") as caught:
        await Store(Damaging(backend)).fork("s", "t", at=2)
    assert caught.value.key == key


async def test_a_message_layer_may_change_only_the_read_messages() -> None:
    class Loud(MessageLayer):
        def read_message(self, message: Message) -> Message:
            return user(message.text.upper())

    store = Store(Loud(MemoryBackend()))
    await store.append("s", [user("hello")])
    assert [message.text for message in await store.load("s")] == ["HELLO"]
    assert store.backend.location is None


async def test_a_layer_forwards_the_totals() -> None:
    backend = MemoryBackend()
    layer = Layer(backend)
    await Store(layer).append("s", [user("hello")])
    totals = await layer.totals("default")
    assert (totals.sessions, totals.messages) == (1, 1)
    assert totals.stored == (await backend.totals("default")).stored


@pytest.mark.parametrize("missing", ["encode", "decode"])
async def test_a_payload_layer_without_a_method_fails_at_its_first_use(missing: str) -> None:
    class Half(Deflate):
        pass

    setattr(Half, missing, getattr(PayloadLayer, missing))
    store = Store(Half(MemoryBackend()))
    with pytest.raises(NotImplementedError):
        await store.append("s", [LONG])
        await store.load("s")


async def test_a_change_without_records_passes_a_payload_layer() -> None:
    store = Store(Deflate(MemoryBackend()))
    receipt = await store.merge_metadata("s", {"title": "T"})
    assert receipt.previous is None
    assert dict((await store.info("s")).metadata) == {"title": "T"}
