"""Runs: what stands between two positions of a tenant's events, built only as far as somebody asks for it.

A position is a pair (entry, score version); a run moves it on. Signals are one unit each, everything else one in all.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Final, TypeAlias

from coherence_grpc.events.frames import Batch, Event, EventKind, Gap
from coherence_grpc.model import Appended, EntryKind, StoredSignal
from coherence_grpc.policy import version_of
from coherence_grpc.tokens import PREFIX_BYTES, Cursor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coherence_grpc.events.frames import EventFilter
    from coherence_grpc.model import Entry, Head, Item, Score

# Of an entry's request: tenant, provenance id, recorded_at, backfill, traceparent.
_Origin: TypeAlias = "tuple[str, str, int, bool, str]"

ERASED: Final = "erased by retention"


class Harvest:
    """What one reader takes from the runs: events up to a limit, or one gap; never both.

    Of several SCORE_UPDATED only the last stays (latest wins); a status change stays always.
    """

    __slots__ = ("_limit", "_superseded", "events", "filter", "gap")

    def __init__(self, filter: EventFilter, limit: int) -> None:  # noqa: A002 - the contract's word
        self.filter = filter
        self.events: list[Event] = []
        self.gap: Gap | None = None
        self._limit = limit
        self._superseded = -1

    @property
    def room(self) -> int:
        """So many events still fit."""
        return self._limit - len(self.events)

    def frame(self) -> Batch | Gap | None:
        """What was taken; None when nothing passed the filter."""
        if self.gap is not None:
            return self.gap
        return Batch(self.events) if self.events else None

    def add_score(self, event: Event) -> None:
        """Take a score in place of the update before it."""
        if self._superseded >= 0:
            del self.events[self._superseded]
        self._superseded = len(self.events) if event.kind is EventKind.SCORE_UPDATED else -1
        self.events.append(event)


class Signals:
    """Signals stored or replaced one after another, from one write or one page of the log."""

    __slots__ = ("_events", "_hashes", "_replaced", "_source", "after", "before", "items", "size")

    def __init__(self, before: Cursor, source: Appended | Sequence[Entry]) -> None:
        self.before = before
        self._source = source
        if isinstance(source, Appended):
            self.items: Sequence[Item] = source.stored
            self._hashes: Sequence[bytes] = source.hashes
            # What each one took the place of, by index; None where that was erased.
            self._replaced: Mapping[int, Item | None] = source.superseded
        else:
            self.items = [entry.item for entry in source if entry.item is not None]
            self._hashes = [entry.head_hash for entry in source]
            self._replaced = {
                index: entry.superseded for index, entry in enumerate(source) if entry.kind is EntryKind.REPLACED
            }
        self.size = len(self.items)
        self._events: list[Event | None] = [None] * self.size
        self.after = self.cursor_at(self.size)

    def cursor_at(self, units: int) -> Cursor:
        """The position after this many of its signals."""
        if not units:
            return self.before
        before = self.before
        prefix = self._hashes[units - 1][:PREFIX_BYTES]
        return Cursor(before.signal_epoch, before.seq + units, prefix, before.score_epoch, before.version)

    def collect(self, offset: int, stop: int, harvest: Harvest) -> int:
        """Move events to the harvest; how many units were passed before it would take no more."""
        narrow = harvest.filter
        if not narrow.signals:
            return stop - offset
        if harvest.gap is not None:
            return 0
        if not narrow.narrows_signals:
            stop = min(stop, offset + harvest.room)
            self._take(offset, stop, harvest.events)
            return stop - offset
        for index in range(offset, stop):
            if not harvest.room:
                return index - offset
            if narrow.takes_signal(self.items[index], self._kind(index)):
                self._take(index, index + 1, harvest.events)
        return stop - offset

    def _kind(self, index: int) -> EventKind:
        return EventKind.SIGNAL_REPLACED if index in self._replaced else EventKind.SIGNAL_STORED

    def _take(self, offset: int, stop: int, into: list[Event]) -> None:
        for index, origin in zip(range(offset, stop), self._origins(offset, stop), strict=False):
            event = self._events[index]
            if event is None:
                event = self._events[index] = self._event(index, *origin)
            into.append(event)

    def _event(
        self, index: int, tenant_id: str, provenance_id: str, recorded_at: int, backfill: bool, traceparent: str
    ) -> Event:
        item, head_hash, (epoch, before, _, score_epoch, version) = self.items[index], self._hashes[index], self.before
        seq = before + index + 1
        signal = StoredSignal(tenant_id, item, seq, provenance_id, recorded_at, head_hash, backfill)
        cursor = Cursor(epoch, seq, head_hash[:PREFIX_BYTES], score_epoch, version)
        superseded = self._replaced.get(index)
        return Event(tenant_id, self._kind(index), cursor, item.ts, recorded_at, signal, None, traceparent, superseded)

    def _origins(self, offset: int, stop: int) -> Iterable[_Origin]:
        if isinstance(self._source, Appended):
            record = self._source.write.provenance
            return repeat(
                (record.tenant_id, record.provenance_id, self._source.recorded_at, record.backfill, record.traceparent)
            )
        return [
            (entry.tenant_id, entry.provenance_id, entry.recorded_at, entry.backfill, entry.traceparent)
            for entry in self._source[offset:stop]
        ]


class Scored:
    """One published score."""

    __slots__ = ("after", "before", "event")

    size: Final = 1

    def __init__(self, before: Cursor, after: Cursor, score: Score) -> None:
        self.before = before
        self.after = after
        kind = EventKind.SCORE_STATUS_CHANGED if score.status_changed else EventKind.SCORE_UPDATED
        self.event = Event(score.tenant_id, kind, after, score.window_end, score.computed_at, score=score)

    def cursor_at(self, units: int) -> Cursor:
        """The position before or after it."""
        return self.after if units else self.before

    def collect(self, offset: int, stop: int, harvest: Harvest) -> int:
        """Move the event to the harvest; 0 when it takes no more."""
        if harvest.filter.takes_score(self.event):
            if not harvest.room or harvest.gap is not None:
                return 0
            harvest.add_score(self.event)
        return stop - offset


class PolicyChange:
    """One change of the tenant's policy."""

    __slots__ = ("after", "before", "event")

    size: Final = 1

    def __init__(self, before: Cursor, after: Cursor, entry: Entry) -> None:
        self.before = before
        self.after = after
        at = entry.recorded_at
        version = version_of(entry.seq, entry.payload, at, entry.provenance_id)
        self.event = Event(
            entry.tenant_id,
            EventKind.POLICY_UPDATED,
            after,
            at,
            at,
            traceparent=entry.traceparent,
            policy=version,
        )

    def cursor_at(self, units: int) -> Cursor:
        """The position before or after it."""
        return self.after if units else self.before

    def collect(self, offset: int, stop: int, harvest: Harvest) -> int:
        """Move the event to the harvest; 0 when it takes no more."""
        if harvest.filter.policies:
            if not harvest.room or harvest.gap is not None:
                return 0
            harvest.events.append(self.event)
        return stop - offset


class Skipped:
    """Entries that are no events: erased bodies, which the reader is told of, or the server's own entries."""

    __slots__ = ("after", "before", "erased", "pruned")

    size: Final = 1

    def __init__(self, before: Cursor, after: Cursor, *, erased: bool = False, pruned: bool = False) -> None:
        self.before = before
        self.after = after
        self.erased = erased
        self.pruned = pruned

    def cursor_at(self, units: int) -> Cursor:
        """The position before or after them."""
        return self.after if units else self.before

    def collect(self, offset: int, stop: int, harvest: Harvest) -> int:
        """Widen the harvest's gap if bodies were erased; 0 when it already has events."""
        if self.erased and harvest.filter.signals:
            if harvest.events:
                return 0
            first = self.before.seq + 1 if harvest.gap is None else harvest.gap.from_seq
            harvest.gap = Gap(first, self.after.seq, self.after, ERASED)
        elif harvest.gap is not None:
            return 0
        return stop - offset


Run: TypeAlias = Signals | Scored | PolicyChange | Skipped


def after_entry(before: Cursor, seq: int, head_hash: bytes) -> Cursor:
    """The position moved on to an entry."""
    return Cursor(before.signal_epoch, seq, head_hash[:PREFIX_BYTES], before.score_epoch, before.version)


def after_version(before: Cursor, version: int) -> Cursor:
    """The position moved on to a score."""
    return Cursor(before.signal_epoch, before.seq, before.hash_prefix, before.score_epoch, version)


def cursor_of(head: Head, score_epoch: int, version: int) -> Cursor:
    """The position at a head and a version."""
    return Cursor(head.epoch, head.seq, head.head_hash[:PREFIX_BYTES], score_epoch, version)


def entry_runs(before: Cursor, entries: Sequence[Entry]) -> list[Run]:
    """Consecutive entries of the log as runs; neighbours of one sort share a run."""
    runs: list[Run] = []
    start = 0
    while start < len(entries):
        sort, stop = _sort(entries[start]), start + 1
        while stop < len(entries) and _sort(entries[stop]) == sort:
            stop += 1
        run = _entry_run(before, entries[start:stop])
        runs.append(run)
        before, start = run.after, stop
    return runs


def _sort(entry: Entry) -> tuple[bool, bool, int]:
    # Each policy is an event of its own.
    return entry.erased, entry.item is None, entry.seq if entry.kind is EntryKind.POLICY else 0


def _entry_run(before: Cursor, entries: Sequence[Entry]) -> Run:
    last = entries[-1]
    if last.item is not None and not last.erased:
        return Signals(before, entries)
    after = after_entry(before, last.seq, last.head_hash)
    if last.kind is EntryKind.POLICY:
        return PolicyChange(before, after, last)
    pruned = any(entry.kind is EntryKind.PRUNED for entry in entries)
    return Skipped(before, after, erased=last.erased, pruned=pruned)
