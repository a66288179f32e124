"""The ring: a bounded stretch of a tenant's events in the order they were emitted, shared by all readers.

Readers hold an index into it; indexes only rise. What readers at the same index take with the same filter is cut once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.events.runs import Harvest, Scored, Signals, Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coherence_grpc.events.frames import Batch, EventFilter, Gap
    from coherence_grpc.events.runs import Run
    from coherence_grpc.tokens import Cursor

CAPACITY: Final = 4096
# Dropping from the front of a list costs its length: a sixteenth piles up first.
_SLACK: Final = 16
# Readers of one tenant stand at few different places; a cut is kept until as many newer ones have come.
_CUTS: Final = 32


class Piece(NamedTuple):
    """A frame cut from the ring (None: nothing passed the filter), and where the reader stands after it."""

    frame: Batch | Gap | None
    end: int
    cursor: Cursor


class Ring:
    """Runs one after another from index `start` to `end`; the cursor at `end` is `tip`."""

    def __init__(self, base: Cursor, *, capacity: int | None = CAPACITY) -> None:
        self.start = 0
        self.end = 0
        self.tip = base
        self._base = base
        self._capacity = capacity
        self._runs: list[Run] = []
        self._starts: list[int] = []
        self._cuts: dict[tuple[int, int, EventFilter, int], Piece] = {}

    def extend(self, runs: Iterable[Run]) -> None:
        """Add runs that continue the tip, and drop the oldest beyond the capacity."""
        for run in runs:
            self._starts.append(self.end)
            self._runs.append(run)
            self.end += run.size
            self.tip = run.after
        if self._capacity is not None and self.end - self.start > self._capacity * (1 + 1 / _SLACK):
            self._drop(self.end - self._capacity)

    def forget(self) -> None:
        """Drop everything; readers below the end go to the log."""
        self._runs.clear()
        self._starts.clear()
        self._cuts.clear()
        self.start = self.end
        self._base = self.tip

    def locate(self, cursor: Cursor) -> int | None:
        """The first index at or beyond the cursor in both entry and version; None when the tip is behind it."""
        seq, version = cursor.seq, cursor.version
        if self._base.seq >= seq and self._base.version >= version:
            return self.start
        at = bisect_left(self._runs, x=True, key=lambda run: run.after.seq >= seq and run.after.version >= version)
        if at == len(self._runs):
            return None
        run = self._runs[at]
        if isinstance(run, Signals) and run.before.version >= version:
            return self._starts[at] + seq - run.before.seq
        return self._starts[at] + run.size

    def cursor_at(self, index: int) -> Cursor:
        """The cursor at an index between `start` and `end`."""
        if index == self.end:
            return self.tip
        if index == self.start:
            return self._base
        at = self._run_at(index)
        return self._runs[at].cursor_at(index - self._starts[at])

    def opens_with_gap(self, index: int) -> bool:
        """The next entries from the index were erased."""
        if index >= self.end:
            return False
        run = self._runs[self._run_at(index)]
        return isinstance(run, Skipped) and run.erased

    def cut(self, index: int, end: int, filter: EventFilter, limit: int) -> Piece:  # noqa: A002 - the contract's word
        """The next frame between two indexes, of at most `limit` events; the same object when cut again."""
        key = (index, end, filter, limit)
        piece = self._cuts.get(key)
        if piece is None:
            piece = self._cut(index, end, Harvest(filter, limit))
            if len(self._cuts) >= _CUTS:
                del self._cuts[next(iter(self._cuts))]
            self._cuts[key] = piece
        return piece

    def _cut(self, index: int, end: int, harvest: Harvest) -> Piece:
        at = self._run_at(index)
        while index < end:
            run, start = self._runs[at], self._starts[at]
            offset, stop = index - start, min(end - start, run.size)
            passed = run.collect(offset, stop, harvest)
            index += passed
            if passed < stop - offset:
                break
            at += 1
        return Piece(harvest.frame(), index, self.cursor_at(index))

    def _run_at(self, index: int) -> int:
        return bisect_right(self._starts, index) - 1

    def _drop(self, floor: int) -> None:
        at = self._run_at(floor)
        self._base = self._runs[at].before
        self.start = self._starts[at]
        del self._runs[:at]
        del self._starts[:at]


def has_score(runs: Iterable[Run]) -> bool:
    """One of the runs is a score."""
    return any(isinstance(run, Scored) for run in runs)


def has_pruning(runs: Iterable[Run]) -> bool:
    """Bodies were erased from the log in one of the runs."""
    return any(isinstance(run, Skipped) and run.pruned for run in runs)
