"""The writes of the simulation."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import replace

from ..errors import Conflict, IdReused, OutcomeUnknown, SessionNotFound, SplitsSealed, Unavailable
from ..values.change import Receipt
from ..values.key import Key
from ..values.message import user
from ..values.record import Record
from ._simulation_base import NAMES, Sent, SimulationBase, Unknown, Writer
from ._small_model import Conversation, Refused, Write


class Writes(SimulationBase):
    async def append(self, writer: Writer, name: str) -> None:
        """Append a turn, often with a condition."""
        metadata = {self.dice.choice("xy"): self._word("v")} if self.dice.random() < 0.2 else None
        sent = Sent(self._word("turn"), self._texts(), self.dice.random() < 0.3, metadata)
        self._sent.append(sent)
        await self._append(writer, name, sent.id, sent.texts, open=sent.open, metadata=sent.metadata)

    async def append_again(self, writer: Writer, name: str) -> None:
        """Append the same round again; its turn may have been cut since."""
        if self._sent:
            one = self.dice.choice(self._sent)
            await self._append(writer, name, one.id, one.texts, open=one.open, metadata=one.metadata)

    async def add_round(self, writer: Writer, name: str) -> None:
        """Continue the open turn; or a closed one, which must be refused."""
        now = self._model[name]
        if now is None or not now.turns:
            return
        turn = now.turns[-1] if self.dice.random() < 0.9 else self.dice.choice(now.turns)
        if not turn.id or f"{len(turn.rounds)}:{turn.id}" in now.done:  # a saved turn; or the round was undone
            return
        await self._append(writer, name, turn.id, self._texts(), part=len(turn.rounds), open=self.dice.random() < 0.5)

    async def _append(
        self,
        writer: Writer,
        name: str,
        id: str,
        texts: tuple[str, ...],
        *,
        part: int = 0,
        open: bool,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        owner = self._owner()
        expect, condition = self._condition(writer, name)
        write = Write(
            id=f"{part}:{id}",
            append=((id, part, texts, open),),
            metadata=metadata,
            condition=condition,
            for_owner=owner,
        )
        call = self._view(writer, owner).append(
            name, [user(text) for text in texts], turn_id=id, part=part, open=open, expect=expect, metadata=metadata
        )
        await self._write(writer, name, write, call, f"append {id}.{part} {condition[0]} owner={owner}")

    async def save(self, writer: Writer, name: str) -> None:
        """Save the history with one more turn, or with its last message changed."""
        now = self._model[name]
        if now is None or not now.turns:
            return
        history = [text for turn in now.turns for text in turn.texts]
        new = self._word("saved")
        write = Write(id=self._word("save"), append=(("", 0, (new,), False),), condition=("version", now.stamp))
        call = writer.store.save(name, [user(text) for text in (*history, new)])
        await self._write(writer, name, write, call, "save")

    async def rewind(self, writer: Writer, name: str) -> None:
        """Undo the last turns."""
        now, owner = self._model[name], self._owner()
        if now is None or not now.turns:
            return
        number = self.dice.randint(1, min(3, len(now.turns)))
        expect, condition = self._condition(writer, name)
        if condition[0] in {"none", "present", "session"} and now.meets(condition):
            condition = ("version", now.stamp)  # the turns that were read
        write = Write(id=self._word("cut"), keep=now.next - number, condition=condition, for_owner=owner)
        call = self._view(writer, owner).rewind(name, turns=number, expect=expect)
        await self._write(writer, name, write, call, f"rewind {number} {condition[0]} owner={owner}")

    async def trim(self, writer: Writer, name: str) -> None:
        """Drop the first turns."""
        now = self._model[name]
        if now is None or len(now.turns) < 2:
            return
        before = self.dice.randint(now.first + 1, now.next - 1)
        write = Write(id=self._word("trim"), retain=now.next - before, condition=("version", now.stamp))
        call = writer.store.trim(name, before=before)
        await self._write(writer, name, write, call, f"trim {before}")

    async def describe(self, writer: Writer, name: str) -> None:
        """Merge metadata."""
        owner = self._owner()
        expect, condition = self._condition(writer, name)
        metadata = {self.dice.choice("xy"): self._word("v")}
        write = Write(id=self._word("meta"), metadata=metadata, condition=condition, for_owner=owner)
        call = self._view(writer, owner).merge_metadata(name, metadata, expect=expect)
        await self._write(writer, name, write, call, f"metadata {condition[0]} owner={owner}")

    async def fork(self, writer: Writer, name: str) -> None:
        """Copy a session to another id."""
        source = self.dice.choice([one for one in NAMES if one != name])
        await self._expire(source)
        now, owner = self._model[source], self._owner()
        whole = now is None or self.dice.random() < 0.5
        at = None if whole or now is None else self.dice.randint(0, now.next)
        copy = now
        if now is not None and at is not None and at < now.next:
            copy = Write(id="copy", keep=at).apply(now)
        write = Write(id=self._word("fork"), copy_of=copy, condition=("absent", None), for_owner=owner)
        missing = now is None or owner not in {None, now.owner}
        call = self._view(writer, owner).fork(source, name, at=at, change_id=write.id)
        await self._write(writer, name, write, call, f"fork {source} at {at} owner={owner}", possible=not missing)
        self._used(source, certain=False)

    async def erase(self, writer: Writer, name: str) -> None:
        """Delete a session."""
        now, owner = self._model[name], self._owner()
        expect, condition = self._condition(writer, name)
        foreign = now is not None and owner not in {None, now.owner}
        if now is None or foreign:
            fine, found = condition[0] in {"none", "absent"}, False
        else:
            fine, found = condition[0] != "absent" and now.meets(condition), True
        self._note(writer, name, f"erase {condition[0]} owner={owner}")
        late = len(writer.faulty.late)
        try:
            answer = await self._view(writer, owner).erase(name, expect=expect)
        except OutcomeUnknown:
            if len(writer.faulty.late) > late:
                writer.late.append((name, None, condition, owner))
            await self._settle(name, None if fine and found else now)
        except Unavailable:
            pass
        except (Conflict, SessionNotFound):
            assert not fine, "the deletion was refused"
        else:
            assert fine, "the deletion was accepted"
            assert answer is found, "the deletion found another session"
            if found:
                self._became(name, None)
        await self._check(name)

    async def _write(
        self,
        writer: Writer,
        name: str,
        write: Write,
        call: Awaitable[Receipt],
        what: str,
        *,
        possible: bool = True,
    ) -> None:
        """Await a write, and compare its outcome and the stored session with the model."""
        now = self._model[name]
        after: Conversation | None
        try:
            after, fine = write.apply(now), possible
        except Refused:
            after, fine = now, False
        self._note(writer, name, what)
        late = len(writer.faulty.late)
        try:
            receipt = await call
        except OutcomeUnknown as error:
            if error.change is not None:
                writer.unknown.append(Unknown(error, write))
            if len(writer.faulty.late) > late:
                writer.late.append((name, write, ("none", None), None))
            await self._settle(name, await self._trimmed(name, write, now, after) if fine else now)
        except Unavailable:
            pass
        except SplitsSealed:
            assert write.keep is not None, "the write cuts no turns"
        except (Conflict, IdReused, SessionNotFound):
            assert not fine, "the write was refused"
        else:
            assert fine, "the write was accepted"
            assert after is not None
            self._became(name, await self._trimmed(name, write, now, after))
            if after is not now:
                self._see(writer, name, receipt.version, after.stamp)
        await self._check(name)

    async def resend(self, writer: Writer, _: str) -> None:
        """Send a change with an unknown outcome again."""
        if not writer.unknown:
            return
        error, write = writer.unknown.pop(self.dice.randrange(len(writer.unknown)))
        assert error.key is not None
        name = error.key.session
        await self._expire(name)
        call = writer.store.backend.commit(error.key, error.change)
        await self._write(writer, name, write, call, f"resend {write.id}")

    async def deliver(self, writer: Writer, _: str) -> None:
        """Let the oldest late call arrive."""
        if not writer.faulty.late:
            return
        assert len(writer.late) == len(writer.faulty.late), "a late call that the simulation does not know"
        name, write, condition, owner = writer.late.popleft()
        await self._expire(name)
        now = self._model[name]
        self._note(writer, name, f"a late call arrives: {'erase' if write is None else write.id}")
        await writer.faulty.deliver()
        if write is not None:
            with suppress(Refused):
                await self._settle(name, await self._trimmed(name, write, now, write.apply(now)))
        elif now is not None and owner in {None, now.owner} and condition[0] != "absent" and now.meets(condition):
            self._became(name, None)
        await self._check(name)

    async def seal(self, writer: Writer, name: str) -> None:
        """Seal some records, which no reader notices; the seal may come after other changes."""
        now, backend = self._model[name], self.clean.backend
        key = Key("default", name)
        if now is not None and self.dice.random() < 0.7:
            records = (await backend.read(key, touch=False)).records
            begins = [place for place, one in enumerate(records) if one.turns]
            if len(begins) > 2:
                start, stop = sorted(self.dice.sample(begins, 2))
                self._seals[name] = records[start:stop]
        if len(self._seals.get(name, ())) > 1 and self.dice.random() < 0.7:
            self._note(writer, name, "seal records")
            with suppress(SessionNotFound):
                await backend.seal(key, Record.seal(self._seals.pop(name)))
            await self._check(name)

    async def _trimmed(
        self, name: str, write: Write, now: Conversation | None, after: Conversation | None
    ) -> Conversation | None:
        """Return the session after a trim, which keeps a sealed record as a whole."""
        if write.retain is None or now is None or after is None or after is now:
            return after
        with suppress(SessionNotFound):
            first = (await self.clean.info(name)).first
            assert now.first <= first <= after.first, "the trim"
            return replace(after, turns=now.without(first).turns, first=first)
        return after
