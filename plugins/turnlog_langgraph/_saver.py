"""`TurnlogSaver`: the checkpointer."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from threading import RLock
from typing import Any, Final, Literal, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

import turnlog.sync
from turnlog import (
    ABSENT,
    Conflict,
    Expect,
    HistoryRegressed,
    InvalidInput,
    Message,
    OutcomeUnknown,
    Receipt,
    SessionInfo,
    SessionNotFound,
    Store,
    encode_id,
)

from ._draft import Draft, Put, draft_writes
from ._log import CHECKPOINT, FULL_AT, WRITES, Incomplete, Stored, ThreadLog

_T = TypeVar("_T")

_THREADS: Final = 64
"""Number of threads whose turns are kept in memory."""

_LOG_BYTES: Final = 4 * 1024 * 1024
"""Largest size of the turns of a thread that are kept for the next read, in bytes; larger ones are read again."""

_NAMED: Final = 1_000
"""Number of old checkpoints, read by their ids, from which a run may branch off."""


class TurnlogSaver(BaseCheckpointSaver[str]):
    """A checkpointer that keeps each thread in a session of a turnlog store.

    Each checkpoint, and the writes of each task, are one turn: stored completely or not at all, and once, even if the
    answer of the database is lost.  Lists, such as the messages of a conversation, are stored without the part that the
    parent's list already has, and a process reads only the turns that it does not know.  The synchronous methods serve
    `graph.invoke`, the asynchronous ones `graph.ainvoke`; any number of threads, event loops and processes may use one
    thread of LangGraph at once.

        with turnlog.sync.open_store("sqlite:///threads.db") as store:
            graph = builder.compile(checkpointer=TurnlogSaver(store))
            graph.invoke({"messages": "Hello"}, {"configurable": {"thread_id": "alice"}})

    A run of a thread that was erased since the run began raises `turnlog.Conflict`.

    Args:
        store: An opened `turnlog.Store` or `turnlog.sync.Store`, or a view of one, for example
            `store.within("langgraph")`.
        serde: The serializer of LangGraph for values other than messages; None: `JsonPlusSerializer`.  With another
            serializer, messages are also stored in its form, and `turnlog show` cannot display them.
        on_fork: The treatment of a run whose thread another run has continued since: "allow", as in LangGraph's own
            checkpointers, stores both branches, of which the thread continues the last; "refuse" raises
            `turnlog.Conflict`.  A run that names an old checkpoint by its id may always branch off.

    Raises:
        turnlog.InvalidInput: `store` is not a store, or drops turns (`retain`), which hold values that later turns
            need; or `on_fork` is neither of the two.
    """

    def __init__(
        self,
        store: Store | turnlog.sync.Store,
        *,
        serde: SerializerProtocol | None = None,
        on_fork: Literal["allow", "refuse"] = "allow",
    ) -> None:
        super().__init__(serde=serde)
        wrapped = store.wrapped if isinstance(store, turnlog.sync.Store) else store
        if not isinstance(wrapped, Store):
            raise InvalidInput(f"TurnlogSaver takes a store, as open_store returns it, not {type(store).__name__}")
        if wrapped.retain is not None:
            raise InvalidInput(
                f"TurnlogSaver needs a store that keeps all turns, but this one has retain={wrapped.retain}: later "
                "turns need values of earlier ones; open the store without retain, and remove old checkpoints by prune"
            )
        if on_fork not in ("allow", "refuse"):
            raise InvalidInput(f"on_fork must be 'allow' or 'refuse', not {on_fork!r}")
        self._store = wrapped
        self._blocking = cast("Store", _Blocking(turnlog.sync.Store.over(wrapped)))
        self._refuses = on_fork == "refuse"
        self._logs: OrderedDict[str, ThreadLog] = OrderedDict()
        self._named: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = RLock()

    # ------------------------------------------------------------------------------------------------- the sync methods

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return _run(self._get(self._blocking, config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the name in LangGraph
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        for thread in _run(self._threads(self._blocking, config)):
            log = _run(self._whole(self._blocking, thread))
            for found in self._matching(log, config, filter, before):
                if limit is not None and limit <= 0:
                    return
                limit = None if limit is None else limit - 1
                yield self._tuple(log, found)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return _run(self._put(self._blocking, config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        _run(self._put_writes(self._blocking, config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        _run(self._erase(self._blocking, thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        _run(self._delete_runs(self._blocking, run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        _run(self._copy(self._blocking, source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        _run(self._prune(self._blocking, thread_ids, strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return _run(self._history(self._blocking, config, channels))

    # ------------------------------------------------------------------------------------------------ the async methods

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._get(self._store, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the name in LangGraph
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        for thread in await self._threads(self._store, config):
            log = await self._whole(self._store, thread)
            for found in self._matching(log, config, filter, before):
                if limit is not None and limit <= 0:
                    return
                limit = None if limit is None else limit - 1
                yield self._tuple(log, found)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self._put(self._store, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self._put_writes(self._store, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        await self._erase(self._store, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._delete_runs(self._store, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self._copy(self._store, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await self._prune(self._store, thread_ids, strategy)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await self._history(self._store, config, channels)

    def get_next_version(self, current: str | None, channel: None) -> str:  # noqa: ARG002 - LangGraph passes it
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:010}.{secrets.token_hex(4)}"  # random: two branches must not make the same version

    # ------------------------------------------------------------------------------------------------------- operations

    async def _get(self, store: Store, config: RunnableConfig) -> CheckpointTuple | None:
        thread, ns = _place(config)
        id = get_checkpoint_id(config)

        def find(log: ThreadLog) -> CheckpointTuple | None:
            found = log.checkpoint(ns, id) if id else log.head(ns)
            if found is None:
                return None
            if id and found is not log.head(ns):  # the caller branches off an old checkpoint
                _limited(self._named, (thread, id), None, _NAMED)
            return self._tuple(log, found, config["configurable"]["thread_id"])

        return await self._ask(store, thread, find)

    async def _put(
        self,
        store: Store,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        thread, ns = _place(config)
        parent = get_checkpoint_id(config)
        put = Put(ns, parent, checkpoint, get_checkpoint_metadata(config, metadata), new_versions)
        guarded = self._refuses and not ns
        while True:
            log = self._log(thread)
            expect: Expect = log.seen and log.seen.session  # an erased thread must not come back
            if guarded:
                log, head = await self._ask(store, thread, lambda log: (log, log.head(ns)))
                self._check_fork(thread, put, None if head is None else head.header["id"])
                expect = log.version or ABSENT
            with self._lock:
                draft = Draft(log, self.serde, put)
            try:
                receipt = await self._append(store, log, draft.messages, expect, full=draft.full and not ns)
            except Conflict:
                if not guarded:
                    raise
                continue  # another task has written: compare the last checkpoint again
            if draft.needs is None or draft.needs >= receipt.first:
                return _config(config["configurable"]["thread_id"], ns, checkpoint["id"])
            self._logs.pop(thread, None)  # another process has pruned the thread: store all values once more

    async def _put_writes(
        self, store: Store, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task: str, path: str
    ) -> None:
        thread, ns = _place(config)
        place = ns, config["configurable"]["checkpoint_id"]
        log = self._log(thread)
        messages = draft_writes(place, writes, task, path, self.serde)
        await self._append(store, log, messages, log.seen and log.seen.session)

    async def _append(
        self, store: Store, log: ThreadLog, messages: tuple[Message, ...], expect: Expect, *, full: bool = False
    ) -> Receipt:
        session = encode_id(log.thread)
        metadata: dict[str, str | int] = {FULL_AT: log.stored} if full else {}
        if session != log.thread and log.seen is None:
            metadata[_THREAD_ID] = log.thread
        receipt = await _settled(store, store.append(session, messages, expect=expect, metadata=metadata or None))
        with self._lock:
            log.appended(receipt, messages)
        return receipt

    async def _copy(self, store: Store, source: str, target: str) -> None:
        source, target = str(source), str(target)
        session = encode_id(target)
        await _settled(store, store.fork(encode_id(source), session))
        if session != target:
            await _settled(store, store.merge_metadata(session, {_THREAD_ID: target}))

    async def _erase(self, store: Store, thread: str) -> None:
        thread = str(thread)
        self._logs.pop(thread, None)
        try:
            await store.erase(encode_id(thread))
        except OutcomeUnknown:
            await store.erase(encode_id(thread))

    async def _prune(self, store: Store, threads: Sequence[str], strategy: str) -> None:
        if strategy not in ("keep_latest", "delete"):
            raise InvalidInput(f"the strategy of prune must be 'keep_latest' or 'delete', not {strategy!r}")
        for thread in threads:
            if strategy == "delete":
                await self._erase(store, thread)
            else:
                await self._keep(store, str(thread), self._latest)

    def _latest(self, log: ThreadLog) -> set[tuple[str, str]]:
        """Return the last checkpoint of each namespace, and the ancestors that its DeltaChannels need."""
        kept: set[tuple[str, str]] = set()
        for ns in log.namespaces():
            found = log.head(ns)
            channels = set(found.metadata(self.serde).get("counters_since_delta_snapshot") or ()) if found else set()
            while found is not None:
                kept.add(found.place)
                versions = found.state(self.serde)["channel_versions"]
                channels = {name for name in channels if not log.value(ns, name, versions.get(name), self.serde)}
                found = log.checkpoints.get((ns, found.header["parent"])) if channels else None
        return kept

    async def _delete_runs(self, store: Store, runs: Sequence[str]) -> None:
        removed = set(runs)

        def other_runs(log: ThreadLog) -> set[tuple[str, str]]:
            return {
                place
                for place, found in log.checkpoints.items()
                if found.metadata(self.serde).get("run_id") not in removed
            }

        for thread in await self._threads(store, None) if removed else ():
            await self._keep(store, thread, other_runs)

    async def _keep(self, store: Store, thread: str, choose: Callable[[ThreadLog], set[tuple[str, str]]]) -> None:
        """Remove the checkpoints of a thread that are not chosen, with their writes.

        The first commit adds the chosen checkpoints again, with all their values.  The second commit drops all earlier
        turns.  The numbers of turns are never used twice, so another process notices that a turn is gone.
        """
        session = encode_id(thread)
        while True:
            log = await self._whole(store, thread)
            kept = choose(log)
            if len(kept) == len(log.checkpoints):
                return
            messages = self._again(log, kept)
            try:
                if not messages:
                    await store.erase(session, expect=log.version)
                else:
                    rewrite = store.rewrite(
                        session,
                        messages,
                        from_turn=log.turns,
                        expect=log.version,
                        begins_turn=lambda message: message.role in (CHECKPOINT, WRITES),
                    )
                    receipt = await _settled(store, rewrite)
                    await _settled(store, store.trim(session, before=log.turns, expect=receipt.version))
            except Conflict:
                continue  # another task has written: choose again
            finally:
                self._logs.pop(thread, None)
            return

    def _again(self, log: ThreadLog, kept: set[tuple[str, str]]) -> Sequence[Message]:
        """Return the messages of turns that store some checkpoints of a log, and their writes, as a new thread."""
        copy, turns = ThreadLog(log.thread, first=log.turns), deque[tuple[Message, ...]]()

        def add(turn: tuple[Message, ...]) -> None:
            copy.add(copy.turns, turn)
            turns.append(turn)

        for found in sorted((log.checkpoints[place] for place in kept), key=lambda found: found.turn):
            one = self._tuple(log, found)
            versions = one.checkpoint["channel_versions"]
            put = Put(found.header["ns"], found.header["parent"], one.checkpoint, one.metadata, versions)
            add(Draft(copy, self.serde, put).messages)
        for turn in log.pending_turns():
            if turn.place in kept or turn.place not in log.checkpoints:
                add(turn.messages)
        return [message for turn in turns for message in turn]

    async def _history(
        self, store: Store, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        thread, ns = _place(config)
        id = get_checkpoint_id(config)

        def walk(log: ThreadLog) -> Mapping[str, DeltaChannelHistory]:
            result: dict[str, DeltaChannelHistory] = {name: {"writes": []} for name in channels}
            remaining, passed = set(channels), set[str]()
            found = log.checkpoint(ns, id) if id else log.head(ns)
            while remaining and found is not None and (parent := found.header["parent"]) and parent not in passed:
                passed.add(parent)
                found = log.checkpoint(ns, parent)
                versions = log.versions(ns, parent, self.serde) or {}
                for write in reversed(log.pending((ns, parent), self.serde)):
                    if write[1] in remaining:
                        result[write[1]]["writes"].append(write)
                for name in tuple(remaining):
                    if name in versions and (value := log.value(ns, name, versions[name], self.serde)):
                        result[name]["seed"] = value[0]
                        remaining.discard(name)
            for entry in result.values():
                entry["writes"].reverse()
            return result

        return await self._ask(store, thread, walk) if channels else {}

    # ---------------------------------------------------------------------------------------------------------- reading

    def _log(self, thread: str) -> ThreadLog:
        """Return the known turns of a thread."""
        log = self._logs.get(thread)
        if log is None:
            log = ThreadLog(thread)
            _limited(self._logs, thread, log, _THREADS)
        return log

    async def _ask(self, store: Store, thread: str, question: Callable[[ThreadLog], _T]) -> _T:
        """Return the answer from the present turns of a thread; read earlier turns only if the question needs them."""
        known = self._logs.get(thread)
        log = await self._read(store, thread, last=0, since=known)  # for an unknown thread, only its metadata
        if log is not known and not log.whole:
            log = await self._read(store, thread, last=log.tail if log.tail > 0 else None)
        try:
            with self._lock:
                return question(log)
        except Incomplete:
            log = await self._whole(store, thread)
        with self._lock:
            return question(log)

    async def _whole(self, store: Store, thread: str) -> ThreadLog:
        log = await self._read(store, thread, since=self._logs.get(thread))
        return log if log.whole else await self._read(store, thread)

    async def _read(
        self, store: Store, thread: str, *, last: int | None = None, since: ThreadLog | None = None
    ) -> ThreadLog:
        """Read the turns that a log lacks, or the last turns of a thread, and keep them in memory."""
        if since is not None and since.size > _LOG_BYTES:
            since = None
        try:
            session = await store.session(encode_id(thread), last=last, since=None if since is None else since.version)
        except (HistoryRegressed, SessionNotFound) as error:
            self._logs.pop(thread, None)
            if isinstance(error, HistoryRegressed):
                raise
            return self._log(thread)
        with self._lock:
            if since is not None and session.continues and session.info.first == since.first:
                since.extend(session)
                return since
            log = ThreadLog(thread, session)
        _limited(self._logs, thread, log, _THREADS)
        return log

    async def _threads(self, store: Store, config: RunnableConfig | None) -> Sequence[str]:
        if config is not None:
            return [_place(config)[0]]
        return [_thread_of(info) async for info in store.sessions()]

    def _matching(
        self,
        log: ThreadLog,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,  # noqa: A002 - the name in LangGraph
        before: RunnableConfig | None,
    ) -> Iterator[Stored]:
        """Yield the checkpoints of a log that match the arguments of `list`, newest first."""
        wanted: Mapping[str, Any] = config["configurable"] if config else {}
        bound = get_checkpoint_id(before) if before else None
        for (ns, id), found in sorted(log.checkpoints.items(), key=lambda item: item[0][1], reverse=True):
            if wanted.get("checkpoint_ns", ns) != ns or (wanted.get("checkpoint_id") or id) != id:
                continue
            if bound is not None and id >= bound:
                continue
            if filter:
                metadata = found.metadata(self.serde)
                if any(metadata.get(name) != value for name, value in filter.items()):
                    continue
            yield found

    def _tuple(self, log: ThreadLog, found: Stored, thread: object = None) -> CheckpointTuple:
        """Return LangGraph's form of a checkpoint."""
        thread = log.thread if thread is None else thread
        ns, id = found.place
        state, parent = found.state(self.serde), found.header["parent"]
        values = {
            name: value[0]
            for name, version in state["channel_versions"].items()
            if (value := log.value(ns, name, version, self.serde))
        }
        return CheckpointTuple(
            config=_config(thread, ns, id),
            checkpoint=cast("Checkpoint", {**state, "channel_values": values}),
            metadata=cast("CheckpointMetadata", found.metadata(self.serde)),
            parent_config=_config(thread, ns, parent) if parent else None,
            pending_writes=log.pending(found.place, self.serde),
        )

    def _check_fork(self, thread: str, put: Put, head: str | None) -> None:
        meant = put.metadata.get("source") == "fork" or (thread, put.parent) in self._named
        if head != put.parent and not meant:
            raise Conflict(
                f"thread {thread!r} is at checkpoint {head}, but this run continues {put.parent}: another run has "
                "written in the meantime; run the graph again with the same input"
            )


_THREAD_ID: Final = "thread_id"
"""The name in a session's metadata of a thread id that is no session id."""


class _Blocking:
    """A `turnlog.sync.Store` with the coroutines of `turnlog.Store`: they block, and so never wait for the loop."""

    def __init__(self, store: turnlog.sync.Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*args: object, **kwargs: object) -> object:
            return method(*args, **kwargs)

        return call

    async def sessions(self) -> AsyncIterator[SessionInfo]:
        for info in self._store.sessions():
            yield info


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never waits, and return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    raise AssertionError


async def _settled(store: Store, call: Awaitable[Receipt]) -> Receipt:
    """Return the receipt of a write; if its answer was lost, send the change again, which stores it once."""
    try:
        return await call
    except OutcomeUnknown as error:
        return await store.resend(error)


def _place(config: RunnableConfig) -> tuple[str, str]:
    """Return the thread id and the checkpoint namespace of a configuration."""
    configurable = config["configurable"]
    return str(configurable["thread_id"]), configurable.get("checkpoint_ns") or ""


def _config(thread: object, ns: str, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}


def _thread_of(info: SessionInfo) -> str:
    """Return the thread id of a session."""
    session, thread = info.key.session, info.metadata.get(_THREAD_ID)
    return thread if isinstance(thread, str) and encode_id(thread) == session else session


def _limited(kept: OrderedDict[Any, _T], key: object, value: _T, limit: int) -> None:
    """Set a value, and remove the oldest values beyond a limit."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > limit:
        kept.popitem(last=False)
