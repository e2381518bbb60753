"""Contract: any number of tasks may work on one session at once.

Each test uses two stores over the same sessions, with two backends if sessions are shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Sequence

from ..errors import Conflict, SessionNotFound
from ..store import Store
from ..values.change import ABSENT, PRESENT, Change
from ..values.record import Record
from ._base import ContractBase
from ._material import ID, history, key, numbers, record, say, texts

TASKS = 12
CROWD = 150  # more than any reasonable number of retries


class Concurrency(ContractBase):
    async def test_nothing_is_lost(self, store: Store) -> None:
        """Every commit is atomic, and no acknowledged turn is lost, whatever other tasks write."""
        await self._many_writers([store])

    async def test_nothing_is_lost_through_two_stores(self, store: Store) -> None:
        """No acknowledged turn is lost when two stores write to the same sessions."""
        await self._many_writers([store, await self.another(store)])

    async def _many_writers(self, stores: Sequence[Store]) -> None:
        async def write(writer: int) -> list[int]:
            one = stores[writer % len(stores)]
            receipts = []
            for n in range(8):
                receipts.append(await one.append(ID, say(f"{writer}.{n}", "x")))
                await asyncio.sleep(0)  # a backend that never waits would let no other task run
            return [receipt.number for receipt in receipts if receipt.number is not None]

        written = await asyncio.gather(*(write(writer) for writer in range(TASKS)))
        for one in stores:
            session = await one.session(ID)
            assert numbers(session) == list(range(TASKS * 8)), "turns are lost, stored twice or out of order"
            for writer, places in enumerate(written):
                said = [texts(session.turns[place].messages) for place in places]
                assert said == [[f"{writer}.{n}", "x"] for n in range(8)], (
                    "the number of a receipt is not that of the turn"
                )
                assert places == sorted(places), "a writer's turns are out of order"
            assert (session.info.turns, session.info.messages) == (TASKS * 8, TASKS * 16)

    async def test_however_many_append_at_once(self, store: Store) -> None:
        """All appends to one session are stored, even if many tasks append at the same moment."""
        stores = [store, await self.another(store)]
        calls = (stores[n % 2].append(ID, say(f"{n}")) for n in range(CROWD))
        receipts = await asyncio.gather(*calls)
        assert sorted(receipt.number or 0 for receipt in receipts) == list(range(CROWD))
        assert sorted(map(int, await history(store))) == list(range(CROWD))

    async def test_undo_on_a_busy_session(self, store: Store) -> None:
        """`rewind` and `pop` without a condition succeed while other tasks append without pause.

        If `alone` of the backend does nothing, the test uses one writer, which makes pauses.
        """
        stores = [store, await self.another(store)]
        waits = isinstance(store.backend.alone(key(store)), contextlib.nullcontext)
        appended, undone = 12, 0
        await store.backend.commit(key(store), Change(append=tuple(record(f"{n}", f"{n}") for n in range(appended))))

        async def write(writer: int) -> None:
            nonlocal appended
            while undone < 9:
                await stores[writer % 2].append(ID, say(f"{writer}", f"{writer}"))
                appended += 1
                await asyncio.sleep(0.05 if waits else 0)

        async def undo() -> None:
            nonlocal undone
            for one in (*stores, store):
                await one.rewind(ID, turns=1)
                undone += 1
                assert await one.pop(ID) is not None
                undone += 1
                await one.rewind(ID, messages=2)
                undone += 1
                await asyncio.sleep(0)

        await asyncio.gather(undo(), *(write(writer) for writer in range(1 if waits else TASKS)))
        assert (await store.info(ID)).turns == appended - undone

    async def test_one_of_those_who_expect_the_same_wins(self, store: Store) -> None:
        """Of several changes that expect the same version, exactly one is stored; the others raise `Conflict`."""
        stores = [store, await self.another(store)]
        version = (await store.append(ID, say("a"))).version
        for turn in range(1, 5):
            winners = await self._winners([stores[n % 2].append(ID, say(f"{n}"), expect=version) for n in range(TASKS)])
            assert len(winners) == 1
            session = await store.session(ID)
            assert session.info.turns == turn + 1
            assert texts(session.turns[-1].messages) == [f"{winners[0]}"]
            version = session.version

    async def test_one_of_those_who_make_it_wins(self, store: Store) -> None:
        """Of several changes with `expect=ABSENT`, exactly one makes the session."""
        stores = [store, await self.another(store)]
        for name in "abc":
            calls = [stores[n % 2].append(name, say(f"{n}"), expect=ABSENT) for n in range(TASKS)]
            winners = await self._winners(calls)
            assert [await history(store, name)] == [[f"{winner}"] for winner in winners]

    async def _winners(self, calls: Sequence[Awaitable[object]]) -> list[int]:
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Conflict):
                raise answer
        return [place for place, answer in enumerate(answers) if not isinstance(answer, BaseException)]

    async def test_the_same_change_from_many_tasks(self, store: Store) -> None:
        """A change that many tasks send at once is stored once, and every task gets the same answer."""
        stores = [store, await self.another(store)]
        for name in "ab":
            change = Change(append=(record("a"), record("b")))
            receipts = await asyncio.gather(
                *(stores[n % 2].backend.commit(key(store, name), change) for n in range(TASKS))
            )
            assert len({(receipt.version, receipt.number) for receipt in receipts}) == 1
            assert await history(store, name) == ["a", "b"]
            assert sum(receipt.previous is None for receipt in receipts) == 1

    async def test_a_session_is_made_once(self, store: Store) -> None:
        """Tasks that write to a new session at once make it once."""
        stores = [store, await self.another(store)]
        receipts = await asyncio.gather(*(stores[n % 2].append(ID, say(f"{n}")) for n in range(TASKS)))
        assert sum(receipt.previous is None for receipt in receipts) == 1
        assert sorted(receipt.number or 0 for receipt in receipts) == list(range(TASKS))
        assert sorted(await history(store), key=int) == [f"{n}" for n in range(TASKS)]

    async def test_count_by_compare_and_set(self, store: Store) -> None:
        """`expect=version.exact` is compare-and-set: tasks that read, add one and retry on `Conflict` lose no count."""
        stores = [store, await self.another(store)]
        await store.merge_metadata(ID, {"count": 0})

        async def count(one: Store) -> None:
            for _ in range(4):
                while True:
                    info = await one.info(ID)
                    found = info.metadata["count"]
                    assert isinstance(found, int)
                    try:
                        await one.merge_metadata(ID, {"count": found + 1}, expect=info.version.exact)
                        break
                    except Conflict:
                        continue

        await asyncio.gather(*(count(one) for one in stores * 2))
        assert dict((await store.info(ID)).metadata) == {"count": 16}

    async def test_metadata_of_many(self, store: Store) -> None:
        """Metadata is merged name by name: tasks that set different names do not overwrite each other."""
        stores = [store, await self.another(store)]
        await asyncio.gather(*(stores[n % 2].merge_metadata(ID, {f"name {n}": n}) for n in range(TASKS)))
        assert dict((await store.info(ID)).metadata) == {f"name {n}": n for n in range(TASKS)}

    async def test_each_turn_is_popped_once(self, store: Store) -> None:
        """`pop` returns each turn to one caller."""
        stores = [store, await self.another(store)]
        await store.backend.commit(key(store), Change(append=tuple(record(f"{n}") for n in range(TASKS))))
        turns = await asyncio.gather(*(stores[n % 2].pop(ID) for n in range(TASKS)))
        assert sorted(turn.number for turn in turns if turn is not None) == list(range(TASKS))
        assert await history(store) == []

    async def test_readers_see_whole_turns(self, store: Store) -> None:
        """A read is a snapshot: no reader sees a part of a commit, or an info that does not match the turns."""
        stores = [store, await self.another(store)]
        await store.append(ID, say("0", "0"))
        done = False

        async def write() -> None:
            nonlocal done
            for n in range(1, 30):
                await store.backend.commit(
                    key(store), Change(append=(record(f"{n}", f"{n}"), record(f"{n}", f"{n}")), retain=7)
                )
                if n % 5 == 0:
                    await store.backend.commit(key(store), Change(keep=2 * n, append=(record(f"{n}", f"{n}"),)))
                await asyncio.sleep(0)
            done = True

        async def read(one: Store) -> None:
            while not done:
                session = await one.backend.read(key(store))
                info = session.info
                assert numbers(session) == list(range(info.first, info.turns))
                assert len(session.messages) == info.messages
                assert all(len({message.text for message in turn.messages}) == 1 for turn in session.turns)
                assert session.turns[-1].number % 2 == 0, "half a commit"
                await asyncio.sleep(0)

        await asyncio.gather(write(), *(read(one) for one in stores))

    async def test_reads_since_among_writers(self, store: Store) -> None:
        """Reads with `since` return each turn once and in order while other tasks write."""
        stores = [store, await self.another(store)]
        version = (await store.append(ID, say("begin"))).version

        writing = 4

        async def write(writer: int) -> None:
            nonlocal writing
            for n in range(10):
                await stores[writer % 2].append(ID, say(f"{writer}.{n}"))
                await asyncio.sleep(0)
            writing -= 1

        async def follow(one: Store) -> None:
            followed: list[Record] = []
            seen, done = version, False
            while not done:
                done = not writing
                session = await one.backend.read(key(store), since=seen)
                assert session.continues
                followed += session.records
                seen = session.version
                await asyncio.sleep(0)
            assert [r.number for r in followed] == list(range(1, 41))

        await asyncio.gather(*(write(writer) for writer in range(4)), *(follow(one) for one in stores))

    async def test_delete_among_writers(self, store: Store) -> None:
        """`delete` removes a session at once: no other task sees a part of it."""
        stores = [store, await self.another(store)]
        chance = random.Random(3)  # noqa: S311 - dice, not keys

        async def write(writer: int) -> None:
            for n in range(10):
                await stores[writer % 2].append(ID, say(f"{writer}.{n}"), metadata={"writer": writer})
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
        """Sessions are independent: each answer is of the requested session."""
        stores = [store, await self.another(store)]

        async def talk(name: str, one: Store) -> None:
            for n in range(4):
                await one.append(name, say(f"{name} {n}"))
                await asyncio.sleep(0)
                session = await one.session(name)
                assert session.info.key == key(store, name)
                assert texts(session.messages) == [f"{name} {m}" for m in range(n + 1)]

        await asyncio.gather(*(talk(f"s{n}", stores[n % 2]) for n in range(TASKS)))

    async def test_copies_at_once(self, store: Store) -> None:
        """Of several copies to one target, exactly one makes it; the others raise `Conflict`."""
        await store.append("a", say("a"))
        await store.append("b", say("b", "b"))
        answers = await asyncio.gather(*(store.fork("ab"[n % 2], "target") for n in range(6)), return_exceptions=True)
        assert sum(not isinstance(answer, Conflict) for answer in answers) == 1
        assert await history(store, "target") in (["a"], ["b", "b"])

    async def test_the_owner_is_compared_in_the_same_step(self, store: Store) -> None:
        """A change for an owner is stored only while the session belongs to the owner."""
        stores = [store, await self.another(store)]
        await store.append(ID, say("u1"), owner="u1")

        async def write(writer: int) -> None:
            view = stores[writer % 2].for_owner("u1")
            for _ in range(10):
                with contextlib.suppress(SessionNotFound):
                    await view.append(ID, say("of u1"))
                await asyncio.sleep(0)

        async def hand_over() -> None:
            for number in range(1, 11):
                owner = f"u{number % 2 + 1}"
                await store.backend.commit(key(store), Change(append=(record(owner),), owner=owner))
                await asyncio.sleep(0)

        await asyncio.gather(hand_over(), *(write(writer) for writer in range(4)))
        owner = ""
        for text in await history(store):
            assert text != "of u1" or owner == "u1", "a turn of u1 is in the session of u2"
            owner = owner if text == "of u1" else text

    async def test_deleting_for_an_owner_is_one_step(self, store: Store) -> None:
        """`delete` for an owner removes no session whose owner another task has changed."""
        other = await self.another(store)
        for number in range(6):
            name = f"s{number}"
            await store.append(name, say("a"), owner="u1")
            calls = [store.for_owner("u1").erase(name), other.merge_metadata(name, owner="u2", expect=PRESENT)]
            if number % 2:
                calls.reverse()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            erased = True in answers
            assert any(isinstance(answer, SessionNotFound) for answer in answers) is erased
            assert await history(store, name) == ([] if erased else ["a"])

    async def test_copying_for_an_owner_is_one_step(self, store: Store) -> None:
        """`copy` for an owner copies no turn that was appended after a change of the session's owner."""
        other = await self.another(store)
        view = store.for_owner("u1")
        for number in range(6):
            name = f"s{number}"
            await store.append(name, say("a"), owner="u1")
            handed_over = Change(append=(record("secret"),), owner="u2")
            calls = [view.fork(name, f"copy of {name}"), other.backend.commit(key(other, name), handed_over)]
            if number % 2:
                calls.reverse()
            await asyncio.gather(*calls, return_exceptions=True)
            assert await history(store, f"copy of {name}") in ([], ["a"])
