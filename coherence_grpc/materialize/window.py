"""The exact sliding window of one tenant: what is in it now, and what time will change."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise, starmap
from operator import le
from typing import TYPE_CHECKING, Final

from coherence_grpc.materialize.columns import Columns
from coherence_grpc.materialize.sliding import Sliding
from coherence_grpc.policy import DEFAULT
from coherence_grpc.rules import plain_verdict
from coherence_grpc.score import WindowSum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.model import Item
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import WindowColumns
    from coherence_grpc.rules import Verdict


# From here on a run is looked at as a whole first.
RUN: Final = 8


class Window(Sliding):
    """The weighted signals with `now` − window ≤ ts ≤ `now`, and those dated ahead, waiting.

    The window is that of the policy, 24 h by default; the policy must count every signal with its own weight. Sums are
    kept while signals come, at any position, and go; they equal a full recompute bit for bit. `now` only moves forward,
    so what is older than the window never comes back and is not kept.
    """

    __slots__ = ()

    _inside: Columns
    _ahead: Columns

    def __init__(self, now: int, policy: ScorePolicy = DEFAULT) -> None:
        super().__init__(policy, now)
        self._inside = Columns()
        self._ahead = Columns()

    @classmethod
    def of(cls, columns: WindowColumns, now: int, policy: ScorePolicy = DEFAULT) -> Window:
        """The window over stored columns, as of `now`."""
        window = cls(now, policy)
        ts, value, weight = columns.ts, columns.value_q, columns.weight_q
        due = bisect_right(ts, now)
        window._inside = Columns.of(ts[:due], value[:due], weight[:due])
        window._ahead = Columns.of(ts[due:], value[due:], weight[due:])
        window._inside.drop_before(now - window._span)
        return window

    def add(self, items: Sequence[Item]) -> None:
        """Takes in signals; muted ones and those that are too old change nothing."""
        now, oldest = self.now, self.now - self._span
        if len(items) >= RUN:
            *_, value, weight, instants = zip(*items, strict=True)
            # As live sources send them: in order, behind what is there. Then no signal costs a call of its own.
            newest = self._inside.last_ts
            behind = oldest if newest is None else max(oldest, newest)
            if behind <= instants[0] and instants[-1] <= now and all(weight) and _sorted(instants):
                self._inside.extend(instants, value, weight)
                return
        inside, ahead = self._inside.insert, self._ahead.insert
        for _, _, _, value_q, weight_q, ts in items:
            if not weight_q or ts < oldest:
                continue
            if ts <= now:
                inside(ts, value_q, weight_q)
            else:
                ahead(ts, value_q, weight_q)

    def remove(self, item: Item) -> bool:
        """Takes a signal away; False when it should be there and is not."""
        if not item.weight_q or item.ts < self.now - self._span:
            return True
        columns = self._inside if item.ts <= self.now else self._ahead
        return columns.remove(item.ts, item.value_q, item.weight_q)

    def advance(self, instant: int) -> bool:
        """Moves `now` forward; whether that alone changed what is inside. An instant before `now` changes nothing."""
        if instant <= self.now:
            return False
        self.now = instant
        moved = False
        due = self._ahead.first_ts
        if due is not None and due <= instant:
            moved = True
            for ts, value_q, weight_q in self._ahead.take_before(instant + 1):
                self._inside.insert(ts, value_q, weight_q)
        oldest = self._inside.first_ts
        if oldest is not None and oldest < instant - self._span:
            moved = self._inside.drop_before(instant - self._span) or moved
        return moved

    def sums(self) -> WindowSum:
        """What is inside, summed up."""
        inside = self._inside
        return WindowSum(inside.weighted_sum, inside.weight_sum, inside.count)

    def verdict(self) -> Verdict:
        """What the policy makes of what is inside."""
        return plain_verdict(self.policy, self.sums(), data_time=self.data_time, now=self.now)


def _sorted(instants: Sequence[int]) -> bool:
    return all(starmap(le, pairwise(instants)))
