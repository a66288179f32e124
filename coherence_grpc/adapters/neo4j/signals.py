"""The SignalStore on Neo4j."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4
from weakref import WeakValueDictionary

from coherence_grpc.adapters.neo4j import own, prune
from coherence_grpc.adapters.neo4j.append import announce, append
from coherence_grpc.adapters.neo4j.graph import connected
from coherence_grpc.adapters.neo4j.heads import Heads
from coherence_grpc.adapters.neo4j.migrating import epoch_of
from coherence_grpc.adapters.neo4j.notes import Notes
from coherence_grpc.adapters.neo4j.parts import Parts
from coherence_grpc.adapters.neo4j.planning import plan
from coherence_grpc.adapters.neo4j.reads import Reads
from coherence_grpc.adapters.neo4j.records import Ledger
from coherence_grpc.adapters.neo4j.windows import Windows
from coherence_grpc.model import OnConflict
from coherence_grpc.ports import Pruned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

    from coherence_grpc.adapters.neo4j.append import Committed
    from coherence_grpc.adapters.neo4j.graph import Graph, Statements
    from coherence_grpc.breaker import Breaker
    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.model import (
        Appended,
        Entry,
        EntryKind,
        Head,
        Key,
        LedgerRow,
        Provenance,
        Score,
        StoredSignal,
        Write,
    )
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import Clock, Retained, SignalQuery, WindowColumns, WindowParts, WindowTotals

# How much more than a new signal one may take: what is replaced is found, and loses its label and its relation.
ROWS_OF: Final[Mapping[OnConflict, int]] = {OnConflict.REJECT: 1, OnConflict.REPLACE: 3}


@asynccontextmanager
async def open_signal_store(
    uri: str, user: str, password: str, clock: Clock, *, database: str = "neo4j", patience: float = 1.0
) -> AsyncIterator[Neo4jSignals]:
    """The store on that server; the clock observes what was recorded last. `patience` multiplies all limits of time.

    Raises:
        MigrationPending: the graph is behind this release.
        SettingsInvalid: the address, the user or the password is wrong.
        StoreDown, StoreTimeout: the server can't be reached.
    """
    async with connected(uri, user, password, database=database, patience=patience) as graph:
        store = Neo4jSignals(graph, Heads(graph, await epoch_of(graph)))
        clock.observe(await store.newest())
        await plan(graph, store.epoch)
        try:
            yield store
        finally:
            await store.settle()


class Neo4jSignals:
    """Other processes may write to the same logs: nothing is taken from memory but what was settled."""

    def __init__(self, graph: Graph, heads: Heads) -> None:
        self._graph = graph
        self._heads = heads
        self._reads = Reads(graph, heads)
        self._windows = Windows(graph, heads)
        self._parts = Parts(graph, self._windows)
        self._ledger = Ledger(graph, heads)
        self._notes = Notes(graph)
        self._lanes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def breaker(self) -> Breaker:
        """What keeps calls from a server that fails."""
        return self._graph.breaker

    async def settle(self) -> None:
        """Writes what is only noted yet."""
        await self._notes.settle()

    async def newest(self) -> int:
        """The newest recorded_at of all."""
        return await self._heads.newest()

    @property
    def epoch(self) -> int:
        """As it was when the store was opened; a log that was rebuilt since takes no entries from here."""
        return self._heads.epoch

    async def append(self, writes: Sequence[Write], *, now: int) -> Sequence[Appended | CoherenceError]:
        """In the order of the calls for each tenant; the commit outlives a cancelled caller."""
        return await self._graph.owned(lambda: self._append(writes, now))

    async def _append(self, writes: Sequence[Write], now: int) -> Sequence[Appended | CoherenceError]:
        lock = uuid4().hex

        async def work(transaction: Statements) -> Committed:
            return await append(transaction, writes, epoch=self.epoch, now=now, lock=lock)

        async with self._lane({write.tenant_id for write in writes}):
            rows = sum(len(write.items) * ROWS_OF[write.on_conflict] for write in writes)
            done = await self._graph.transact(work, rows=rows)
            if done.unannounced:
                await self._graph.transact(partial(announce, tenant_ids=done.unannounced))
                done = await self._graph.transact(work, rows=rows)
        self._heads.committed(done.seqs)
        return done.answers

    async def append_own(
        self,
        tenant_id: str,
        kind: EntryKind,
        payload: bytes,
        provenance: Provenance,
        *,
        now: int,
        based_on: int | None = None,
    ) -> Entry:
        """In one transaction; the commit outlives a cancelled caller."""
        entry = own.Own(tenant_id, kind, payload, provenance)
        return await self._graph.owned(lambda: self._append_own(entry, now, based_on))

    async def _append_own(self, entry: own.Own, now: int, based_on: int | None) -> Entry:
        async def work(transaction: Statements) -> own.Added:
            return await own.add(transaction, entry, epoch=self.epoch, now=now, based_on=based_on)

        async with self._lane((entry.tenant_id,)):
            seq, added = await self._graph.transact(work)
        if added is None:
            (added,) = await self._reads.tail(entry.tenant_id, after=seq - 1, limit=1)
        self._heads.committed({entry.tenant_id: seq})
        return added

    async def policy(self, tenant_id: str, *, at: int | None = None) -> PolicyVersion:
        """The end of an index."""
        if at is not None:
            await self._heads.reach(tenant_id, at)
        return await own.newest_policy(self._graph.ask, tenant_id, at=at)

    async def policies(self, tenant_id: str, *, before: int | None, limit: int) -> Sequence[PolicyVersion]:
        """An index walked backwards."""
        return await own.policies(self._graph.ask, tenant_id, before=before, limit=limit)

    @asynccontextmanager
    async def _lane(self, tenant_ids: Iterable[str]) -> AsyncIterator[None]:
        """Who waits for a tenant's head that this process holds, waits here and not on a connection."""
        async with AsyncExitStack() as stack:
            for tenant_id in sorted(tenant_ids):
                await stack.enter_async_context(self._lanes.setdefault(tenant_id, asyncio.Lock()))
            yield

    async def head(self, tenant_id: str) -> Head:
        """As the tenant's node shows it."""
        return await self._heads.head(tenant_id)

    async def heads(self, tenant_ids: Collection[str]) -> Mapping[str, Head]:
        """Those that moved are held for a moment, so that a commit is seen whole."""
        return await self._heads.settled_all(tenant_ids)

    async def tenants(self) -> Sequence[str]:
        """By the label."""
        return await self._heads.tenants()

    async def moved(self, *, since: int) -> Mapping[str, Head]:
        """A range of the index of head_time."""
        return await self._heads.moved(since)

    async def tail(self, tenant_id: str, *, after: int, limit: int) -> Sequence[Entry]:
        """A range of the log."""
        return await self._reads.tail(tenant_id, after=after, limit=limit)

    async def seq_at(self, tenant_id: str, recorded_at: int) -> int:
        """By dividing the log."""
        return await self._reads.seq_at(tenant_id, recorded_at)

    async def first_readable(self, tenant_id: str) -> int:
        """From where pruning has come to."""
        return await self._reads.first_readable(tenant_id)

    async def window(
        self, tenant_id: str, *, start: int, end: int | None = None, grouped: bool = False
    ) -> WindowColumns:
        """A range of the index, which holds the columns; its nodes hold the groups."""
        return await self._windows.columns(tenant_id, start=start, end=end, grouped=grouped)

    async def totals(self, tenant_id: str, *, start: int, end: int) -> WindowTotals:
        """Partial sums by Cypher, put together here."""
        return await self._windows.totals(tenant_id, start=start, end=end)

    async def parts(self, tenant_id: str, *, start: int, end: int, ahead: int) -> WindowParts:
        """A range of the index that holds the columns, and its nodes."""
        return await self._parts.parts(tenant_id, start=start, end=end, ahead=ahead)

    async def numbered(self, tenant_id: str, seqs: Sequence[int]) -> Sequence[StoredSignal]:
        """By the numbers of the entries."""
        return await self._parts.numbered(tenant_id, seqs)

    async def get(self, key: Key) -> StoredSignal | None:
        """By the key."""
        return await self._reads.signal(key)

    async def listing(
        self, tenant_id: str, query: SignalQuery, *, before: tuple[int, str, str] | None, limit: int
    ) -> tuple[Sequence[StoredSignal], Head]:
        """The index walked backwards."""
        return await self._reads.listing(tenant_id, query, before, limit)

    async def provenance(self, tenant_id: str, provenance_id: str) -> Provenance | None:
        """By its id."""
        return await self._reads.provenance(tenant_id, provenance_id)

    async def provenance_rows(self, tenant_id: str, provenance_id: str, *, limit: int) -> Sequence[LedgerRow]:
        """The run of entries that the record names."""
        return await self._ledger.stored_by(tenant_id, provenance_id, limit)

    async def ledger(self, tenant_id: str, *, first: int, limit: int) -> tuple[bytes, Sequence[LedgerRow]]:
        """A range of the log, as it is."""
        return await self._ledger.read(tenant_id, first, limit)

    async def hash_at(self, tenant_id: str, seq: int) -> bytes | None:
        """One entry."""
        return await self._reads.hash_at(tenant_id, seq)

    async def prune(self, tenant_id: str, *, now: int, provenance: Provenance, limit: int, dry_run: bool) -> Pruned:
        """Announced, then erased in one transaction; the commit outlives a cancelled caller."""
        if dry_run:
            return Pruned(await prune.expired_count(self._graph, tenant_id, now), more=False)
        return await self._graph.owned(lambda: self._prune(tenant_id, provenance, now, limit))

    async def _prune(self, tenant_id: str, provenance: Provenance, now: int, limit: int) -> Pruned:
        async with self._lane((tenant_id,)):
            return await prune.prune(self._graph, self._heads, tenant_id, provenance, now=now, limit=limit)

    async def retained(self, tenant_ids: Collection[str] | None) -> Retained:
        """Counts from the heads, the oldest ts from the index."""
        return await self._reads.retained(tenant_ids)

    def note_published(self, score: Score) -> None:
        """Written in a second, together with the score that people find behind HAS_SCORE."""
        self._graph.check_open()
        self._notes.note(score)

    async def published(self) -> Mapping[str, tuple[int, int]]:
        """From the tenants' nodes, and from memory what is not written yet."""
        return await self._notes.published()
