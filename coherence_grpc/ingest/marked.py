"""Requests whose signals are all marked as stored: they are answered from the log without locking it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coherence_grpc.deadline import unhurried
from coherence_grpc.model import Key, Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coherence_grpc.model import Appended, Entry, Item, Write
    from coherence_grpc.ports import DedupeMarks, SignalStore


class Marked:
    """Finds repeated requests by marks; what it is not sure of is the store's to decide."""

    def __init__(self, signals: SignalStore, marks: DedupeMarks, enabled: Callable[[], bool]) -> None:
        self._signals = signals
        self._marks = marks
        self._enabled = enabled
        self._unwritten: list[Appended] = []
        self._writing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Forgets what is not marked yet."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait((self._writing,))

    def appended(self, appended: Appended) -> None:
        """A write was committed: its keys are marked soon."""
        if not self._enabled():
            return
        self._unwritten.append(appended)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="marking", context=unhurried())

    async def results(self, write: Write, *, own_request_id: bool) -> Sequence[Result] | None:
        """DUPLICATE for each signal, if all are in the log as they are here; None: ask the store.

        A request id of the caller's (`own_request_id`) must be the one that stored them, with the same content: only
        the store knows whether it was used for something else.
        """
        if not self._enabled() or not write.items or write.refused:
            return None
        keys = _keys(write.tenant_id, write.items)
        seqs = await self._marks.known(self._signals.epoch, keys, _payloads(write.items))
        # In one piece, as they are when the request that stored them comes again.
        if not seqs[0] or list(seqs) != list(range(seqs[0], seqs[0] + len(seqs))):
            return None
        entries = await self._signals.tail(write.tenant_id, after=seqs[0] - 1, limit=len(seqs))
        if [entry.item for entry in entries] != list(write.items):
            return None
        if own_request_id and not await self._is_the_same_request(write, entries):
            return None
        return [Result(Outcome.DUPLICATE, entry.seq, entry.provenance_id, entry.item) for entry in entries]

    async def _is_the_same_request(self, write: Write, entries: Sequence[Entry]) -> bool:
        record = await self._signals.provenance(write.tenant_id, entries[0].provenance_id)
        own = write.provenance
        return record is not None and (record.request_id, record.request_hash) == (own.request_id, own.request_hash)

    async def _write(self) -> None:
        # What is committed while marks are written goes with the next ones.
        while self._unwritten:
            batch, self._unwritten = self._unwritten, []
            for appended in batch:
                items, first = appended.stored, appended.first_seq
                keys = _keys(appended.write.tenant_id, items)
                seqs = range(first, first + len(items))
                await self._marks.mark(appended.head.epoch, keys, _payloads(items), seqs)


def _keys(tenant_id: str, items: Sequence[Item]) -> Sequence[Key]:
    return [Key(tenant_id, item.source, item.signal_id, item.ts) for item in items]


def _payloads(items: Sequence[Item]) -> Sequence[bytes]:
    """What must be the same for a signal to be a duplicate."""
    return [f"{item.value_q}:{item.weight_q}:{item.type}".encode() for item in items]
