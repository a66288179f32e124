"""One pass over the signals of a long time, each counting with its own weight: no division where nothing turns."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from coherence_grpc.materialize.zones import ANYWHERE, NO_ZONE, NOWHERE, Zones
from coherence_grpc.model import Status
from coherence_grpc.rules import plain_verdict
from coherence_grpc.score import WindowSum

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import WindowColumns
    from coherence_grpc.rules import Verdict

# Later than every instant, and within 64 bits.
_NEVER: Final = 1 << 62


class PlainPass:
    """Two positions that move over the columns: what is between them is in the window that ends `now`."""

    def __init__(self, columns: WindowColumns, policy: ScorePolicy, start: int) -> None:
        self._policy = policy
        self._zones = Zones(policy)
        self._ts = array("q", columns.ts)
        self._ts.append(_NEVER)
        self._value, self._weight = columns.value_q, columns.weight_q
        self._first = self._due = bisect_left(self._ts, start - policy.window_us)
        self._now = start - policy.window_us
        self._twice_weighted = self._weight_sum = 0
        self._zone = NO_ZONE
        self._low, self._high = NOWHERE
        self._stale_at = _NEVER

    def turns(self, forced: Sequence[int], end: int) -> Iterator[tuple[int, Verdict]]:
        """The verdict at each of the `forced` instants, the start first, and wherever the zone changes up to `end`."""
        for instant, until in zip(forced, [*forced[1:], end + 1], strict=True):
            self._low, self._high = ANYWHERE
            while self._run(instant + 1):
                pass
            yield instant, self._look(instant)
            yield from self._turns_before(until)

    def _turns_before(self, until: int) -> Iterator[tuple[int, Verdict]]:
        zone = self._zone
        while True:
            stop = min(until, self._stale_at)
            if self._run(stop):
                instant = self._now
            elif stop < until:
                instant = stop
            else:
                return
            verdict = self._look(instant)
            if self._zone != zone:
                zone = self._zone
                yield instant, verdict

    def _look(self, instant: int) -> Verdict:
        first, due, stale_us = self._first, self._due, self._policy.stale_after_us
        newest = self._ts[due - 1] if due > first else None
        sums = WindowSum(self._twice_weighted // 2, self._weight_sum, due - first)
        verdict = plain_verdict(self._policy, sums, data_time=newest, now=instant)
        if verdict.status is Status.UNKNOWN or verdict.score_ppm is None:
            # Whatever comes or goes is looked at.
            self._zone, self._stale_at = NO_ZONE, _NEVER
            self._low, self._high = NOWHERE
            return verdict
        self._zone = self._zones.of(verdict.score_ppm)
        self._low, self._high = self._zones.bounds(self._zone)
        if newest is not None and stale_us is not None:
            self._stale_at = newest + stale_us + 1
        return verdict

    def _run(self, until: int) -> bool:
        """Lets signals come and go before `until`; True when it stopped because the zone may have been left."""
        ts, value, weight, now = self._ts, self._value, self._weight, self._now
        first, due, span, minimum = self._first, self._due, self._policy.window_us + 1, self._policy.minimum_signals
        twice_weighted, weight_sum, low, high = self._twice_weighted, self._weight_sum, self._low, self._high
        entering, leaving = ts[due], ts[first] + span
        begun, left = first + due, False
        while True:
            # A call of min() would take as long as all the rest; what happens at one instant happens at once.
            instant = entering if entering < leaving else leaving  # noqa: FURB136 - see above
            if instant != now:
                left = not low * weight_sum < twice_weighted < high * weight_sum or due - first < minimum
                left = left and first + due > begun
                if left or instant >= until:
                    break
                now = instant
            if entering == instant:
                weight_sum += weight[due]
                twice_weighted += 2 * value[due] * weight[due]
                due += 1
                entering = ts[due]
            else:
                weight_sum -= weight[first]
                twice_weighted -= 2 * value[first] * weight[first]
                first += 1
                leaving = ts[first] + span
        self._first, self._due, self._now = first, due, now
        self._twice_weighted, self._weight_sum = twice_weighted, weight_sum
        return left
