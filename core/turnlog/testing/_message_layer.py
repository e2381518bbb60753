"""The rules of a message layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Unpack

from ..layers import MessageLayer
from ..store import Store
from ..values.message import Message
from ..values.record import Record
from ._base import BackendOptions, ContractBase
from ._material import ID, key, say


class MessageLayerContract(ContractBase):
    """The rules of a `MessageLayer`.  A subclass sets `messages`, and implements `make`.

    Also run `BackendContract`, if the layer leaves the short texts of that contract unchanged, or restores them.
    """

    messages: ClassVar[Sequence[Message]]
    """Sample messages: some that the layer changes, and some that it leaves unchanged."""

    @abstractmethod
    def make(self, **options: Unpack[BackendOptions]) -> MessageLayer:
        """Return the layer over an empty backend, not yet opened."""

    def _layers(self) -> tuple[MessageLayer, MessageLayer]:
        return self.make(clock=self.clock), self.make(clock=self.clock)

    def test_it_is_deterministic(self) -> None:
        """`write_message` and `read_message` are deterministic, in every layer that is made with the same options."""
        one, two = self._layers()
        for message in self.messages:
            stored = one.write_message(message)
            assert one.write_message(message) == two.write_message(message) == stored
            assert one.read_message(stored) == two.read_message(stored) == one.read_message(stored)

    def test_what_was_read_is_written_as_it_was_stored(self) -> None:
        """`write_message(read_message(stored)) == stored` for every stored message."""
        layer, _ = self._layers()
        for message in self.messages:
            stored = layer.write_message(message)
            assert layer.write_message(layer.read_message(stored)) == stored

    async def test_it_keeps_nothing_that_it_changes(self, store: Store) -> None:
        """The layer stores only the messages that `write_message` returns, even in a seal and in a copy."""
        layer = store.backend
        assert isinstance(layer, MessageLayer)
        stored = [layer.write_message(message) for message in self.messages]
        for message in self.messages:
            await store.append(ID, [message])
        await store.append(ID, say("end"))
        assert (await layer.inner.read(key(store))).messages[:-1] == stored
        assert (await store.load(ID))[:-1] == [layer.read_message(message) for message in stored]
        if len(stored) > 1:
            await layer.seal(key(store), Record.seal((await layer.read(key(store))).records[:-1]))
        await store.fork(ID, "copy")
        for name in (ID, "copy"):
            assert (await layer.inner.read(key(store, name))).messages[:-1] == stored
            assert (await store.load(name))[:-1] == [layer.read_message(message) for message in stored]

    async def test_load_extend_save(self, store: Store) -> None:
        """A history that was loaded or written can be extended and saved; `save` writes only the difference."""
        await store.append(ID, list(self.messages), turn_id="t")
        version = (await store.info(ID)).version
        for history in (await store.load(ID), list(self.messages)):
            assert (await store.save(ID, history)).version == version
        receipt = await store.save(ID, [*await store.load(ID), *say("more")])
        session = await store.session(ID)
        assert (receipt.turns, session.turns[0].id, session.version.generation) == (2, "t", 0)
