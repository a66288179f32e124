"""The exact sliding window of one tenant under a policy that tells signals apart by source, type or age."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

from coherence_grpc.materialize.sliding import Sliding
from coherence_grpc.materialize.sorted_rows import SortedRows
from coherence_grpc.rules import Kinds, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.model import Item
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import WindowColumns
    from coherence_grpc.rules import Verdict


class RuledWindow(Sliding):
    """The signals with `now` − window ≤ ts ≤ `now` that carry weight under the policy, and those dated ahead.

    As Window: sums are kept while signals come and go, they equal a full recompute, and `now` only moves forward.
    """

    __slots__ = ("_kinds", "tally")

    _inside: SortedRows
    _ahead: SortedRows

    def __init__(self, policy: ScorePolicy, now: int) -> None:
        super().__init__(policy, now)
        self._kinds = Kinds(policy)
        self._inside = SortedRows()
        self._ahead = SortedRows()
        self.tally = Tally(self._kinds, now - self._span)

    @classmethod
    def of(cls, columns: WindowColumns, policy: ScorePolicy, now: int) -> RuledWindow:
        """The window over stored columns with their groups, as of `now`."""
        window = cls(policy, now)
        start = now - window._span
        kinds = window._kinds
        numbers = [kinds.number(*group) for group in columns.groups]
        muted = {number for number in numbers if not kinds.factors_ppm[number]}
        group = array("I", map(numbers.__getitem__, columns.group or ()))
        ts, value, weight = columns.ts, columns.value_q, columns.weight_q
        if muted:
            keep = [index for index, number in enumerate(group) if number not in muted]
            ts, value, weight, group = (
                array(column.typecode, map(column.__getitem__, keep)) for column in (ts, value, weight, group)
            )
        first, due = bisect_right(ts, start - 1), bisect_right(ts, now)
        window._inside = SortedRows.of([column[first:due] for column in (ts, value, weight, group)])
        window._ahead = SortedRows.of([column[due:] for column in (ts, value, weight, group)])
        add = window.tally.add
        for row in window._inside:
            add(*row)
        return window

    def add(self, items: Sequence[Item]) -> None:
        """Takes in signals; muted ones and those that are too old change nothing."""
        now, oldest, kinds = self.now, self.now - self._span, self._kinds
        for source, _, type_, value_q, weight_q, ts in items:
            if not weight_q or ts < oldest:
                continue
            group = kinds.number(source, type_)
            if not kinds.factors_ppm[group]:
                continue
            row = (ts, value_q, weight_q, group)
            if ts <= now:
                self._inside.insert(row)
                self.tally.add(*row)
            else:
                self._ahead.insert(row)

    def remove(self, item: Item) -> bool:
        """Takes a signal away; False when it should be there and is not."""
        group = self._kinds.number(item.source, item.type)
        if not (item.weight_q and self._kinds.factors_ppm[group]) or item.ts < self.now - self._span:
            return True
        row = (item.ts, item.value_q, item.weight_q, group)
        if item.ts > self.now:
            return self._ahead.remove(row)
        if not self._inside.remove(row):
            return False
        self.tally.remove(*row)
        return True

    def advance(self, instant: int) -> bool:
        """Moves `now` forward; whether that alone changed what is inside. An instant before `now` changes nothing."""
        if instant <= self.now:
            return False
        self.now = instant
        moved = False
        due = self._ahead.first_ts
        if due is not None and due <= instant:
            moved = True
            for row in self._ahead.take_before(instant + 1):
                self._inside.insert(row)
                self.tally.add(*row)
        start = instant - self._span
        oldest = self._inside.first_ts
        if oldest is not None and oldest < start:
            moved = True
            for row in self._inside.take_before(start):
                self.tally.remove(*row)
        self.tally.rebase(start)
        return moved

    def verdict(self) -> Verdict:
        """What the policy makes of what is inside."""
        return self.tally.verdict(data_time=self.data_time, now=self.now)
