"""Naive backends: metadata, pages, ids, time to live, values and limits."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from naive import fails, stored
from turnlog import (
    Change,
    InvalidInput,
    Key,
    Message,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    SessionNotFound,
    Times,
    TooLarge,
    Totals,
    Version,
)
from turnlog.rules import Header, SessionState
from turnlog.testing._counting import Counting
from turnlog.testing._describing import Describing
from turnlog.testing._expiring import Expiring
from turnlog.testing._limits import Limits
from turnlog.testing._moving import Moving
from turnlog.testing._namespace_lists import NamespaceLists
from turnlog.testing._namespaces import Namespaces
from turnlog.testing._naming import Naming
from turnlog.testing._paging import Paging
from turnlog.testing._values import Values
from turnlog.values import check_listing
from turnlog.values.json_value import JSON
from turnlog.values.version import ExactVersion
from turnlog_memory import MemoryBackend

# ----------------------------------------------------------------------------------------------------------- counting


class _Counts(MemoryBackend):
    """Counts the headers that it picks."""

    def picks(self, header: Header, namespace: str) -> bool:
        return header.key.namespace == namespace and header.alive(self.clock())

    async def totals(self, namespace: str) -> Totals:
        await super().totals(namespace)
        headers = [state.header for state in self._states.values()]
        found = [header for header in headers if header is not None and self.picks(header, namespace)]
        messages = sum(header.messages_until - header.start for header in found)
        return Totals(sessions=len(found), messages=messages, bytes=sum(header.bytes for header in found))


@fails(Counting, "totals_count_a_session_once_that_was_made_anew")
class CountsOwners(MemoryBackend):
    """Counts the entries of an index by owner, in which a session that has expired keeps its entry."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.entries: set[tuple[Key, str]] = set()

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        self.entries.add((key, change.for_owner or ""))
        return receipt

    async def totals(self, namespace: str) -> Totals:
        found = await super().totals(namespace)
        return replace(found, sessions=len({(key, owner) for key, owner in self.entries if key.namespace == namespace}))


@fails(Counting, "totals_leave_out_what_has_expired", "totals_extend_no_life")
class CountsTheExpired(_Counts):
    """Counts what is stored, also what nobody can read any more."""

    def picks(self, header: Header, namespace: str) -> bool:
        return header.key.namespace == namespace


@fails(Counting, "totals_are_of_one_namespace")
class CountsWhatIsBelow(_Counts):
    """Finds a namespace by what its name begins with."""

    def picks(self, header: Header, namespace: str) -> bool:
        return header.key.namespace.startswith(namespace) and header.alive(self.clock())


@fails(Counting, "totals_of_many_sessions")
class CountsAPage(MemoryBackend):
    """Counts the first page."""

    async def totals(self, namespace: str) -> Totals:
        infos = (await self.page(Query(namespace=namespace))).infos
        return Totals(
            sessions=len(infos), messages=sum(one.messages for one in infos), bytes=sum(one.bytes for one in infos)
        )


@fails(Counting, "totals_are_the_sums_of_all_sessions", "totals_follow_each_change")
class CountsMetadata(MemoryBackend):
    """Counts the bytes of what is stored beside the messages, too."""

    async def totals(self, namespace: str) -> Totals:
        found = await super().totals(namespace)
        return replace(found, bytes=found.stored or 0)


@fails(Counting, "totals_follow_each_change")
class CountsAllThereWas(MemoryBackend):
    """Takes the number of the last message for how many there are."""

    async def totals(self, namespace: str) -> Totals:
        found = await super().totals(namespace)
        headers = [state.header for key, state in self._states.items() if key.namespace == namespace]
        return replace(found, messages=sum(one.messages_until for one in headers if one is not None))


@fails(Counting, "totals_extend_no_life")
class CountsByReading(MemoryBackend):
    """Reads each session to count it."""

    async def totals(self, namespace: str) -> Totals:
        for key in [key for key in self._states if key.namespace == namespace]:
            with suppress(SessionNotFound):
                await self.read(key)
        return await super().totals(namespace)


@fails(Counting, "totals_of_no_namespace")
class CountsNothing(MemoryBackend):
    """Has no session in a namespace that cannot be."""

    async def totals(self, namespace: str) -> Totals:
        try:
            return await super().totals(namespace)
        except InvalidInput:
            return Totals(sessions=0, messages=0, bytes=0)


# --------------------------------------------------------------------------------------------------------- describing


@fails(Describing, "names_are_merged_one_by_one", "too_much_metadata")
class ReplacesMetadata(MemoryBackend):
    """Sets the metadata to what it is given."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        if change.metadata is not None and session is not None:
            change = replace(change, metadata={**dict.fromkeys(session.info.metadata), **change.metadata})
        return await super().commit(key, change)


@fails(Describing, "names_are_merged_one_by_one")
class MergesDeeply(MemoryBackend):
    """Merges what is inside the values, too."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        if change.metadata is not None and session is not None:
            merged = dict(change.metadata)
            for name, value in merged.items():
                old = session.info.metadata.get(name)
                if isinstance(old, dict) and isinstance(value, dict):
                    merged[name] = {**old, **value}
            change = replace(change, metadata=merged)
        return await super().commit(key, change)


@fails(Describing, "names_are_merged_one_by_one", "too_much_metadata")
class KeepsNone(MemoryBackend):
    """Takes None for a value."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        gone = {name: None for name in self._removed.get(key, ()) if name not in session.info.metadata}
        return replace(session, info=replace(session.info, metadata={**session.info.metadata, **gone}))

    async def commit(self, key: Key, change: Change) -> Receipt:
        for name, value in (change.metadata or {}).items():
            if value is None:
                self._removed.setdefault(key, set()).add(name)
        return await super().commit(key, change)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._removed: dict[Key, set[str]] = {}


@fails(
    Describing,
    "compare_and_set",
    "layers_may_put_bytes",
    "metadata_comes_back_as_it_was_set",
    "names_are_merged_one_by_one",
)
class MetadataAsText(MemoryBackend):
    """Keeps metadata values as text."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.metadata is not None:
            change = replace(
                change,
                metadata={n: v if v is None else str(v) for n, v in change.metadata.items()},
                asked=change.digest,
            )
        return await super().commit(key, change)


@fails(Describing, "compare_and_set", "metadata_leaves_the_turns_alone")
class MetadataIsNoChange(MemoryBackend):
    """Leaves the version as it is when a title is written."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        version = replace(session.version, stamp=b"")
        return replace(session, info=replace(session.info, version=version))

    async def commit(self, key: Key, change: Change) -> Receipt:
        current = await stored(self, key)
        if isinstance(change.expect, ExactVersion) and current is not None:
            change = replace(change, expect=replace(change.expect.version, stamp=current.version.stamp).exact)
        receipt = await super().commit(key, change)
        return replace(receipt, version=replace(receipt.version, stamp=b""))


@fails(Describing, "the_owner")
class OwnerSticks(MemoryBackend):
    """Takes the empty owner for None."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.owner == "" and await stored(self, key) is not None:
            change = replace(change, owner=None, retain=change.retain or 2**40)
        return await super().commit(key, change)


@fails(Describing, "too_much_metadata")
class MetadataUnlimited(MemoryBackend):
    """Checks how large the metadata is that it is given, not how large it becomes."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except TooLarge:
            session = await stored(self, key)
            assert session is not None
            gone = dict.fromkeys(session.info.metadata)
            return await super().commit(key, replace(change, metadata={**gone, **(change.metadata or {})}))


@fails(
    Describing,
    "a_session_without_turns",
    "compare_and_set",
    "layers_may_put_bytes",
    "names_are_merged_one_by_one",
    "too_much_metadata",
)
class TurnsFirst(MemoryBackend):
    """A session begins with its first turn."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        if not session.info.turns:
            await self.delete(key)
            return await super().read(key, **asked)
        return session


# ------------------------------------------------------------------------------------------------------------- moving


@fails(
    Moving,
    "a_moved_session_expires_with_its_source",
    "a_moved_session_has_the_times_of_its_source",
    "a_moved_session_is_listed_by_its_time",
    "an_expiry_in_the_past",
    "each_change_may_carry_the_times",
    "times_alone",
    "times_at_the_limits",
)
class IgnoresTimes(MemoryBackend):
    """Sets all times by its own clock."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, times=None, metadata=change.metadata or {}))


@fails(
    Moving,
    "a_moved_session_expires_with_its_source",
    "a_moved_session_has_the_times_of_its_source",
    "an_expiry_in_the_past",
)
class MovesTheListAlone(MemoryBackend):
    """Takes over the times that people see, and lets the life begin anew."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.times is not None:
            change = replace(change, times=replace(change.times, expires=None))
        return await super().commit(key, change)


@fails(Moving, "each_change_may_carry_the_times", "times_alone", "a_moved_session_is_listed_by_its_time")
class TimesWhenItIsMade(MemoryBackend):
    """Takes over the times only with the change that makes the session."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.times is not None and await stored(self, key) is not None:
            return await super().commit(key, replace(change, times=None, metadata=change.metadata or {}))
        return await super().commit(key, change)


@fails(Moving, "the_next_use_and_change_move_the_times")
class KeepsTimes(MemoryBackend):
    """Sets no time of a moved session any more."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.times: dict[Key, Times] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.times is not None:
            self.times[key] = change.times
        return await super().commit(key, replace(change, times=self.times.get(key)))


# ------------------------------------------------------------------------------------------------------------- paging


@fails(Paging, "the_last_updated_first", "what_changes_meanwhile")
class PagesByCreation(MemoryBackend):
    """Shows the sessions in the order in which they were made."""

    async def page(self, query: Query) -> Page:
        states = [state for state in self._states.values() if state.header is not None]
        headers = [state.header for state in states if state.header is not None]
        now = self.clock()
        for state, header in zip(states, headers, strict=True):
            state.header = replace(header, updated=header.created)
        page = await super().page(query)
        for state, header in zip(states, headers, strict=True):
            state.header = header
        updated = {header.key: header.updated for header in headers if header.alive(now)}
        return Page(tuple(replace(info, updated=updated[info.key]) for info in page.infos), page.cursor)


@fails(Paging, "what_changes_meanwhile")
class PagesByOffset(MemoryBackend):
    """Counts how many sessions it has shown."""

    async def page(self, query: Query) -> Page:
        start = self._shown.get(query.cursor or "", 0)
        page = await super().page(replace(query, cursor=None, limit=1000))
        shown = page.infos[start : start + query.limit]
        if start + query.limit >= len(page.infos):
            return Page(shown)
        cursor = query.cursor_after(shown[-1])
        self._shown[cursor] = start + query.limit
        return Page(shown, cursor)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._shown: dict[str, int] = {}


@fails(Paging, "by_owner", "equal_times_by_session_id", "more_than_a_page_of_sessions", "page_by_page")
class PagesByTime(MemoryBackend):
    """Goes on with what was updated before the last one shown."""

    async def page(self, query: Query) -> Page:
        page = await super().page(replace(query, cursor=None, limit=1000))
        infos = page.infos
        if query.after is not None:
            infos = tuple(info for info in infos if info.updated < query.after[0])
        shown = infos[: query.limit]
        return Page(shown, query.cursor_after(shown[-1]) if len(infos) > query.limit else None)


@fails(Paging, "cursors_at_the_limits")
class PagesByDate(MemoryBackend):
    """Compares dates, whose last year is 9999."""

    async def page(self, query: Query) -> Page:
        if query.after is not None:
            datetime.fromtimestamp(query.after[0], UTC)
        return await super().page(query)


@fails(
    Paging,
    "a_page_extends_no_life",
    "by_owner",
    "equal_times_by_session_id",
    "erase_an_owner",
    "one_namespace_only",
    "page_by_page",
    "the_last_updated_first",
    "what_is_gone_is_on_no_page",
)
class OnePageMore(MemoryBackend):
    """Gives the last page a cursor."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        return Page(page.infos, query.cursor_after(page.infos[-1]) if page.infos else None)


@fails(Paging, "one_namespace_only")
class PagesOfAll(MemoryBackend):
    """Shows the namespaces that begin alike."""

    async def page(self, query: Query) -> Page:
        now = self.clock()
        headers = [state.header for state in self._states.values() if state.header is not None]
        infos = [h.info(now) for h in headers if h.alive(now) and h.key.namespace.startswith(query.namespace)]
        infos = [info for info in infos if query.owner in (None, info.owner)]
        infos.sort(key=lambda info: (-info.updated, info.key.session.encode()))
        after = query.after
        if after is not None:
            infos = [i for i in infos if (-i.updated, i.key.session.encode()) > (-after[0], after[1].encode())]
        more = len(infos) > query.limit
        return Page(tuple(infos[: query.limit]), query.cursor_after(infos[query.limit - 1]) if more else None)


@fails(
    Paging,
    "a_cursor_of_another_query",
    "by_owner",
    "equal_times_by_session_id",
    "erase_an_owner",
    "more_than_a_page_of_sessions",
    "page_by_page",
    "what_changes_meanwhile",
)
class OwnersIgnored(MemoryBackend):
    """Shows everybody's sessions."""

    async def page(self, query: Query) -> Page:
        return Page((await super().page(Query(namespace=query.namespace, limit=1000))).infos[: query.limit])


@fails(
    Paging,
    "a_page_extends_no_life",
    "an_empty_page",
    "by_owner",
    "erase_an_owner",
    "more_than_a_page_of_sessions",
    "one_namespace_only",
)
class NothingIsAnError(MemoryBackend):
    """Raises where there is nothing to show."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        if not page.infos:
            raise SessionNotFound("there are none")
        return page


@fails(Paging, "by_owner")
class OwnersAlike(MemoryBackend):
    """Compares owners as a database's collation does."""

    async def page(self, query: Query) -> Page:
        if not query.owner:
            return await super().page(query)
        states = [state for state in self._states.values() if state.header is not None]
        headers = [state.header for state in states if state.header is not None]
        for state, header in zip(states, headers, strict=True):
            alike = header.owner.strip().lower() == query.owner.strip().lower()
            state.header = replace(header, owner=query.owner) if alike else header
        page = await super().page(query)
        for state, header in zip(states, headers, strict=True):
            state.header = header
        return page


@fails(Paging, "by_owner")
class EmptyOwnerIsAll(MemoryBackend):
    """Takes the empty owner for all."""

    async def page(self, query: Query) -> Page:
        if query.owner == "":
            return Page((await super().page(Query(namespace=query.namespace, limit=1000))).infos)
        return await super().page(query)


@fails(Paging, "by_owner", "export_an_owner")
class OneSessionAnOwner(MemoryBackend):
    """Finds the last of an owner's sessions."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        return page if query.owner is None else Page(page.infos[:1])


@fails(Paging, "a_page_extends_no_life", "what_is_gone_is_on_no_page")
class ShowsTheDead(MemoryBackend):
    """Leaves it to a sweeper to remove what has expired."""

    async def page(self, query: Query) -> Page:
        clock, self.clock = self.clock, lambda: 0.0
        try:
            return await super().page(query)
        finally:
            self.clock = clock


@fails(Paging, "a_page_extends_no_life")
class PagesAreUses(MemoryBackend):
    """Takes what it shows for used."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        for info in page.infos:
            await self.read(info.key, last=0)
        return page


@fails(Paging, "infos_on_pages")
class BareInfos(MemoryBackend):
    """Shows names and versions; who wants more may ask."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        return Page(tuple(replace(info, turns=0, messages=0, metadata={}) for info in page.infos), page.cursor)


@fails(
    Paging,
    "a_cursor_of_another_query",
    "by_owner",
    "equal_times_by_session_id",
    "more_than_a_page_of_sessions",
    "page_by_page",
    "what_changes_meanwhile",
)
class AtMostAHundred(MemoryBackend):
    """Shows the first hundred, which nobody ever scrolls past."""

    async def page(self, query: Query) -> Page:
        return Page((await super().page(replace(query, limit=100))).infos[: query.limit])


# ------------------------------------------------------------------------------------------------------------- naming


class _Folding(MemoryBackend):
    def _fold(self, key: Key) -> Key:
        raise NotImplementedError

    def _told(self, key: Key, session: Session) -> Session:
        return replace(session, info=replace(session.info, key=key))

    async def read(self, key: Key, **asked: Any) -> Session:
        return self._told(key, await super().read(self._fold(key), **asked))

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(self._fold(key), change)

    async def delete(self, key: Key, **how: Any) -> bool:
        return await super().delete(self._fold(key), **how)


@fails(Naming, "an_id_is_no_pattern", "no_two_ids_share_a_place")
@fails(Namespaces, "namespace_and_id_do_not_run_together")
class FoldsCase(_Folding):
    """Keeps sessions in files on a disk that knows no case."""

    def _fold(self, key: Key) -> Key:
        return Key(key.namespace, key.session.lower())


@fails(Naming, "an_id_is_no_pattern", "no_two_ids_share_a_place")
class FoldsForms(_Folding):
    """Takes ids that look alike for the same."""

    def _fold(self, key: Key) -> Key:
        return Key(key.namespace, unicodedata.normalize("NFC", key.session))


@fails(Naming, "an_id_is_no_pattern", "no_two_ids_share_a_place")
class Strips(_Folding):
    """Keeps ids in a column of type CHAR."""

    def _fold(self, key: Key) -> Key:
        return Key(key.namespace, key.session.rstrip())


@fails(Naming, "an_id_is_no_pattern", "no_two_ids_share_a_place")
class CutsIds(_Folding):
    """Keeps as much of an id as fits."""

    def _fold(self, key: Key) -> Key:
        return Key(key.namespace, key.session[:200])


@fails(Naming, "an_id_is_no_pattern", "no_two_ids_share_a_place")
@fails(Namespaces, "namespace_and_id_do_not_run_together")
class Glues(_Folding):
    """Puts namespace and id together with a colon."""

    def _fold(self, key: Key) -> Key:
        glued = f"{key.namespace}:{key.session}"
        return Key("all", glued if len(glued.encode()) <= 255 else sha256(glued.encode()).hexdigest())

    async def page(self, query: Query) -> Page:
        page = await super().page(Query(namespace="all", limit=1000))
        prefix = f"{query.namespace}:"
        infos = [i for i in page.infos if i.key.session.startswith(prefix) and query.owner in (None, i.owner)]
        return Page(tuple(replace(i, key=Key(query.namespace, i.key.session.removeprefix(prefix))) for i in infos))


@fails(Naming, "invalid_keys")
class LooksUpWhatever(MemoryBackend):
    """Returns False for a deletion whose key is not a key."""

    async def delete(self, key: Key, **how: Any) -> bool:
        return (bool(how.get("expect")) or key in self._states) and await super().delete(key, **how)


@fails(Naming, "an_id_is_no_pattern")
class DeletesByPattern(MemoryBackend):
    """Deletes by a pattern, as a shell does."""

    async def delete(self, key: Key, **how: Any) -> bool:
        found = await super().delete(key, **how)
        if key.session.endswith(("*", "%")):
            for other in list(self._states):
                if other.namespace == key.namespace and other.session.startswith(key.session[:-1]):
                    await super().delete(other)
        return found


@fails(
    Namespaces,
    "a_namespace_is_a_tenants_own",
    "namespace_and_id_do_not_run_together",
    "nested_names_do_not_run_together",
    "within_a_store",
    "within_a_view",
)
class OneTenant(_Folding):
    """Has one namespace, its own."""

    def _fold(self, key: Key) -> Key:
        return Key("default", key.session)


@fails(Naming, "no_two_ids_share_a_place")
@fails(Namespaces, "a_namespace_is_a_tenants_own")
class PagesItsOwn(MemoryBackend):
    """Shows one namespace, whatever the query."""

    async def page(self, query: Query) -> Page:
        own = Query(namespace="default", owner=query.owner, limit=query.limit)
        return Page((await super().page(own)).infos)


@fails(Namespaces, "the_namespace_of_a_store", "within_a_store", "within_a_view")
class AlwaysDefault(MemoryBackend):
    """Returns every session as one of the namespace `default`."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, info=replace(session.info, key=Key("default", key.session)))


@fails(Namespaces, "a_namespace_is_a_tenants_own", "namespace_and_id_do_not_run_together")
class DeletesFromAll(MemoryBackend):
    """Deletes a session wherever it is."""

    async def delete(self, key: Key, **how: Any) -> bool:
        found = await super().delete(key, **how)
        for other in list(self._states):
            if other.session == key.session:
                await super().delete(other)
        return found


# ----------------------------------------------------------------------------------------------------------- expiring


@fails(
    Expiring,
    "a_copy_has_a_life_of_its_own",
    "a_session_lives_so_long_after_its_last_use",
    "a_slow_model_brings_no_session_back",
    "a_time_to_live_of_its_own",
    "a_time_to_live_takes_effect_at_once",
    "all_of_a_session_expires_together",
    "an_expired_session_is_not_there",
    "how_long_it_still_lives",
    "the_shortest_and_the_longest",
    "what_extends_no_life",
)
class LivesForEver(MemoryBackend):
    """Leaves expiring to others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "ttl": None})

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, ttl=0.0) if change.ttl else change)


@fails(Expiring, "for_ever_by_default")
class LivesADay(MemoryBackend):
    """Has a time to live by default."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "ttl": options.get("ttl") or 86_400.0})


@fails(
    Expiring,
    "a_copy_has_a_life_of_its_own",
    "a_time_to_live_takes_effect_at_once",
    "how_long_it_still_lives",
    "using_it_changes_no_version",
    "what_extends_a_life",
)
class ExpiresFixed(MemoryBackend):
    """Sets the end of a session when it is made."""

    async def read(self, key: Key, **asked: Any) -> Session:
        return await super().read(key, **{**asked, "touch": False})

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = self._state(key).header
        alive = before is not None and before.alive(self.clock())
        receipt = await super().commit(key, change)
        header = self._states[key].header
        if before is not None and alive and change.ttl is None and header is not None:
            self._states[key].header = replace(header, expires=before.expires)
        return receipt


@fails(Expiring, "a_clock_that_is_behind_ends_no_session")
class TrustsTheClock(MemoryBackend):
    """Takes an expiry that is too far away for one of a longer time to live."""

    def _state(self, key: Key) -> SessionState:
        state = super()._state(key)
        header = state.header
        if header is not None and header.ttl is None and self.ttl is not None:
            latest = self.clock() + self.ttl
            if header.expires is not None and header.expires > latest:
                state.header = replace(header, expires=latest)
        return state

    async def read(self, key: Key, **asked: Any) -> Session:
        self._state(key)
        return await super().read(key, **asked)

    async def commit(self, key: Key, change: Change) -> Receipt:
        self._state(key)
        return await super().commit(key, change)


@fails(Expiring, "a_session_lives_so_long_after_its_last_use", "how_long_it_still_lives", "what_extends_no_life")
class EveryLookIsAUse(MemoryBackend):
    """Extends a session's life in every read, also of the info."""

    async def read(self, key: Key, **asked: Any) -> Session:
        return await super().read(key, **{**asked, "touch": True})


@fails(
    Expiring,
    "a_copy_has_a_life_of_its_own",
    "how_long_it_still_lives",
    "using_it_changes_no_version",
    "what_extends_a_life",
)
class OnlyWritesAreUses(MemoryBackend):
    """Extends a session's life when something is written."""

    async def read(self, key: Key, **asked: Any) -> Session:
        return await super().read(key, **{**asked, "touch": False})


@fails(Expiring, "what_extends_no_life")
class RefusedIsAUse(MemoryBackend):
    """Extends a session's life before it looks at the change."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if await stored(self, key) is not None:
            await self.read(key, last=0)
        return await super().commit(key, change)


@fails(Expiring, "what_extends_a_life")
class RepeatsAreNoUse(MemoryBackend):
    """Answers a repeat from memory, and does nothing else."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        state = self._state(key)
        if state.header is not None and change.id in state._ring.entries:
            expires = state.header.expires
            receipt = await super().commit(key, change)
            header = self._states[key].header
            assert header is not None
            self._states[key].header = replace(header, expires=expires)
            return receipt
        return await super().commit(key, change)


@fails(
    Expiring,
    "a_copy_has_a_life_of_its_own",
    "a_session_lives_so_long_after_its_last_use",
    "a_time_to_live_of_its_own",
    "a_time_to_live_takes_effect_at_once",
    "an_expired_session_is_not_there",
    "the_shortest_and_the_longest",
    "what_extends_no_life",
)
class ServesTheDead(MemoryBackend):
    """Serves what has expired until it is swept."""

    async def read(self, key: Key, **asked: Any) -> Session:
        header = self._state(key).header
        if header is not None and not header.alive(self.clock()):
            self._states[key].header = replace(header, expires=None)
        return await super().read(key, **asked)


@fails(
    Expiring,
    "a_copy_has_a_life_of_its_own",
    "a_time_to_live_of_its_own",
    "a_time_to_live_takes_effect_at_once",
    "all_of_a_session_expires_together",
    "how_long_it_still_lives",
    "the_shortest_and_the_longest",
)
class StoresTtlOnly(MemoryBackend):
    """Has one time to live, the store's."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, info=replace(session.info, ttl=self._own.get(key)))

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.ttl is None:
            return await super().commit(key, change)
        self._own[key] = change.ttl
        return await super().commit(key, replace(change, ttl=None, metadata=change.metadata or {}, asked=change.digest))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._own: dict[Key, float] = {}


@fails(Expiring, "a_time_to_live_of_its_own", "how_long_it_still_lives")
class ZeroIsNone(MemoryBackend):
    """Takes a time to live of 0 for none given."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        header = self._states[key].header
        if change.ttl == 0 and header is not None and self.ttl:
            self._states[key].header = replace(header, expires=self.clock() + self.ttl)
        return receipt


@fails(Expiring, "a_time_to_live_takes_effect_at_once", "how_long_it_still_lives")
class TtlFromTheNextUse(MemoryBackend):
    """Applies a new time to live when the session is used next."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = self._state(key).header
        receipt = await super().commit(key, change)
        header = self._states[key].header
        if change.ttl is not None and before is not None and header is not None and before.alive(self.clock()):
            self._states[key].header = replace(header, expires=before.expires)
        return receipt


@fails(Expiring, "all_of_a_session_expires_together")
class TurnsExpire(MemoryBackend):
    """Keeps the metadata when the turns expire."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        header = self._state(key).header
        dead = header is not None and not header.alive(self.clock())
        receipt = await super().commit(key, change)
        if dead and header is not None and header.metadata:
            return await super().commit(key, Change(metadata=header.metadata, owner=header.owner))
        return receipt


@fails(Expiring, "using_it_changes_no_version")
class SlidingIsAChange(MemoryBackend):
    """Writes a new version when it moves the expiry."""

    async def read(self, key: Key, **asked: Any) -> Session:
        header = self._state(key).header
        session = await super().read(key, **asked)
        after = self._states[key].header
        if header is not None and after is not None and after.expires != header.expires:
            self._states[key].header = replace(after, version=replace(after.version, stamp=b"slid"))
        return session


@fails(Expiring, "an_expired_session_is_not_there")
class DeletesTheDead(MemoryBackend):
    """Says that it has deleted a session that had expired."""

    async def delete(self, key: Key, **how: Any) -> bool:
        header = self._state(key).header
        if header is not None and not header.alive(self.clock()):
            self._drop(key)
            return True
        return await super().delete(key, **how)


@fails(Expiring, "a_copy_has_a_life_of_its_own")
class CopiesOutOfTime(MemoryBackend):
    """Copies for ever."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        session = await self.read(source, before=at)
        return await self.commit(target, Change(id=change_id, append=session.records))


@fails(
    Expiring,
    "a_copy_has_a_life_of_its_own",
    "a_time_to_live_of_its_own",
    "a_time_to_live_takes_effect_at_once",
    "all_of_a_session_expires_together",
    "how_long_it_still_lives",
    "the_shortest_and_the_longest",
)
class WholeMinutes(MemoryBackend):
    """Counts time to live in minutes."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.ttl:
            change = replace(change, ttl=max(60.0, change.ttl // 60 * 60), asked=change.digest)
        return await super().commit(key, change)


# ------------------------------------------------------------------------------------------------------------- values


@fails(Values, "metadata_is_the_callers_own")
class OneMetadataForAll(MemoryBackend):
    """Hands out the metadata that it keeps."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        kept = self._metadata.setdefault(session.version, dict(session.info.metadata))
        return replace(session, info=replace(session.info, metadata=kept))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._metadata: dict[Version, dict[str, Any]] = {}


class _Loose(Message, frozen=True):
    """A message that decodes itself once, for all."""

    def to_dict(self) -> dict[str, JSON]:
        return _DECODED.setdefault(repr(self._rest), super().to_dict())


_DECODED: dict[str, dict[str, JSON]] = {}


@fails(Values, "one_message_in_two_sessions", "loaded_messages_are_the_callers_own")
class DecodesOnce(MemoryBackend):
    """Hands out messages that decode themselves once."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        records = tuple(
            replace(
                record,
                _messages=tuple(_Loose(_role=m._role, _content=m._content, _rest=m._rest) for m in record.messages),
            )
            for record in session.records
        )
        return replace(session, records=records)


class _Live(tuple[Record, ...]):  # noqa: SLOT001 - it carries where to look
    """Records as they are now, whenever that is."""

    store: MemoryBackend
    key: Key

    def __iter__(self) -> Any:
        return iter(self.store._state(self.key).records)


@fails(Values, "a_session_is_a_snapshot", "returned_values_are_immutable")
class LiveView(MemoryBackend):
    """Hands out a view of what it keeps."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        records = _Live(session.records)
        records.store, records.key = self, key
        return replace(session, records=records)


@fails(Values, "returned_values_are_immutable")
class HandsOutLists(MemoryBackend):
    """Hands out lists, which are handy."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, records=list(session.records))


# ------------------------------------------------------------------------------------------------------------- limits


@fails(Limits, "a_cut_is_never_too_large", "how_large_a_session")
class Unlimited(MemoryBackend):
    """Has no limit of bytes."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, max_bytes=None))


@fails(Limits, "a_cut_is_never_too_large", "how_large_a_session")
class ChecksAfterwards(MemoryBackend):
    """Stores, and then looks whether it was too much."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, replace(change, max_bytes=None))
        session = await stored(self, key)
        assert session is not None
        if change.max_bytes is not None and session.info.bytes > change.max_bytes:
            raise TooLarge("it is too much")
        return receipt


@fails(Limits, "a_cut_is_never_too_large")
class RefusesCuts(MemoryBackend):
    """Refuses a cut that leaves a session over the limit."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.keep is not None and change.max_bytes is not None and not change.append:
            session = await stored(self, key)
            records = () if session is None else session.records
            size = sum(record.size for record in records if record.number < change.keep)
            if size > change.max_bytes:
                raise TooLarge("it is too much")
        return await super().commit(key, change)


@fails(Limits, "a_cut_is_never_too_large", "retention_makes_room")
class ChecksFirst(MemoryBackend):
    """Adds what comes to what is there, before it drops what must go."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        size = sum(record.size for record in change.append) + (0 if session is None else session.info.bytes)
        if change.max_bytes is not None and size > change.max_bytes:
            raise TooLarge("it is too much")
        return await super().commit(key, change)


@fails(Limits, "a_sessions_bytes", "how_large_a_record", "how_large_a_session")
class CountsAll(MemoryBackend):
    """Counts bytes that were ever written."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, info=replace(session.info, bytes=self._written.get(key, 0)))

    async def commit(self, key: Key, change: Change) -> Receipt:
        self._written[key] = self._written.get(key, 0) + sum(record.size for record in change.append)
        return await super().commit(key, change)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._written: dict[Key, int] = {}


@fails(Limits, "ids_as_long_as_they_may_be", "invalid_arguments_of_append")
class ShortColumns(MemoryBackend):
    """Has columns of 64 bytes."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if any(len(record.id.encode()) > 64 for record in change.append) or len(key.namespace.encode()) > 64:
            raise InvalidInput("it is too long")
        return await super().commit(key, change)


@fails(Limits, "how_many_messages")
class FewMessages(MemoryBackend):
    """Stores a thousand messages in a turn, which is a lot."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if any(record.count > 1000 for record in change.append):
            raise TooLarge("it is a lot")
        return await super().commit(key, change)


@fails(Limits, "how_deep")
class Shallow(MemoryBackend):
    """Stores what a template needs, not deeper."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        for record in change.append:
            for message in record.messages:
                if str(message.to_dict()).count("[") > 20:
                    raise InvalidInput("it is deep")
        return await super().commit(key, change)


# ---------------------------------------------------------------------------------------------------- namespace lists


@fails(NamespaceLists, "a_namespace_without_sessions", "more_than_a_page_of_namespaces", "namespaces_page_by_page")
class NamespacesUsed(MemoryBackend):
    """Notes each namespace that is written to, and forgets none; returns all of them at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._names: set[str] = set()

    async def commit(self, key: Key, change: Change) -> Receipt:
        self._names.add(key.namespace)
        return await super().commit(key, change)

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        check_listing(after, limit)
        self.check_open()
        return sorted(self._names)


@fails(
    NamespaceLists,
    "namespaces_page_by_page",
    "namespaces_that_cannot_be_asked_for",
    "namespaces_that_have_sessions",
    "nested_namespaces",
)
class NamespacesAsTheyCome(MemoryBackend):
    """Lists the namespaces in the order of their sessions, one of them for each session."""

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        names = [key.namespace for key in self._states if after is None or key.namespace > after]
        return names[:limit]


@fails(NamespaceLists, "namespaces_of_layers")
class NamespacesOfApplications(MemoryBackend):
    """Leaves out the namespaces of layers, so that no tool can copy them."""

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        names = await super().namespaces(after=after, limit=limit)
        return [name for name in names if not Key(name, "-").is_internal]
