"""Random operations have the same effects on our store as on pydantic-ai's store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pydantic_ai import Conversation
from pydantic_ai.conversation_store import ConversationStore, InMemoryConversationStore
from pydantic_ai.exceptions import UserError

from adapters.pydantic_ai.scenarios import texts, turn
from turnlog import Store, open_store
from turnlog_pydantic_ai import TurnlogConversationStore

IDS = st.sampled_from(["a", "b", "c/d", ""])
SCOPES = st.sampled_from([None, "ann", "bob"])
PLACES = st.integers(min_value=0, max_value=6)


class Machine(RuleBasedStateMachine):
    """Two stores, and the copies of conversations that were loaded from each at the same moment."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], store: Store) -> None:
        super().__init__()
        self.run = run
        self.stores: list[ConversationStore] = [InMemoryConversationStore(), TurnlogConversationStore(store)]
        self.copies: dict[int, list[Conversation]] = {}
        self.count = 0

    @initialize()
    def begin(self) -> None:
        for id in ("a", "b"):
            self.save_new(id, None)

    def both(self, act: Callable[[ConversationStore, int], Coroutine[Any, Any, Any]]) -> list[Any]:
        """Do the same on both stores; the results or errors must be alike."""
        results = []
        for place, store in enumerate(self.stores):
            try:
                results.append(self.run(act(store, place)))
            except UserError as error:
                results.append(type(error))
        theirs, ours = results
        assert shape(theirs) == shape(ours)
        return results

    def keep(self, results: list[Any]) -> None:
        if isinstance(results[0], Conversation):
            self.copies[len(self.copies) % 8] = results

    @rule(id=IDS, scope=SCOPES)
    def save_new(self, id: str, scope: str | None) -> None:
        self.count += 1
        new = [Conversation(conversation_id=id, messages=turn(str(self.count))) for _ in self.stores]

        async def save(store: ConversationStore, place: int) -> Conversation:
            await store.save(new[place], scope=scope)
            return new[place]

        self.keep(self.both(save))

    @rule(id=IDS, scope=SCOPES, limit=st.none() | PLACES)
    def load(self, id: str, scope: str | None, limit: int | None) -> None:
        self.keep(self.both(lambda store, _: store.load(id, scope=scope, limit=limit)))

    @rule(copy=st.integers(0, 7), cut=st.sampled_from([None, None, None, 0, 1, -1]), scope=SCOPES)
    def save(self, copy: int, cut: int | None, scope: str | None) -> None:
        """Save a copy, which may be stale, with a new turn, or with a history that was cut first."""
        if copy not in self.copies:
            return
        self.count += 1
        pair = self.copies[copy]
        for conversation in pair:
            conversation.messages = [*conversation.messages[:cut], *turn(str(self.count))]
        self.both(lambda store, place: store.save(pair[place], scope=scope))

    @rule(id=IDS, at=PLACES, stale=st.booleans())
    def branch(self, id: str, at: int, stale: bool) -> None:
        async def branch(store: ConversationStore, _: int) -> Conversation:
            record = await store.read_record(id)
            revision = record.revision if record and not stale else "stale"
            return await store.branch(id, at=at, expected_revision=revision)

        self.keep(self.both(branch))

    @rule(id=IDS, place=PLACES)
    def branch_back(self, id: str, place: int) -> None:
        """Continue from an entry of the newest branch that was left."""

        async def branch(store: ConversationStore, _: int) -> Conversation | None:
            record = await store.read_record(id)
            if record is None or not record.branches:
                return None
            line = await store.read_history(record.branches[-1])
            entry = line[place % len(line)].id
            return await store.branch(id, from_entry=entry, expected_revision=record.revision)

        self.keep(self.both(branch))

    @rule(id=IDS, new_id=IDS, at=st.none() | PLACES, scope=SCOPES)
    def fork(self, id: str, new_id: str, at: int | None, scope: str | None) -> None:
        self.keep(self.both(lambda store, _: store.fork(id, at=at, new_conversation_id=new_id, scope=scope)))

    @rule(id=IDS, scope=SCOPES)
    def delete(self, id: str, scope: str | None) -> None:
        self.both(lambda store, _: store.delete(id, scope=scope))

    @rule(scope=SCOPES, limit=st.none() | PLACES)
    def list_some(self, scope: str | None, limit: int | None) -> None:
        self.both(lambda store, _: store.list_conversations(scope=scope, limit=limit))

    @invariant()
    def all_are_equal(self) -> None:
        async def every(store: ConversationStore, _: int) -> list[Any]:
            records = await store.list_conversations()
            histories = [await store.read_history(record.head_id) for record in records]
            branches = [await store.read_history(branch) for record in records for branch in record.branches]
            return [records, *histories, *branches]

        self.both(every)


def shape(result: Any) -> Any:
    """Return a result without its ids and times."""
    if isinstance(result, Conversation):
        return result.conversation_id, texts(result.messages), result.usage
    if isinstance(result, list):
        return [shape(one) for one in result]
    if hasattr(result, "head_id"):
        return result.conversation_id, result.scope, result.forked_from, len(result.branches), bool(result.head_id)
    if hasattr(result, "parent_id"):
        return texts([result.message])
    return result


def test_random_operations(url: str) -> None:
    count = iter(range(1_000_000))
    with asyncio.Runner() as runner:
        store = open_store(url)
        runner.run(store.open())
        run_state_machine_as_test(
            lambda: Machine(runner.run, store.within(f"n{next(count)}")),  # type: ignore[arg-type]  # it takes any callable
            settings=settings(
                max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
        runner.run(store.close())
