"""One pass over the signals of a long time under a policy that tells them apart by source, type or age."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from coherence_grpc.materialize.zones import NO_ZONE, NOWHERE, Zones
from coherence_grpc.rules import Kinds, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coherence_grpc.model import Status
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import WindowColumns
    from coherence_grpc.rules import Verdict

# Later than every instant, and within 64 bits.
_NEVER: Final = 1 << 62


class RuledPass:
    """Two positions that move over the columns, and the tally of what is between them.

    As PlainPass it divides only where the outcome may be another one; with a source cap that is at every change.
    """

    def __init__(self, columns: WindowColumns, policy: ScorePolicy, start: int) -> None:
        self._policy = policy
        self._zones = Zones(policy)
        kinds = Kinds(policy)
        begin = start - policy.window_us
        self._ts, self._value, self._weight, self._group = _counting(columns, kinds, begin)
        self._ts.append(_NEVER)
        self._tally = Tally(kinds, begin)
        self._first = self._due = 0
        self._stale_at = _NEVER
        self._zone = NO_ZONE
        self._cap: Status | None = None
        self._low, self._high = NOWHERE

    def turns(self, forced: Sequence[int], end: int) -> Iterator[tuple[int, Verdict]]:
        """The verdict at each of the `forced` instants, the start first, and wherever it turns up to `end`."""
        for instant, until in zip(forced, [*forced[1:], end + 1], strict=True):
            self._move(instant)
            yield instant, self._look(instant)
            yield from self._turns_before(until)

    def _turns_before(self, until: int) -> Iterator[tuple[int, Verdict]]:
        known = self._zone, self._cap
        span = self._policy.window_us + 1
        while (instant := min(self._ts[self._due], self._ts[self._first] + span, self._stale_at)) < until:
            self._move(instant)
            if self._settled(instant):
                continue
            verdict = self._look(instant)
            if (self._zone, self._cap) != known:
                known = self._zone, self._cap
                yield instant, verdict

    def _move(self, instant: int) -> None:
        """Signals come and go up to the instant, itself included."""
        ts, value, weight, group, tally = self._ts, self._value, self._weight, self._group, self._tally
        first, due = self._first, self._due
        while ts[due] <= instant:
            tally.add(ts[due], value[due], weight[due], group[due])
            due += 1
        start = instant - self._policy.window_us
        while first < due and ts[first] < start:
            tally.remove(ts[first], value[first], weight[first], group[first])
            first += 1
        self._first, self._due = first, due
        tally.rebase(start)

    def _settled(self, instant: int) -> bool:
        """Nothing that follows from the verdict looked at last has changed."""
        tally = self._tally
        return (
            self._low * tally.weight < 2 * tally.weighted < self._high * tally.weight
            and tally.count >= self._policy.minimum_signals
            and instant < self._stale_at
            and (not self._policy.vetoes or tally.cap() is self._cap)
        )

    def _look(self, instant: int) -> Verdict:
        stale_us = self._policy.stale_after_us
        newest = self._ts[self._due - 1] if self._due > self._first else None
        verdict = self._tally.verdict(data_time=newest, now=instant)
        self._cap, self._zone, self._stale_at = verdict.cap, NO_ZONE, _NEVER
        self._low, self._high = NOWHERE
        if verdict.score_ppm is None:
            # Whatever comes or goes is looked at.
            return verdict
        self._zone = self._zones.of(verdict.score_ppm)
        if self._policy.source_cap_ppm is None:
            self._low, self._high = self._zones.bounds(self._zone)
        if newest is not None and stale_us is not None:
            self._stale_at = newest + stale_us + 1
        return verdict


def _counting(columns: WindowColumns, kinds: Kinds, begin: int) -> Sequence[array[int]]:
    """The columns from `begin` on, and the numbers of the groups, without the signals of muted types."""
    numbers = [kinds.number(*group) for group in columns.groups]
    first = bisect_left(columns.ts, begin)
    group = array("I", map(numbers.__getitem__, (columns.group or array("I"))[first:]))
    found = [array(column.typecode, column[first:]) for column in columns[:3]] + [group]
    muted = {number for number in numbers if not kinds.factors_ppm[number]}
    if not muted:
        return found
    keep = [index for index, number in enumerate(group) if number not in muted]
    return [array(column.typecode, map(column.__getitem__, keep)) for column in found]
