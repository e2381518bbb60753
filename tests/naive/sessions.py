"""Naive backends: metadata, pages, ids, time to live, values and limits."""

from __future__ import annotations

import re
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
    Expect,
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
    limits,
)
from turnlog.rules import Header, SessionState
from turnlog.testing._all_namespaces import AllNamespaces
from turnlog.testing._bad_input import BadInput
from turnlog.testing._counting import Counting
from turnlog.testing._describing import Describing
from turnlog.testing._expiring import Expiring
from turnlog.testing._limits import Limits
from turnlog.testing._moving import Moving
from turnlog.testing._namespace_lists import NamespaceLists
from turnlog.testing._namespaces import Namespaces
from turnlog.testing._naming import Naming
from turnlog.testing._paging import Paging
from turnlog.testing._prefixes import Prefixes
from turnlog.testing._values import Values
from turnlog.values import check_listing
from turnlog.values.json_value import JSON
from turnlog.values.version import ExactVersion
from turnlog_memory import MemoryBackend

# ----------------------------------------------------------------------------------------------------------- counting


class _Counts(MemoryBackend):
    """Counts the sessions for which `picks` returns true."""

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
    """Counts the entries of an index by owner, in which an expired session keeps its entry."""

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
    """Counts expired sessions."""

    def picks(self, header: Header, namespace: str) -> bool:
        return header.key.namespace == namespace


@fails(Counting, "totals_are_of_one_namespace")
class CountsWhatIsBelow(_Counts):
    """Counts all namespaces with a common prefix."""

    def picks(self, header: Header, namespace: str) -> bool:
        return header.key.namespace.startswith(namespace) and header.alive(self.clock())


@fails(Counting, "totals_of_many_sessions")
class CountsAPage(MemoryBackend):
    """Counts only the first page."""

    async def totals(self, namespace: str) -> Totals:
        infos = (await self.page(Query(namespace=namespace))).infos
        return Totals(
            sessions=len(infos), messages=sum(one.messages for one in infos), bytes=sum(one.bytes for one in infos)
        )


@fails(Counting, "totals_are_the_sums_of_all_sessions", "totals_follow_each_change")
class CountsMetadata(MemoryBackend):
    """Counts all stored bytes, metadata included."""

    async def totals(self, namespace: str) -> Totals:
        found = await super().totals(namespace)
        return replace(found, bytes=found.stored or 0)


@fails(Counting, "totals_follow_each_change")
class CountsAllThereWas(MemoryBackend):
    """Uses the number of the last message as the number of messages."""

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
    """Returns zeros for an invalid namespace."""

    async def totals(self, namespace: str) -> Totals:
        try:
            return await super().totals(namespace)
        except InvalidInput:
            return Totals(sessions=0, messages=0, bytes=0)


# --------------------------------------------------------------------------------------------------------- describing


@fails(Describing, "names_are_merged_one_by_one", "too_much_metadata")
class ReplacesMetadata(MemoryBackend):
    """Replaces all metadata."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        if change.metadata is not None and session is not None:
            change = replace(change, metadata={**dict.fromkeys(session.info.metadata), **change.metadata})
        return await super().commit(key, change)


@fails(Describing, "names_are_merged_one_by_one")
class MergesDeeply(MemoryBackend):
    """Merges nested dictionaries."""

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
    """Stores None as a value."""

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
    "metadata_comes_back_as_it_was_set",
    "names_are_merged_one_by_one",
)
class MetadataAsText(MemoryBackend):
    """Stores metadata values as text."""

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
    """Keeps the version when metadata changes."""

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
    """Ignores an empty owner."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.owner == "" and await stored(self, key) is not None:
            change = replace(change, owner=None, retain=change.retain or 2**40)
        return await super().commit(key, change)


@fails(Describing, "too_much_metadata")
class MetadataUnlimited(MemoryBackend):
    """Checks the size of the given metadata, not of the result."""

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
    "names_are_merged_one_by_one",
    "too_much_metadata",
)
class TurnsFirst(MemoryBackend):
    """Treats a session without turns as missing."""

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
    """Orders the sessions by creation."""

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
    """Uses the number of returned sessions as the cursor."""

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
    """Continues strictly before the last time of the page, and so skips sessions of the same time."""

    async def page(self, query: Query) -> Page:
        page = await super().page(replace(query, cursor=None, limit=1000))
        infos = page.infos
        if query.after is not None:
            infos = tuple(info for info in infos if info.updated < query.after[0])
        shown = infos[: query.limit]
        return Page(shown, query.cursor_after(shown[-1]) if len(infos) > query.limit else None)


@fails(Paging, "cursors_at_the_limits")
class PagesByDate(MemoryBackend):
    """Converts times to dates, which end in the year 9999."""

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
    """Returns a cursor on the last page."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        return Page(page.infos, query.cursor_after(page.infos[-1]) if page.infos else None)


@fails(Paging, "one_namespace_only")
class PagesOfAll(MemoryBackend):
    """Lists all namespaces with a common prefix."""

    async def page(self, query: Query) -> Page:
        now = self.clock()
        headers = [state.header for state in self._states.values() if state.header is not None]
        infos = [h.info(now) for h in headers if h.alive(now) and h.key.namespace.startswith(query.one_namespace)]
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
    """Lists the sessions of all owners."""

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
    """Raises an error for an empty page."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        if not page.infos:
            raise SessionNotFound("there are none")
        return page


@fails(Paging, "by_owner")
class OwnersAlike(MemoryBackend):
    """Compares owners as a case-insensitive collation does."""

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
    """Treats the empty owner as all owners."""

    async def page(self, query: Query) -> Page:
        if query.owner == "":
            return Page((await super().page(Query(namespace=query.namespace, limit=1000))).infos)
        return await super().page(query)


@fails(Paging, "by_owner", "export_an_owner")
class OneSessionAnOwner(MemoryBackend):
    """Returns only the last session of an owner."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        return page if query.owner is None else Page(page.infos[:1])


@fails(Paging, "a_page_extends_no_life", "what_is_gone_is_on_no_page")
@fails(Prefixes, "no_prefix_of_what_is_gone")
class ShowsTheDead(MemoryBackend):
    """Lists expired sessions until a sweep removes them."""

    async def page(self, query: Query) -> Page:
        clock, self.clock = self.clock, lambda: 0.0
        try:
            return await super().page(query)
        finally:
            self.clock = clock


@fails(Paging, "a_page_extends_no_life")
class PagesAreUses(MemoryBackend):
    """Extends the expiry of the sessions on a page."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        for info in page.infos:
            await self.read(info.key, last=0)
        return page


@fails(Paging, "infos_on_pages")
class BareInfos(MemoryBackend):
    """Returns names and versions only."""

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
    """Lists only the first hundred sessions."""

    async def page(self, query: Query) -> Page:
        return Page((await super().page(replace(query, limit=100))).infos[: query.limit])


# ----------------------------------------------------------------------------------------------------------- prefixes


@fails(
    Prefixes,
    "a_prefix_among_many",
    "a_prefix_and_an_owner",
    "a_prefix_page_by_page",
    "the_ids_with_a_prefix",
)
class PrefixesFilteredLast(MemoryBackend):
    """Filters a page of all sessions, and returns no cursor."""

    async def page(self, query: Query) -> Page:
        page = await super().page(replace(query, prefix=None, cursor=None))
        return Page(tuple(info for info in page.infos if info.key.session.startswith(query.prefix or "")))


@fails(Prefixes, "the_ids_with_a_prefix")
class PrefixesLike(MemoryBackend):
    """Compares ids as `LIKE` does, with wildcards and without regard to case."""

    async def page(self, query: Query) -> Page:
        if not query.prefix:
            return await super().page(query)
        signs = {"%": ".*", "_": "."}
        pattern = re.compile("".join(signs.get(one, re.escape(one)) for one in query.prefix), re.IGNORECASE | re.DOTALL)
        page = await super().page(Query(namespace=query.namespace, owner=query.owner, limit=1000))
        return Page(tuple(info for info in page.infos if pattern.match(info.key.session)))


@fails(Prefixes, "a_cursor_of_another_prefix")
class CursorsOfAnyPrefix(MemoryBackend):
    """Gives the cursor of all sessions to each prefix."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        every = replace(query, prefix=None, cursor=None)
        return Page(page.infos, None if page.cursor is None else every.cursor_after(page.infos[-1]))


# ------------------------------------------------------------------------------------------------------ all namespaces


@fails(
    AllNamespaces,
    "all_namespaces_of_layers",
    "an_owner_of_all_namespaces",
    "many_namespaces",
    "sessions_of_all_namespaces",
)
class AllIsTheDefault(MemoryBackend):
    """Takes a query of all namespaces for one of the default namespace."""

    async def page(self, query: Query) -> Page:
        return await super().page(query if query.namespace is not None else replace(query, namespace="default"))


@fails(AllNamespaces, "all_namespaces_of_layers")
class AllIncludesLayers(MemoryBackend):
    """Lists the internal sessions of layers, so `erase_owner` removes them."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        if query.namespace is not None or page.cursor is not None:
            return page
        own = [await self.read(key, touch=False) for key in list(self._states) if key.is_internal]
        return Page((*page.infos, *(one.info for one in own if query.owner in (None, one.info.owner))))


@fails(AllNamespaces, "sessions_of_all_namespaces")
class AllByTime(MemoryBackend):
    """Orders the sessions of all namespaces by time."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        infos = sorted(page.infos, key=lambda info: (-info.updated, info.key))
        return Page(tuple(infos), page.cursor)


@fails(AllNamespaces, "many_namespaces")
class AllOfAHundred(MemoryBackend):
    """Lists only the first hundred namespaces."""

    async def page(self, query: Query) -> Page:
        page = await super().page(query)
        first = await self.namespaces(limit=100)
        return page if query.namespace else Page(tuple(one for one in page.infos if one.key.namespace in first))


@fails(AllNamespaces, "an_owner_of_all_namespaces")
class AllOwners(MemoryBackend):
    """Ignores the owner of a query of all namespaces, and of a deletion."""

    async def page(self, query: Query) -> Page:
        return await super().page(query if query.namespace is not None else replace(query, owner=None))

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        return await super().delete(key, expect=expect)


@fails(AllNamespaces, "a_cursor_of_all_namespaces")
class AllStartsAnew(MemoryBackend):
    """Begins a query of all namespaces with the namespace in the cursor."""

    async def page(self, query: Query) -> Page:
        position = query.position
        if query.namespace is None and position is not None and not position[2]:
            query = replace(query, cursor=None)
        return await super().page(query)


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
    """Ignores the case of ids, as a case-insensitive file system does."""

    def _fold(self, key: Key) -> Key:
        return Key(key.namespace, key.session.lower())


@fails(Naming, "an_id_is_no_pattern", "no_two_ids_share_a_place")
class FoldsForms(_Folding):
    """Treats ids with equal Unicode normal forms as equal."""

    def _fold(self, key: Key) -> Key:
        return Key(key.namespace, unicodedata.normalize("NFC", key.session))


@fails(Naming, "an_id_is_no_pattern", "no_two_ids_share_a_place")
class Strips(_Folding):
    """Ignores trailing spaces in ids, as a column of type CHAR does."""

    def _fold(self, key: Key) -> Key:
        return Key(key.namespace, key.session.rstrip())


@fails(Naming, "an_id_is_no_pattern", "no_two_ids_share_a_place")
class CutsIds(_Folding):
    """Truncates long ids."""

    def _fold(self, key: Key) -> Key:
        return Key(key.namespace, key.session[:200])


@fails(Naming, "an_id_is_no_pattern", "no_two_ids_share_a_place")
@fails(Namespaces, "namespace_and_id_do_not_run_together")
class Glues(_Folding):
    """Joins namespace and id with a colon."""

    def _fold(self, key: Key) -> Key:
        glued = f"{key.namespace}:{key.session}"
        return Key("all", glued if len(glued.encode()) <= 255 else sha256(glued.encode()).hexdigest())

    async def page(self, query: Query) -> Page:
        page = await super().page(Query(namespace="all", limit=1000))
        prefix = f"{query.namespace}:"
        infos = [i for i in page.infos if i.key.session.startswith(prefix) and query.owner in (None, i.owner)]
        return Page(tuple(replace(i, key=Key(query.one_namespace, i.key.session.removeprefix(prefix))) for i in infos))


@fails(Naming, "invalid_keys")
class LooksUpWhatever(MemoryBackend):
    """Returns False for a deletion with an invalid key, instead of an error."""

    async def delete(self, key: Key, **how: Any) -> bool:
        return (bool(how.get("expect")) or key in self._states) and await super().delete(key, **how)


@fails(Naming, "an_id_is_no_pattern")
class DeletesByPattern(MemoryBackend):
    """Treats an id as a pattern on deletion."""

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
    """Uses one namespace for all sessions."""

    def _fold(self, key: Key) -> Key:
        return Key("default", key.session)


@fails(Naming, "no_two_ids_share_a_place")
@fails(Namespaces, "a_namespace_is_a_tenants_own")
class PagesItsOwn(MemoryBackend):
    """Lists the same namespace for every query."""

    async def page(self, query: Query) -> Page:
        own = Query(namespace="default", owner=query.owner, limit=query.limit)
        return Page((await super().page(own)).infos)


@fails(Namespaces, "the_namespace_of_a_store", "within_a_store", "within_a_view")
class AlwaysDefault(MemoryBackend):
    """Returns every session with the namespace `default`."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, info=replace(session.info, key=Key("default", key.session)))


@fails(Namespaces, "a_namespace_is_a_tenants_own", "namespace_and_id_do_not_run_together")
class DeletesFromAll(MemoryBackend):
    """Deletes the session from all namespaces."""

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
    """Ignores the time to live."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "ttl": None})

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, ttl=0.0) if change.ttl else change)


@fails(Expiring, "for_ever_by_default")
class LivesADay(MemoryBackend):
    """Expires sessions after a day if no time to live is given."""

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
    """Sets the expiry only when a session is created."""

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
    """Shortens an expiry that is further away than the store's time to live."""

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
    """Extends the expiry on every read, also with `touch=False`."""

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
    """Extends the expiry on writes only."""

    async def read(self, key: Key, **asked: Any) -> Session:
        return await super().read(key, **{**asked, "touch": False})


@fails(Expiring, "what_extends_no_life")
class RefusedIsAUse(MemoryBackend):
    """Extends the expiry before it checks the change."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if await stored(self, key) is not None:
            await self.read(key, last=0)
        return await super().commit(key, change)


@fails(Expiring, "what_extends_a_life")
class RepeatsAreNoUse(MemoryBackend):
    """Does not extend the expiry on a repeat."""

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
    """Returns expired sessions until a sweep removes them."""

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
    """Ignores the time to live of a session, and uses the store's."""

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
    """Treats a time to live of 0 as none given."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        header = self._states[key].header
        if change.ttl == 0 and header is not None and self.ttl:
            self._states[key].header = replace(header, expires=self.clock() + self.ttl)
        return receipt


@fails(Expiring, "a_time_to_live_takes_effect_at_once", "how_long_it_still_lives")
class TtlFromTheNextUse(MemoryBackend):
    """Applies a new time to live only on the next use."""

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
    """Changes the version when it extends the expiry."""

    async def read(self, key: Key, **asked: Any) -> Session:
        header = self._state(key).header
        session = await super().read(key, **asked)
        after = self._states[key].header
        if header is not None and after is not None and after.expires != header.expires:
            self._states[key].header = replace(after, version=replace(after.version, stamp=b"slid"))
        return session


@fails(Expiring, "an_expired_session_is_not_there")
class DeletesTheDead(MemoryBackend):
    """Returns True for the deletion of an expired session."""

    async def delete(self, key: Key, **how: Any) -> bool:
        header = self._state(key).header
        if header is not None and not header.alive(self.clock()):
            self._drop(key)
            return True
        return await super().delete(key, **how)


@fails(Expiring, "a_copy_has_a_life_of_its_own")
class CopiesOutOfTime(MemoryBackend):
    """Copies a session without its time to live."""

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
    """Rounds the time to live to minutes."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.ttl:
            change = replace(change, ttl=max(60.0, change.ttl // 60 * 60), asked=change.digest)
        return await super().commit(key, change)


# ------------------------------------------------------------------------------------------------------------- values


@fails(Values, "metadata_is_the_callers_own")
class OneMetadataForAll(MemoryBackend):
    """Returns the metadata object that it stores."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        kept = self._metadata.setdefault(session.version, dict(session.info.metadata))
        return replace(session, info=replace(session.info, metadata=kept))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._metadata: dict[Version, dict[str, Any]] = {}


class _Loose(Message, frozen=True):
    """A message that returns the same decoded dictionary on every call."""

    def to_dict(self) -> dict[str, JSON]:
        return _DECODED.setdefault(repr(self._rest), super().to_dict())


_DECODED: dict[str, dict[str, JSON]] = {}


@fails(Values, "one_message_in_two_sessions", "loaded_messages_are_the_callers_own")
class DecodesOnce(MemoryBackend):
    """Returns messages that share their decoded dictionaries."""

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


class _Live(tuple[Record, ...]):  # noqa: SLOT001 - it needs attributes
    """The current records of a session, read again on each iteration."""

    store: MemoryBackend
    key: Key

    def __iter__(self) -> Any:
        return iter(self.store._state(self.key).records)


@fails(Values, "a_session_is_a_snapshot", "returned_values_are_immutable")
class LiveView(MemoryBackend):
    """Returns a view of the stored records instead of a snapshot."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        records = _Live(session.records)
        records.store, records.key = self, key
        return replace(session, records=records)


@fails(Values, "returned_values_are_immutable")
class HandsOutLists(MemoryBackend):
    """Returns lists instead of tuples."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, records=list(session.records))


# ------------------------------------------------------------------------------------------------------------- limits


@fails(Limits, "a_cut_is_never_too_large", "how_large_a_session")
class Unlimited(MemoryBackend):
    """Ignores the limit of bytes."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, max_bytes=None))


@fails(Limits, "a_cut_is_never_too_large", "how_large_a_session")
class ChecksAfterwards(MemoryBackend):
    """Stores first, and checks the limit afterwards."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, replace(change, max_bytes=None))
        session = await stored(self, key)
        assert session is not None
        if change.max_bytes is not None and session.info.bytes > change.max_bytes:
            raise TooLarge("it is too much")
        return receipt


@fails(Limits, "how_many_values")
class LimitsSeals(MemoryBackend):
    """Limits the values of a sealed record like those of one round."""

    async def seal(self, key: Key, record: Record) -> bool:
        if sum(len(message.content) for message in record.messages) > limits.MAX_VALUES:  # type: ignore[arg-type, misc]
            raise TooLarge("too many values")
        return await super().seal(key, record)


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
    """Checks the limit before it removes turns."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        size = sum(record.size for record in change.append) + (0 if session is None else session.info.bytes)
        if change.max_bytes is not None and size > change.max_bytes:
            raise TooLarge("it is too much")
        return await super().commit(key, change)


@fails(Limits, "a_sessions_bytes", "how_large_a_record", "how_large_a_session")
class CountsAll(MemoryBackend):
    """Counts all bytes that were ever written."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, info=replace(session.info, bytes=self._written.get(key, 0)))

    async def commit(self, key: Key, change: Change) -> Receipt:
        self._written[key] = self._written.get(key, 0) + sum(record.size for record in change.append)
        return await super().commit(key, change)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._written: dict[Key, int] = {}


@fails(Limits, "ids_as_long_as_they_may_be")
@fails(BadInput, "unusual_input")
class ShortColumns(MemoryBackend):
    """Limits turn ids and namespaces to 64 bytes, as a column of that length does."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if any(len(record.id.encode()) > 64 for record in change.append) or len(key.namespace.encode()) > 64:
            raise InvalidInput("it is too long")
        return await super().commit(key, change)


@fails(Limits, "how_many_messages")
class FewMessages(MemoryBackend):
    """Limits a turn to a thousand messages."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if any(record.count > 1000 for record in change.append):
            raise TooLarge("it is a lot")
        return await super().commit(key, change)


@fails(Limits, "how_deep")
@fails(BadInput, "unusual_input")
class Shallow(MemoryBackend):
    """Refuses deeply nested messages."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        for record in change.append:
            for message in record.messages:
                if str(message.to_dict()).count("[") > 20:
                    raise InvalidInput("it is deep")
        return await super().commit(key, change)


# ---------------------------------------------------------------------------------------------------- namespace lists


@fails(NamespaceLists, "a_namespace_without_sessions", "more_than_a_page_of_namespaces", "namespaces_page_by_page")
class NamespacesUsed(MemoryBackend):
    """Records each namespace that is written to, never removes one, and returns all at once."""

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
    """Lists the namespaces in the order of their sessions, once for each session."""

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        names = [key.namespace for key in self._states if after is None or key.namespace > after]
        return names[:limit]


@fails(NamespaceLists, "namespaces_of_layers")
class NamespacesOfApplications(MemoryBackend):
    """Leaves out the namespaces of layers, so no tool can copy them."""

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        names = await super().namespaces(after=after, limit=limit)
        return [name for name in names if not Key(name, "-").is_internal]
