"""Contract: any number of tasks may work on one session at once.

Each test runs through one store and through two doors to the same place: two stores, where the place is shared.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence

from ..errors import Conflict, SessionNotFound
from ..store import Store
from ..values.change import ABSENT, Change
from ..values.record import Record
from ._base import Chapter
from ._material import ID, history, key, numbers, record, say, texts

TASKS = 12


class Concurrency(Chapter):
    async def test_nothing_is_lost(self, store: Store) -> None:
        """Store: every commit is atomic, and nothing that was acknowledged is lost, whoever else writes."""
        await self._many_writers([store])

    async def test_nothing_is_lost_through_two_doors(self, store: Store) -> None:
        """Store: nothing that was acknowledged is lost, whoever else writes, through whichever store."""
        await self._many_writers([store, await self.door(store)])

    async def _many_writers(self, doors: Sequence[Store]) -> None:
        async def write(writer: int) -> list[int]:
            door = doors[writer % len(doors)]
            receipts = []
            for n in range(8):
                receipts.append(await door.append(ID, say(f"{writer}.{n}", "x")))
                await asyncio.sleep(0)  # a store that waits for nothing lets no one else in
            return [receipt.number for receipt in receipts if receipt.number is not None]

        written = await asyncio.gather(*(write(writer) for writer in range(TASKS)))
        for door in doors:
            session = await door.session(ID)
            assert numbers(session) == list(range(TASKS * 8)), "turns are lost, doubled or out of order"
            for writer, places in enumerate(written):
                said = [texts(session.turns[place].messages) for place in places]
                assert said == [[f"{writer}.{n}", "x"] for n in range(8)], "a receipt's number is not where the turn is"
                assert places == sorted(places), "a writer's turns are out of order"
            assert (session.info.turns, session.info.messages) == (TASKS * 8, TASKS * 16)

    async def test_one_of_those_who_expect_the_same_wins(self, store: Store) -> None:
        """commit: Conflict: of changes that expect one version exactly one is stored."""
        doors = [store, await self.door(store)]
        version = (await store.append(ID, say("a"))).version
        for turn in range(1, 5):
            winners = await self._winners([doors[n % 2].append(ID, say(f"{n}"), expect=version) for n in range(TASKS)])
            assert len(winners) == 1
            session = await store.session(ID)
            assert session.info.turns == turn + 1
            assert texts(session.turns[-1].messages) == [f"{winners[0]}"]
            version = session.version

    async def test_one_of_those_who_make_it_wins(self, store: Store) -> None:
        """ABSENT: the session must not exist: of changes that make it exactly one is stored."""
        doors = [store, await self.door(store)]
        for name in "abc":
            calls = [doors[n % 2].append(name, say(f"{n}"), expect=ABSENT) for n in range(TASKS)]
            winners = await self._winners(calls)
            assert [await history(store, name)] == [[f"{winner}"] for winner in winners]

    async def _winners(self, calls: Sequence[Awaitable[object]]) -> list[int]:
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Conflict):
                raise answer
        return [place for place, answer in enumerate(answers) if not isinstance(answer, BaseException)]

    async def test_the_same_change_from_all_sides(self, store: Store) -> None:
        """commit: once per change id: sent by many at once it is stored once, and all are answered alike."""
        doors = [store, await self.door(store)]
        for name in "ab":
            change = Change(append=(record("a"), record("b")))
            receipts = await asyncio.gather(*(doors[n % 2].commit(key(store, name), change) for n in range(TASKS)))
            assert len({(receipt.version, receipt.number) for receipt in receipts}) == 1
            assert await history(store, name) == ["a", "b"]
            assert sum(receipt.previous is None for receipt in receipts) == 1

    async def test_a_session_is_made_once(self, store: Store) -> None:
        """commit: a session that is not there is made, once, also if many make it."""
        doors = [store, await self.door(store)]
        receipts = await asyncio.gather(*(doors[n % 2].append(ID, say(f"{n}")) for n in range(TASKS)))
        assert sum(receipt.previous is None for receipt in receipts) == 1
        assert sorted(receipt.number or 0 for receipt in receipts) == list(range(TASKS))
        assert sorted(await history(store), key=int) == [f"{n}" for n in range(TASKS)]

    async def test_count_by_compare_and_set(self, store: Store) -> None:
        """merge_metadata: expect: compare and set: who reads, counts on and retries on Conflict loses no count."""
        doors = [store, await self.door(store)]
        await store.merge_metadata(ID, {"count": 0})

        async def count(door: Store) -> None:
            for _ in range(4):
                while True:
                    info = await door.info(ID)
                    found = info.metadata["count"]
                    assert isinstance(found, int)
                    try:
                        await door.merge_metadata(ID, {"count": found + 1}, expect=info.version)
                        break
                    except Conflict:
                        continue

        await asyncio.gather(*(count(door) for door in doors * 2))
        assert dict((await store.info(ID)).metadata) == {"count": 16}

    async def test_metadata_of_many(self, store: Store) -> None:
        """Change.metadata: merged name by name: who sets different names loses none of the others'."""
        doors = [store, await self.door(store)]
        await asyncio.gather(*(doors[n % 2].merge_metadata(ID, {f"name {n}": n}) for n in range(TASKS)))
        assert dict((await store.info(ID)).metadata) == {f"name {n}": n for n in range(TASKS)}

    async def test_each_turn_is_popped_once(self, store: Store) -> None:
        """pop: remove the last turn and hand it out, each to one caller."""
        doors = [store, await self.door(store)]
        await store.commit(key(store), Change(append=tuple(record(f"{n}") for n in range(TASKS))))
        turns = await asyncio.gather(*(doors[n % 2].pop(ID) for n in range(TASKS)))
        assert sorted(turn.number for turn in turns if turn is not None) == list(range(TASKS))
        assert await history(store) == []

    async def test_readers_see_whole_turns(self, store: Store) -> None:
        """read: a snapshot: while others write, nobody sees half a commit, or an info that does not fit the turns."""
        doors = [store, await self.door(store)]
        await store.append(ID, say("0", "0"))
        done = False

        async def write() -> None:
            nonlocal done
            for n in range(1, 30):
                await store.commit(
                    key(store), Change(append=(record(f"{n}", f"{n}"), record(f"{n}", f"{n}")), retain=7)
                )
                if n % 5 == 0:
                    await store.commit(key(store), Change(keep=2 * n, append=(record(f"{n}", f"{n}"),)))
                await asyncio.sleep(0)
            done = True

        async def read(door: Store) -> None:
            while not done:
                session = await door.read(key(store))
                info = session.info
                assert numbers(session) == list(range(info.first, info.turns))
                assert len(session.messages) == info.messages
                assert all(len({message.text for message in turn.messages}) == 1 for turn in session.turns)
                assert session.turns[-1].number % 2 == 0, "half a commit"
                await asyncio.sleep(0)

        await asyncio.gather(write(), *(read(door) for door in doors))

    async def test_a_follower_among_writers(self, store: Store) -> None:
        """read: since: what follows, while others write: each turn once, in order."""
        doors = [store, await self.door(store)]
        version = (await store.append(ID, say("begin"))).version

        writing = 4

        async def write(writer: int) -> None:
            nonlocal writing
            for n in range(10):
                await doors[writer % 2].append(ID, say(f"{writer}.{n}"))
                await asyncio.sleep(0)
            writing -= 1

        async def follow(door: Store) -> None:
            followed: list[Record] = []
            seen, done = version, False
            while not done:
                done = not writing
                session = await door.read(key(store), since=seen)
                assert session.continues
                followed += session.records
                seen = session.version
                await asyncio.sleep(0)
            assert [r.number for r in followed] == list(range(1, 41))

        await asyncio.gather(*(write(writer) for writer in range(4)), *(follow(door) for door in doors))

    async def test_delete_among_writers(self, store: Store) -> None:
        """delete: all of it at once: who writes meanwhile finds all of it, or makes it anew; never half of it."""
        doors = [store, await self.door(store)]
        chance = random.Random(3)  # noqa: S311 - dice, not keys

        async def write(writer: int) -> None:
            for n in range(10):
                await doors[writer % 2].append(ID, say(f"{writer}.{n}"), metadata={"writer": writer})
                await asyncio.sleep(0)

        async def delete() -> None:
            for _ in range(10):
                for _ in range(chance.randrange(5)):
                    await asyncio.sleep(0)
                await store.erase(ID)
                try:
                    session = await store.session(ID)
                except SessionNotFound:
                    continue
                assert numbers(session) == list(range(session.info.turns))
                assert "writer" in session.info.metadata

        await asyncio.gather(delete(), *(write(writer) for writer in range(4)))

    async def test_many_sessions_at_once(self, store: Store) -> None:
        """Store: sessions know nothing of each other: each answer is of the session that was asked for."""
        doors = [store, await self.door(store)]

        async def talk(name: str, door: Store) -> None:
            for n in range(4):
                await door.append(name, say(f"{name} {n}"))
                await asyncio.sleep(0)
                session = await door.session(name)
                assert session.info.key == key(store, name)
                assert texts(session.messages) == [f"{name} {m}" for m in range(n + 1)]

        await asyncio.gather(*(talk(f"s{n}", doors[n % 2]) for n in range(TASKS)))

    async def test_copies_at_once(self, store: Store) -> None:
        """copy: Conflict: there is a target: of many copies onto one target exactly one is made."""
        await store.append("a", say("a"))
        await store.append("b", say("b", "b"))
        answers = await asyncio.gather(*(store.fork("ab"[n % 2], "target") for n in range(6)), return_exceptions=True)
        assert sum(not isinstance(answer, Conflict) for answer in answers) == 1
        assert await history(store, "target") in (["a"], ["b", "b"])
