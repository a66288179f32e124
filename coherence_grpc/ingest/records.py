"""What is stored: reading it back, proving that it is what was written, and erasing what outlived its retention."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.errors import FieldError, FilterInvalid, ProvenanceUnknown, SignalUnknown
from coherence_grpc.ingest.identifiers import Uuid7
from coherence_grpc.ledger import Verdict, request_hash, verify
from coherence_grpc.model import Provenance, Tags

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from coherence_grpc.model import Caller, Head, Key, LedgerRow, StoredSignal
    from coherence_grpc.ports import Authoriser, Clock, Retained, SignalQuery, SignalStore

VERIFY_LIMIT: Final = 100_000
VERIFY_PAGE: Final = 2000
LINKS_LIMIT: Final = 1000
PRUNE_BATCH: Final = 1000
_HASH_BYTES: Final = 32


class PruneProgress(NamedTuple):
    """How far pruning is, after one batch of a tenant; the last one has `done` and no tenant."""

    tenant_id: str
    erased: int
    tenants_done: int
    tenants_total: int
    done: bool
    dry_run: bool


class Records:
    """Reads and prunes the log of signals."""

    def __init__(self, signals: SignalStore, clock: Clock, authoriser: Authoriser) -> None:
        self._signals = signals
        self._clock = clock
        self._authoriser = authoriser
        self._ids = Uuid7()

    async def get(self, key: Key) -> tuple[StoredSignal, Head]:
        """The signal under the key, and a head that includes it.

        Raises:
            SignalUnknown: there is none, or its body was erased.
        """
        signal = await self._signals.get(key)
        if signal is None:
            message = (
                f"tenant {key.tenant_id!r} has no signal {key.signal_id!r} of source {key.source!r} at that ts;"
                " check all four parts of the key"
            )
            raise SignalUnknown(message)
        return signal, await self._signals.head(key.tenant_id)

    async def listing(
        self, tenant_id: str, query: SignalQuery, *, before: tuple[int, str, str] | None, limit: int
    ) -> tuple[Sequence[StoredSignal], Head]:
        """Signals that match, newest ts first, strictly below `before`; and the head."""
        return await self._signals.listing(tenant_id, query, before=before, limit=limit)

    async def provenance(
        self, tenant_id: str, provenance_id: str
    ) -> tuple[Provenance, Sequence[tuple[LedgerRow, bytes]]]:
        """The record, and the entries it stored, each with the chain's hash before it; at most 1000.

        Raises:
            ProvenanceUnknown: the tenant has no such record.
        Source: AC-ING-02.
        """
        record = await self._signals.provenance(tenant_id, provenance_id)
        if record is None:
            message = f"tenant {tenant_id!r} has no provenance record {provenance_id!r}; take the id from a result"
            raise ProvenanceUnknown(message)
        rows = await self._signals.provenance_rows(tenant_id, provenance_id, limit=LINKS_LIMIT)
        links: list[tuple[LedgerRow, bytes]] = []
        for row in rows:
            if links and links[-1][0].seq == row.seq - 1:
                previous = links[-1][0].head_hash
            else:
                previous = await self._signals.hash_at(tenant_id, row.seq - 1) or b""
            links.append((row, previous))
        return record, links

    async def verify(self, tenant_id: str, first: int, last: int, expected: bytes | None) -> tuple[Verdict, Head, int]:
        """Recomputes the chain from entry `first` (0: the first) to `last` (0: the head), at most 100,000 entries.

        `expected` is what the chain must be before `first`; None: as stored. Returns the verdict, the head, and the
        entry to continue from, 0 when the range is finished or broken.

        Raises:
            FilterInvalid: the range is not within the log.
        """
        head = await self._signals.head(tenant_id)
        first, last = first or 1, last or head.seq
        _check_range(first, last, expected, head)
        end = min(last, first + VERIFY_LIMIT - 1)
        verdict = Verdict(0, 0, expected or b"")
        while not verdict.first_bad_seq and first + verdict.checked <= end:
            verdict = await self._verify_page(tenant_id, first + verdict.checked, end, verdict)
        if first > end:
            verdict = await self._verify_end(tenant_id, first, verdict)
        elif end == head.seq and not verdict.first_bad_seq and verdict.head_hash != head.head_hash:
            verdict = _broken(verdict, end, "the tenant's head is not the chain's hash after its last entry")
        finished = verdict.first_bad_seq or end == last
        return verdict, head, 0 if finished else end + 1

    async def _verify_page(self, tenant_id: str, first: int, end: int, so_far: Verdict) -> Verdict:
        limit = min(VERIFY_PAGE, end - first + 1)
        previous, rows = await self._signals.ledger(tenant_id, first=first, limit=limit)
        if so_far.head_hash and previous != so_far.head_hash:
            return _broken(so_far, first, "the chain before the entry is not the one expected")
        # Some 4 µs an entry: in a thread the event loop goes on.
        page = await asyncio.to_thread(verify, tenant_id, first, previous, rows)
        verdict = Verdict(
            so_far.checked + page.checked,
            so_far.erased + page.erased,
            page.head_hash,
            page.first_bad_seq,
            page.reason,
        )
        if not page.first_bad_seq and page.checked < limit:
            missing = first + page.checked
            return _broken(verdict, missing, f"entry {missing} is missing")
        return verdict

    async def _verify_end(self, tenant_id: str, first: int, so_far: Verdict) -> Verdict:
        previous = await self._signals.hash_at(tenant_id, first - 1) or b""
        if so_far.head_hash and previous != so_far.head_hash:
            return _broken(so_far, first, "the chain before the entry is not the one expected")
        return Verdict(0, 0, previous)

    async def prune(
        self, tenant_id: str | None, *, dry_run: bool, batch: int = PRUNE_BATCH
    ) -> AsyncIterator[PruneProgress]:
        """Erases the bodies of signals that outlived their retention by a day, batch by batch; None: of all tenants.

        It can be stopped between batches and run again. A dry run counts and writes nothing.
        """
        tenants = await self._signals.tenants() if tenant_id is None else [tenant_id]
        erased = 0
        for done, tenant in enumerate(tenants):
            more = True
            while more:
                now = self._clock.now()
                pruned = await self._signals.prune(
                    tenant, now=now, provenance=self._system_provenance(tenant, now), limit=batch, dry_run=dry_run
                )
                erased += pruned.erased
                more = pruned.more
                yield PruneProgress(tenant, erased, done + (not more), len(tenants), done=False, dry_run=dry_run)
        yield PruneProgress("", erased, len(tenants), len(tenants), done=True, dry_run=dry_run)

    async def retained(self, caller: Caller) -> Retained:
        """What is stored for the tenants that the caller may see."""
        return await self._signals.retained(await self._authoriser.visible_tenants(caller))

    def _system_provenance(self, tenant_id: str, now: int) -> Provenance:
        tags = Tags()
        return Provenance(
            provenance_id=self._ids.next(now),
            tenant_id=tenant_id,
            request_id=self._ids.next(now),
            request_hash=request_hash(tenant_id, (), tags, backfill=False),
            tags=tags,
            principal="system",
            transport="system",
            received_at=now,
            traceparent="",
            backfill=False,
        )


def _broken(so_far: Verdict, seq: int, reason: str) -> Verdict:
    return Verdict(so_far.checked, so_far.erased, so_far.head_hash, seq, reason)


def _check_range(first: int, last: int, expected: bytes | None, head: Head) -> None:
    problems = []
    if last > head.seq:
        problems.append(
            FieldError("to_seq", f"is beyond the newest entry, {head.seq}; leave it out to check to the end")
        )
    if first > last + 1:
        problems.append(FieldError("from_seq", f"is beyond the last entry to check, {last}; start at or before it"))
    if expected is not None and len(expected) != _HASH_BYTES:
        problems.append(
            FieldError("expected_head_hash", f"must have {_HASH_BYTES} bytes; leave it out to take the stored")
        )
    if problems:
        raise FilterInvalid("; ".join(f"{path} {problem}" for path, problem in problems), fields=problems)
