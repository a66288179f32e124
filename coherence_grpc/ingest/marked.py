"""Requests that come again, known by a mark: they are answered from the log without locking it.

A write has one mark, under the key of its first signal, of all that it stored. What comes again in other pieces has
none, and the store finds it; so it does what replaces, and what is to replace.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from coherence_grpc.deadline import unhurried
from coherence_grpc.ingest.publication import Published
from coherence_grpc.model import Head, Key, OnConflict, Outcome, Result
from coherence_grpc.ports import SignalQuery

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence_grpc.model import Appended, Entry, StoredSignal, Write
    from coherence_grpc.ports import DedupeMarks, SignalStore

# Signals of others among which a request's are looked for; beyond that the store finds them as fast.
LOOK_AROUND: Final = 32
# Tenants whose newest instant is remembered.
TENANTS: Final = 10_000


class Marked:
    """Finds repeated requests by marks; what it is not sure of is the store's to decide."""

    def __init__(self, signals: SignalStore, marks: DedupeMarks, enabled: Callable[[], bool]) -> None:
        self._signals = signals
        self._marks = marks
        self._enabled = enabled
        self._newest: dict[str, int] = {}
        self._unwritten: list[Appended] = []
        self._writing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Forgets what is not marked yet."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait((self._writing,))

    def appended(self, appended: Appended) -> None:
        """A write was committed: it is marked soon, if all of it was new."""
        if not self._enabled():
            return
        write = appended.write
        self._remember(write.tenant_id, max(item.ts for item in appended.stored))
        if write.on_conflict is not OnConflict.REJECT or len(appended.stored) < len(appended.results):
            return
        self._unwritten.append(appended)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="marking", context=unhurried())

    def _remember(self, tenant_id: str, ts: int) -> None:
        newest = self._newest.get(tenant_id)
        if newest is None and len(self._newest) >= TENANTS:
            self._newest.clear()
        self._newest[tenant_id] = ts if newest is None else max(ts, newest)

    async def answer(self, write: Write, *, own_request_id: bool) -> Published | None:
        """DUPLICATE for each signal, if a request with just this content stored them all; None: ask the store.

        A request id of the caller's (`own_request_id`) must be the one that stored them: only the store knows whether
        it was used for something else. Without one none of them may have been replaced since. The head is that after
        the last of them.
        """
        if not self._enabled() or write.on_conflict is not OnConflict.REJECT or not self._may_be_known(write):
            return None
        (first_seq,) = await self._marks.known(self._signals.epoch, [_key(write)], [_payload(write)])
        if not first_seq:
            return None
        find = self._entry if own_request_id else self._unreplaced
        last = await find(write, first_seq)
        if last is None or not await self._stored_by(write, last.provenance_id, own_request_id=own_request_id):
            return None
        results = [
            Result(Outcome.DUPLICATE, seq, last.provenance_id, item) for seq, item in enumerate(write.items, first_seq)
        ]
        return Published(results, Head(self._signals.epoch, last.seq, last.head_hash))

    def _may_be_known(self, write: Write) -> bool:
        # A feed in order is newer than all that was stored here: nothing is looked up for it.
        newest = self._newest.get(write.tenant_id)
        return (
            bool(write.items)
            and not write.refused
            and (newest is None or min(item.ts for item in write.items) <= newest)
        )

    async def _entry(self, write: Write, first_seq: int) -> Entry | None:
        """The log has the last signal where the mark says."""
        last_seq = first_seq + len(write.items) - 1
        entries = await self._signals.tail(write.tenant_id, after=last_seq - 1, limit=1)
        return entries[0] if entries and entries[0].item == write.items[-1] else None

    async def _unreplaced(self, write: Write, first_seq: int) -> StoredSignal | None:
        """The last signal, if all of them stand as the mark says and no more than a few others among them."""
        size = len(write.items)
        instants = [item.ts for item in write.items]
        query = SignalQuery(start=min(instants), end=max(instants))
        found, _ = await self._signals.listing(write.tenant_id, query, before=None, limit=size + LOOK_AROUND)
        there = {signal.seq: signal for signal in found}
        stand = (seq in there and there[seq].item == item for seq, item in enumerate(write.items, first_seq))
        return there[first_seq + size - 1] if all(stand) else None

    async def _stored_by(self, write: Write, provenance_id: str, *, own_request_id: bool) -> bool:
        """A request with this one's content stored it."""
        record = await self._signals.provenance(write.tenant_id, provenance_id)
        own = write.provenance
        if record is None or record.request_hash != own.request_hash:
            return False
        return not own_request_id or record.request_id == own.request_id

    async def _write(self) -> None:
        # What is committed while marks are written goes with the next ones.
        while self._unwritten:
            epoch = self._unwritten[0].head.epoch
            batch = [appended for appended in self._unwritten if appended.head.epoch == epoch]
            self._unwritten = [appended for appended in self._unwritten if appended.head.epoch != epoch]
            await self._marks.mark(
                epoch,
                [_key(appended.write) for appended in batch],
                [_payload(appended.write) for appended in batch],
                [appended.first_seq for appended in batch],
            )


def _key(write: Write) -> Key:
    first = write.items[0]
    return Key(write.tenant_id, first.source, first.signal_id, first.ts)


def _payload(write: Write) -> bytes:
    """What must be the same for a request to be a duplicate."""
    return b"".join(write.payloads)
