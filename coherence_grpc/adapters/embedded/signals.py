"""The SignalStore on SQLite."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.embedded import own, parts, prune, reads, windows
from coherence_grpc.adapters.embedded.append import Batch, HeadRow, Log
from coherence_grpc.adapters.embedded.database import Database
from coherence_grpc.adapters.embedded.opening import epoch_of, note, refusing
from coherence_grpc.adapters.embedded.schema import SIGNALS
from coherence_grpc.errors import CoherenceError
from coherence_grpc.failpoints import failpoint
from coherence_grpc.model import GENESIS, Head
from coherence_grpc.ports import Pruned, Retained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence
    from pathlib import Path

    import apsw

    from coherence_grpc.model import (
        Appended,
        Entry,
        EntryKind,
        Key,
        LedgerRow,
        Provenance,
        Score,
        StoredSignal,
        Write,
    )
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import Clock, SignalQuery, SignalStore, WindowColumns, WindowParts, WindowTotals

FILE: Final = "signals.db"
NOTES_S: Final = 1.0
# The place of a tenant that has none; no row carries its number.
_NOWHERE: Final = HeadRow(0, 0, GENESIS, 0)

_HEADS: Final = "SELECT tenant_id, tenant, seq, head_hash, recorded_at FROM heads"
_NOTES: Final = "SELECT tenant_id, score_epoch, score_version FROM heads WHERE score_version IS NOT NULL"
_LAST_RECORD: Final = "SELECT coalesce(max(record), 0) FROM provenance"

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_signal_store(
    directory: Path, clock: Clock, *, max_bytes: int | None = None
) -> AsyncIterator[SignalStore]:
    """The store in `directory`, made or migrated as need be; the clock observes what was recorded last.

    `max_bytes` bounds the file; its write-ahead log may take 64 MiB more, and one transaction.

    Raises:
        DataRefused: the file is damaged, not ours or can't be written.
        MigrationPending: a newer version wrote it.
    """
    path = directory / FILE
    database = Database(path, SIGNALS, max_bytes=max_bytes)
    try:
        with refusing(path, SIGNALS):
            store = EmbeddedSignals(database, clock)
        try:
            yield store
        finally:
            await store.settle()
    finally:
        await database.close()


class EmbeddedSignals:
    """Heads are kept in memory and change only after a commit; all else is read from the file."""

    def __init__(self, database: Database, clock: Clock) -> None:
        writer = database.writer
        note(writer, "created", clock.now())
        self._database = database
        self._epoch = epoch_of(writer)
        self._heads = {tenant_id: HeadRow(*row) for tenant_id, *row in writer.execute(_HEADS)}
        self._next_record: int = writer.execute(_LAST_RECORD).get + 1
        self._published = {tenant_id: (epoch, version) for tenant_id, epoch, version in writer.execute(_NOTES)}
        self._unwritten: dict[str, tuple[int, int]] = {}
        self._notes_timer: asyncio.TimerHandle | None = None
        clock.observe(max((row.recorded_at for row in self._heads.values()), default=0))

    async def settle(self) -> None:
        """Writes what is only noted yet."""
        if self._notes_timer is not None:
            self._notes_timer.cancel()
        await self._write_notes()

    @property
    def epoch(self) -> int:
        """The file's epoch."""
        return self._epoch

    async def append(self, writes: Sequence[Write], *, now: int) -> Sequence[Appended | CoherenceError]:
        """Inserts on the event loop, commits in the writer's thread; the commit outlives a cancelled caller."""
        self._database.check_open()
        return await self._database.owner.owned(self._append(writes, now))

    async def _append(self, writes: Sequence[Write], now: int) -> Sequence[Appended | CoherenceError]:
        def work(cursor: apsw.Cursor) -> tuple[Batch, Sequence[Appended | CoherenceError]]:
            batch = self._batch(cursor, now)
            answers = batch.apply(writes)
            if batch.heads:
                batch.note(self._unwritten)
                failpoint("append.written")
            return batch, answers

        _, answers = await self._database.transact(work, lambda done: self._committed(done[0]), on_loop=True)
        return answers

    def _batch(self, cursor: apsw.Cursor, now: int) -> Batch:
        return Batch(cursor, epoch=self._epoch, heads=self._heads, next_record=self._next_record, now=now)

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
        """Written in the writer's thread; the commit outlives a cancelled caller."""
        self._database.check_open()

        def work(cursor: apsw.Cursor) -> own.Own:
            # No other transaction moves the head meanwhile.
            log = Log(cursor, self._epoch, tenant_id, self._place(tenant_id), now)
            return own.add(cursor, log, self._next_record, provenance, kind=kind, payload=payload, based_on=based_on)

        return (await self._database.owner.owned(self._database.transact(work, self._own_committed))).entry

    def _own_committed(self, done: own.Own) -> None:
        if done.head is not None:
            self._heads[done.entry.tenant_id] = done.head
            self._next_record += 1

    def _place(self, tenant_id: str) -> HeadRow:
        return self._heads.get(tenant_id) or HeadRow(len(self._heads) + 1, 0, GENESIS, 0)

    async def policy(self, tenant_id: str, *, at: int | None = None) -> PolicyVersion:
        """By the table of policies."""
        return await self._database.read(reads.policy, self._tenant(tenant_id), at)

    async def policies(self, tenant_id: str, *, before: int | None, limit: int) -> Sequence[PolicyVersion]:
        """The table of policies walked backwards."""
        return await self._database.read(reads.policies, self._tenant(tenant_id), before, limit)

    def _committed(self, batch: Batch) -> None:
        self._heads.update(batch.heads)
        self._next_record = batch.next_record
        for tenant_id, published in batch.notes.items():
            if self._unwritten.get(tenant_id) == published:
                del self._unwritten[tenant_id]

    async def head(self, tenant_id: str) -> Head:
        """From memory."""
        self._database.check_open()
        return self._head(tenant_id)

    async def heads(self, tenant_ids: Collection[str]) -> Mapping[str, Head]:
        """From memory."""
        self._database.check_open()
        return {tenant_id: self._head(tenant_id) for tenant_id in tenant_ids}

    async def moved(self, *, since: int) -> Mapping[str, Head]:
        """From memory."""
        self._database.check_open()
        return {name: self._head(name) for name, row in self._heads.items() if row.seq and row.recorded_at >= since}

    def _head(self, tenant_id: str) -> Head:
        row = self._heads.get(tenant_id, _NOWHERE)
        return Head(self._epoch, row.seq, row.head_hash)

    async def tenants(self) -> Sequence[str]:
        """From memory."""
        self._database.check_open()
        return sorted(tenant_id for tenant_id, row in self._heads.items() if row.seq)

    def _tenant(self, tenant_id: str) -> int:
        return self._heads.get(tenant_id, _NOWHERE).tenant

    async def tail(self, tenant_id: str, *, after: int, limit: int) -> Sequence[Entry]:
        """A range of the log."""
        return await self._database.read(reads.tail, tenant_id, self._tenant(tenant_id), after, limit)

    async def seq_at(self, tenant_id: str, recorded_at: int) -> int:
        """By halving the log."""
        return await self._database.read(reads.seq_at, self._tenant(tenant_id), recorded_at)

    async def first_readable(self, tenant_id: str) -> int:
        """From where pruning has come to."""
        return await self._database.read(reads.first_readable, self._tenant(tenant_id))

    async def window(
        self, tenant_id: str, *, start: int, end: int | None = None, grouped: bool = False
    ) -> WindowColumns:
        """A range of the key."""
        tenant = self._tenant(tenant_id)
        return await self._database.read(windows.columns, tenant, self._epoch, start, end, grouped)

    async def totals(self, tenant_id: str, *, start: int, end: int) -> WindowTotals:
        """Partial sums by SQL, put together here."""
        return await self._database.read(windows.totals, self._tenant(tenant_id), self._epoch, start, end)

    async def parts(self, tenant_id: str, *, start: int, end: int, ahead: int) -> WindowParts:
        """A range of the key, with the records of the entries."""
        tenant = self._tenant(tenant_id)
        return await self._database.read(parts.parts, tenant, self._epoch, start, end, ahead)

    async def numbered(self, tenant_id: str, seqs: Sequence[int]) -> Sequence[StoredSignal]:
        """By the numbers of the entries."""
        return await self._database.read(parts.numbered, tenant_id, self._tenant(tenant_id), seqs)

    async def get(self, key: Key) -> StoredSignal | None:
        """By the key."""
        return await self._database.read(reads.signal, self._tenant(key.tenant_id), key)

    async def listing(
        self, tenant_id: str, query: SignalQuery, *, before: tuple[int, str, str] | None, limit: int
    ) -> tuple[Sequence[StoredSignal], Head]:
        """The key walked backwards."""
        tenant = self._tenant(tenant_id)
        return await self._database.read(reads.listing, tenant_id, tenant, self._epoch, query, before, limit)

    async def provenance(self, tenant_id: str, provenance_id: str) -> Provenance | None:
        """By its id."""
        return await self._database.read(reads.provenance, tenant_id, self._tenant(tenant_id), provenance_id)

    async def provenance_rows(self, tenant_id: str, provenance_id: str, *, limit: int) -> Sequence[LedgerRow]:
        """The run of entries that the record names."""
        tenant = self._tenant(tenant_id)
        return await self._database.read(reads.provenance_rows, tenant_id, tenant, provenance_id, limit)

    async def ledger(self, tenant_id: str, *, first: int, limit: int) -> tuple[bytes, Sequence[LedgerRow]]:
        """A range of the log, as it is."""
        return await self._database.read(reads.ledger, tenant_id, self._tenant(tenant_id), first, limit)

    async def hash_at(self, tenant_id: str, seq: int) -> bytes | None:
        """One entry."""
        return await self._database.read(reads.hash_at, self._tenant(tenant_id), seq)

    async def prune(self, tenant_id: str, *, now: int, provenance: Provenance, limit: int, dry_run: bool) -> Pruned:
        """Erases in the writer's thread; the commit outlives a cancelled caller."""
        self._database.check_open()
        if dry_run:
            count = await self._database.read(prune.expired_count, self._tenant(tenant_id), now)
            return Pruned(count, more=False)
        return await self._database.owner.owned(self._prune(tenant_id, now, provenance, limit))

    async def _prune(self, tenant_id: str, now: int, provenance: Provenance, limit: int) -> Pruned:
        def work(cursor: apsw.Cursor) -> prune.Erased:
            # No other transaction moves the head meanwhile.
            log = Log(cursor, self._epoch, tenant_id, self._heads.get(tenant_id, _NOWHERE), now)
            return prune.erase(cursor, log, self._next_record, provenance, now=now, limit=limit)

        def committed(erased: prune.Erased) -> None:
            if erased.head is not None:
                self._heads[tenant_id] = erased.head
                self._next_record += 1

        erased = await self._database.transact(work, committed)
        return Pruned(erased.number, erased.more)

    async def retained(self, tenant_ids: Collection[str] | None) -> Retained:
        """Counts from memory, the oldest ts from the key."""
        wanted = self._heads if tenant_ids is None else {name for name in tenant_ids if name in self._heads}
        rows = [row for row in (self._heads[name] for name in wanted) if row.seq]
        oldest = await self._database.read(reads.oldest_ts, [row.tenant for row in rows])
        return Retained(len(rows), sum(row.seq for row in rows), oldest)

    def note_published(self, score: Score) -> None:
        """Written with the next commit, or in a second."""
        self._database.check_open()
        note = (score.score_epoch, score.version)
        if note < self._published.get(score.tenant_id, note):
            return
        self._published[score.tenant_id] = self._unwritten[score.tenant_id] = note
        if self._notes_timer is None:
            self._notes_timer = asyncio.get_running_loop().call_later(NOTES_S, self._notes_due)

    def _notes_due(self) -> None:
        self._notes_timer = None
        self._database.owner.spawn(self._write_notes())

    async def _write_notes(self) -> None:
        if not self._unwritten:
            return
        try:
            await self._database.transact(self._add_notes, self._committed)
        except CoherenceError as error:
            # They stay noted and go with the next commit: what they guard is checked at the next start only.
            _log.warning("which scores were published could not be written yet: %s", error.message)

    def _add_notes(self, cursor: apsw.Cursor) -> Batch:
        batch = self._batch(cursor, 0)
        batch.note(self._unwritten)
        return batch

    async def published(self) -> Mapping[str, tuple[int, int]]:
        """From memory."""
        self._database.check_open()
        return dict(self._published)
