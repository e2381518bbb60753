"""`OpenAIResponsesCompactionSession` over `TurnlogSession`: atomic, and without loss of items of another writer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from agents import Runner, TResponseInputItem
from agents.memory import OpenAIResponsesCompactionSession

from adapters.openai_agents.scripted import ANSWER, agent, item, opened, run, texts
from turnlog import Conflict, Store
from turnlog.testing.faulty import FaultyBackend
from turnlog_openai_agents import TurnlogSession

SUMMARY: dict[str, Any] = {"type": "compaction", "id": "cmp_1", "encrypted_content": "short"}
OLD = [item(role, f"{role} {number}") for number in range(3) for role in ("user", "assistant")]


class Client:
    """The part of OpenAI's client that compacts, with something that happens in the meantime."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        self.responses = self
        self.requests: list[dict[str, Any]] = []
        self._meanwhile = meanwhile

    async def compact(self, **request: Any) -> Any:
        self.requests.append(request)
        if self._meanwhile is not None:
            await self._meanwhile()
        return SimpleNamespace(output=[item("user", "user 2"), SUMMARY], usage=None)


def compacting(session: TurnlogSession, client: Client) -> OpenAIResponsesCompactionSession:
    """Return a session that compacts after each run."""
    return OpenAIResponsesCompactionSession(
        session.session_id,
        session,
        client=cast("Any", client),
        compaction_mode="input",
        should_trigger_compaction=lambda _: True,
    )


async def filled(store: Store) -> TurnlogSession:
    session = TurnlogSession(store, "s")
    await session.add_items(OLD[:2])
    await session.add_items(OLD[2:])
    return session


async def append(store: Store) -> None:
    """Append as another process does."""
    await TurnlogSession(store, "s").add_items([item("user", "Me, too")])


def test_a_compaction_after_a_run_replaces_what_the_model_has_seen(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = await filled(store)
            before = (await store.info("s")).version
            client = Client()
            await Runner.run(agent(ANSWER), "Sunny?", session=compacting(session, client))
            assert len(client.requests) == 1
            assert await session.get_items() == [item("user", "user 2"), SUMMARY]
            assert len((await store.session("s")).turns) == 1
            await append(store)
            with pytest.raises(Conflict):
                await store.append("s", [{"role": "user"}], expect=before)
            assert (
                await store.append("s", [{"role": "user"}], expect=before.session)
            ).messages == 4  # the same session

    run(test)


def test_a_compaction_after_a_limited_run_keeps_the_older_items(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = await filled(store)
            session.session_settings.limit = 2  # type: ignore[union-attr]
            await Runner.run(agent(ANSWER), "Sunny?", session=compacting(session, Client()))
            assert texts(await session.get_items(9)) == [*texts(OLD[:4]), "user 2", "compaction"]
            turns = (await store.session("s")).turns
            assert [len(turn.messages) for turn in turns] == [2, 2, 2]

    run(test)


def test_a_compaction_after_a_run_is_skipped_if_another_process_has_written(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = await filled(store)
            await Runner.run(agent(ANSWER), "Sunny?", session=compacting(session, Client(lambda: append(store))))
            assert texts(await session.get_items()) == [*texts(OLD), "Sunny?", ANSWER, "Me, too"]

    run(test)


def test_a_compaction_on_demand_replaces_all_items(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = await filled(store)
            await compacting(session, Client()).run_compaction({"force": True})
            assert await session.get_items() == [item("user", "user 2"), SUMMARY]

    run(test)


def test_a_compaction_works_after_older_turns_were_dropped(url: str) -> None:
    async def test() -> None:
        async with opened(url + ("&" if "?" in url else "?") + "retain=2") as store:
            session = await filled(store)
            await session.add_items(OLD[:2])
            assert (await store.info("s")).first == 1
            client = Client()
            await compacting(session, client).run_compaction({"force": True})
            assert texts(client.requests[0]["input"]) == texts([*OLD[2:], *OLD[:2]])
            assert await session.get_items() == [item("user", "user 2"), SUMMARY]

    run(test)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_compaction_on_demand_never_drops_the_items_of_another_process(url: str, when: str) -> None:
    # Fails if the replacement expects the version of the last read, which the SDK makes after the compaction.
    async def test() -> None:
        async with opened(url) as store:
            session = await filled(store)
            client = Client(None if when == "before" else lambda: append(store))
            outer = compacting(session, client)
            if when == "before":
                await outer._ensure_compaction_candidates()  # a cache of the SDK's does not learn of the append
                await append(store)
                await outer.run_compaction({"force": True})
                assert texts(cast("list[TResponseInputItem]", client.requests[0]["input"])) == [*texts(OLD), "Me, too"]
                return
            with pytest.raises(Conflict):
                await outer.run_compaction({"force": True})
            assert texts(await session.get_items()) == [*texts(OLD), "Me, too"]

    run(test)


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request", "repeat"])
def test_a_lost_answer_to_a_compaction_is_settled(url: str, fault: Any) -> None:
    async def test() -> None:
        async with opened(url, FaultyBackend) as store:
            session = await filled(store)

            async def lose() -> None:
                store.find(FaultyBackend).fail_next("delay", fault)  # the read of the items to restore, and the commit

            await compacting(session, Client(lose)).run_compaction({"force": True})
            assert await session.get_items() == [item("user", "user 2"), SUMMARY]

    run(test)


def test_a_session_that_changes_its_items_is_compacted_by_its_own_methods(url: str) -> None:
    class Shouting(TurnlogSession):
        async def add_items(self, items: list[TResponseInputItem], **more: Any) -> None:
            shouted = [{**one, "content": str(one.get("content")).upper()} for one in items]
            await super().add_items(cast("Any", shouted), **more)

    async def test() -> None:
        async with opened(url) as store:
            session = Shouting(store, "s")
            await session.add_items(OLD)
            await compacting(session, Client()).run_compaction({"force": True})
            assert texts(await session.get_items())[0] == "USER 2"
            await Runner.run(agent(ANSWER), "Sunny?", session=compacting(session, Client()))
            assert texts(await session.get_items())[0] == "USER 2"

    run(test)


def test_an_empty_session_is_not_compacted(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            session = TurnlogSession(store, "s")
            assert await session._get_compaction_snapshot(5) is None
            await session.add_items(OLD)
            snapshot = await session._get_compaction_snapshot(5)
            assert snapshot is not None
            assert (len(snapshot.items), snapshot.complete) == (5, False)
            assert not await snapshot.replace_suffix(5, [])
            assert await snapshot.replace_suffix(0, [])
            assert await session.get_items() == OLD[:1]

    run(test)
