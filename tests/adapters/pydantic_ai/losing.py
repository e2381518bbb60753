"""A layer that loses the answers of commits and deletions, before or after the backend has done them."""

from __future__ import annotations

from turnlog import Backend, Change, Expect, Key, Layer, OutcomeUnknown, Receipt


class LosingLayer(Layer):
    """Raises `OutcomeUnknown` for the next calls: `before` the backend gets the change, then `after`."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.before = self.after = 0

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self.before:
            self.before -= 1
            raise OutcomeUnknown("the answer was lost", key=key, change=change)
        receipt = await self.inner.commit(key, change)
        if self.after:
            self.after -= 1
            raise OutcomeUnknown("the answer was lost", key=key, change=change)
        return receipt

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        done = await self.inner.delete(key, expect=expect, for_owner=for_owner)
        if self.after:
            self.after -= 1
            raise OutcomeUnknown("the answer was lost", key=key)
        return done
