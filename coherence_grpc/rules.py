"""A score under a policy: exact integers, one division at the end.

The rules apply in this order: type weight, half-life, source cap, weighted mean, veto, minimum signals and staleness. A
signal counts with its effective weight, weight_q · type factor · half-life factor; the factors' scale cancels in the
mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.model import QUANTUM, Status
from coherence_grpc.policy import PPM
from coherence_grpc.score import divide_half_even, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.score import WindowSum

STEPS: Final = 64
_STEP_BITS: Final = 6
_UNIT_BITS: Final = 30
# 2000-01-01T00:00Z: where the buckets of a half-life begin.
_EPOCH: Final = 946_684_800_000_000
# round(2^(j/64)·2³⁰): what a signal counts that is j 64ths of a half-life newer than another. The same on every
# machine: no entry is nearer to a tie than a float can tell.
FACTORS: Final = tuple(round(2 ** (j / STEPS) * (1 << _UNIT_BITS)) for j in range(STEPS))
_MILLIONTH: Final = QUANTUM // PPM
_SEVERITY: Final = {Status.HEALTHY: 0, Status.WARN: 1, Status.CRITICAL: 2}


class Verdict(NamedTuple):
    """What the rules make of a window: `cap` is the best status that a veto leaves, None without one.

    `signal_count` is of those that carry weight; `weight_q` their effective weight as of the window's end, before any
    cap.
    """

    score_ppm: int | None
    status: Status
    signal_count: int
    weight_q: int
    cap: Status | None = None


class Standing(NamedTuple):
    """One source's sums within a tally, in the tally's scale."""

    weighted: int
    weight: int
    signal_count: int


def worst(one: Status, other: Status | None) -> Status:
    """The worse of two colours; None is none."""
    return one if other is None or _SEVERITY[one] >= _SEVERITY[other] else other


def severity(status: Status) -> int:
    """0 for HEALTHY, 2 for CRITICAL; UNKNOWN has none."""
    return _SEVERITY[status]


def bucket_of(ts: int, half_life_us: int) -> int:
    """How many 64ths of a half-life the instant lies after 2000."""
    return (ts - _EPOCH) * STEPS // half_life_us


def factor_of(bucket: int, base_octave: int) -> int:
    """What a signal of the bucket counts, in units of 2⁻³⁰ of one at the beginning of the base octave.

    The bucket's octave must not lie before the base.
    """
    return FACTORS[bucket & (STEPS - 1)] << ((bucket >> _STEP_BITS) - base_octave)


def octave_of(bucket: int) -> int:
    """How many half-lives the bucket lies after 2000."""
    return bucket >> _STEP_BITS


def judged(
    policy: ScorePolicy, score_ppm: int | None, *, count: int, weight_q: int, cap: Status | None, fresh: bool
) -> Verdict:
    """The last rules: status, veto, minimum signals and staleness. `score_ppm` None: nothing carries weight."""
    if score_ppm is None or count < policy.minimum_signals or not fresh:
        return Verdict(None, Status.UNKNOWN, count, weight_q, cap)
    return Verdict(score_ppm, worst(policy_status(policy, score_ppm), cap), count, weight_q, cap)


def policy_status(policy: ScorePolicy, score_ppm: int, shift_ppm: int = 0) -> Status:
    """The word for a rounded score by the policy's thresholds, moved by so much."""
    return status_of(score_ppm, healthy_ppm=policy.healthy_ppm + shift_ppm, warn_ppm=policy.warn_ppm + shift_ppm)


def plain_verdict(policy: ScorePolicy, sums: WindowSum, *, data_time: int | None, now: int) -> Verdict:
    """The verdict over a window in which every signal counts with its own weight."""
    return judged(
        policy,
        sums.score_ppm(),
        count=sums.count,
        weight_q=sums.weight,
        cap=None,
        fresh=is_fresh(policy, data_time, now),
    )


def is_fresh(policy: ScorePolicy, data_time: int | None, now: int) -> bool:
    """The newest signal is not too old."""
    return data_time is None or policy.stale_after_us is None or now - data_time <= policy.stale_after_us


def stale_at(policy: ScorePolicy, data_time: int | None, now: int) -> int | None:
    """The first instant after `now` at which the newest signal is too old; None when that is not to come."""
    if data_time is None or policy.stale_after_us is None:
        return None
    instant = data_time + policy.stale_after_us + 1
    return instant if instant > now else None


class Kinds:
    """What each group of signals, (source, type), means under a policy: its source's number, weight and vetoes."""

    __slots__ = ("_factors_ppm", "_first", "_numbers", "factors_ppm", "groups", "policy", "sources", "vetoes")

    def __init__(self, policy: ScorePolicy) -> None:
        self.policy = policy
        self.groups: list[tuple[str, str]] = []
        self.sources: list[int] = []
        self.factors_ppm: list[int] = []
        self.vetoes: list[tuple[tuple[int, int], ...]] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._factors_ppm = dict(policy.type_weights)
        self._first: dict[str, int] = {}

    def number(self, source: str, type_: str) -> int:
        """The group's number; a new group gets the next one."""
        found = self._numbers.get((source, type_))
        return self._add(source, type_) if found is None else found

    def _add(self, source: str, type_: str) -> int:
        number = self._numbers[source, type_] = len(self.groups)
        self.groups.append((source, type_))
        # A source goes by the number of its first group.
        self.sources.append(self._first.setdefault(source, number))
        self.factors_ppm.append(self._factors_ppm.get(type_, PPM))
        self.vetoes.append(tuple((n, veto.below_q) for n, veto in enumerate(self.policy.vetoes) if veto.type == type_))
        return number


class Tally:
    """Exact sums under a policy, by source, of signals that come and go; equal to a full recompute bit for bit.

    `weighted` and `weight` are totals over the sources, before any cap. Signals whose effective weight is 0 are muted:
    they count nowhere.
    """

    __slots__ = ("_base", "_kinds", "_policy", "_sources", "_vetoing", "count", "weight", "weighted")

    def __init__(self, kinds: Kinds, window_start: int) -> None:
        self._kinds = kinds
        self._policy = kinds.policy
        self._sources: dict[int, list[int]] = {}
        self._vetoing = [0] * len(self._policy.vetoes)
        self._base = 0
        if self._policy.half_life_us is not None:
            self._base = octave_of(bucket_of(window_start, self._policy.half_life_us))
        self.weighted = self.weight = self.count = 0

    def add(self, ts: int, value_q: int, weight_q: int, group: int) -> None:
        """One more signal, not older than the window's start."""
        self._move(1, ts, value_q, weight_q, group)

    def remove(self, ts: int, value_q: int, weight_q: int, group: int) -> None:
        """A signal that was added leaves."""
        self._move(-1, ts, value_q, weight_q, group)

    def shift(self, source: int, by: Standing, vetoing: Sequence[int] = ()) -> None:
        """Adds many signals of a source by their sums, or takes them away by negative ones.

        `vetoing` has for each veto of the policy how many of them set it off; left out: none does.
        """
        sums = self._sources.setdefault(source, [0, 0, 0])
        sums[0] += by.weighted
        sums[1] += by.weight
        sums[2] += by.signal_count
        if not sums[2]:
            del self._sources[source]
        self.weighted += by.weighted
        self.weight += by.weight
        self.count += by.signal_count
        for veto, count in enumerate(vetoing):
            self._vetoing[veto] += count

    def effective(self, ts: int, weight_q: int, group: int) -> int:
        """What a signal weighs, in the tally's scale."""
        weight = weight_q * self._kinds.factors_ppm[group]
        half_life = self._policy.half_life_us
        return weight if half_life is None else weight * factor_of(bucket_of(ts, half_life), self._base)

    def rebase(self, window_start: int) -> None:
        """The window starts later: what is inside is counted in a larger unit, so that numbers stay short."""
        if self._policy.half_life_us is None:
            return
        base = octave_of(bucket_of(window_start, self._policy.half_life_us))
        shift = base - self._base
        if shift <= 0:
            return
        # Exact: whatever is inside is of that octave or a later one.
        for sums in self._sources.values():
            sums[0] >>= shift
            sums[1] >>= shift
        self.weighted >>= shift
        self.weight >>= shift
        self._base = base

    def verdict(self, *, data_time: int | None, now: int) -> Verdict:
        """What the rules make of it, as of the window's end `now`."""
        return judged(
            self._policy,
            self.score_ppm(),
            count=self.count,
            weight_q=self._shown_weight(now),
            cap=self.cap(),
            fresh=is_fresh(self._policy, data_time, now),
        )

    def score_ppm(self) -> int | None:
        """The weighted mean times 10⁶ after the cap, rounded once, half-even; None when nothing carries weight."""
        if not self.count:
            return None
        return divide_half_even(*self.mean(_MILLIONTH))

    def mean(self, unit: int = 1) -> tuple[int, int]:
        """Numerator and denominator of the weighted mean after the cap, in `unit` of 10⁻⁹."""
        capped = self.capped()
        if not capped:
            return self.weighted, self.weight * unit
        # Each capped source counts with c·W_all instead of its own weight, at its own mean.
        share = (self._policy.source_cap_ppm or 0) * self.weight
        rest_weighted = self.weighted - sum(self._sources[source][0] for source in capped)
        rest_weight = self.weight - sum(self._sources[source][1] for source in capped)
        means, over = 0, 1
        for source in capped:
            weighted, weight, _ = self._sources[source]
            means, over = means * weight + weighted * over, over * weight
        numerator = PPM * rest_weighted * over + share * means
        return numerator, over * (PPM * rest_weight + len(capped) * share) * unit

    def capped(self) -> Sequence[int]:
        """The numbers of the sources that weigh more than the cap allows; none while there is only one source."""
        cap_ppm = self._policy.source_cap_ppm
        if cap_ppm is None or len(self._sources) < 2:  # noqa: PLR2004 - one source against itself
            return ()
        most = cap_ppm * self.weight
        return [source for source, sums in self._sources.items() if sums[1] * PPM > most]

    def counted(self, source: int) -> tuple[int, int]:
        """Numerator and denominator of the weight with which the source counts, after the cap."""
        weight = self._sources[source][1]
        if source in self.capped():
            return (self._policy.source_cap_ppm or 0) * self.weight, PPM
        return weight, 1

    def cap(self) -> Status | None:
        """The best status that the vetoes leave; None when none applies."""
        found: Status | None = None
        for veto, count in zip(self._policy.vetoes, self._vetoing, strict=True):
            if count:
                found = worst(veto.cap, found)
        return found

    @property
    def vetoing(self) -> Sequence[int]:
        """For each veto of the policy how many signals of the window set it off."""
        return self._vetoing

    @property
    def sources(self) -> Iterable[tuple[int, Standing]]:
        """The sums of each source by its number."""
        return ((source, Standing(*sums)) for source, sums in self._sources.items())

    def _move(self, sign: int, ts: int, value_q: int, weight_q: int, group: int) -> None:
        kinds = self._kinds
        weight = weight_q * kinds.factors_ppm[group] * sign
        if not weight:
            return
        half_life = self._policy.half_life_us
        if half_life is not None:
            bucket = (ts - _EPOCH) * STEPS // half_life
            weight *= FACTORS[bucket & 63] << ((bucket >> _STEP_BITS) - self._base)
        weighted = value_q * weight
        source = kinds.sources[group]
        sums = self._sources.get(source)
        if sums is None:
            sums = self._sources[source] = [0, 0, 0]
        sums[0] += weighted
        sums[1] += weight
        sums[2] += sign
        if not sums[2]:
            del self._sources[source]
        self.weighted += weighted
        self.weight += weight
        self.count += sign
        for veto, below_q in kinds.vetoes[group]:
            if value_q < below_q:
                self._vetoing[veto] += sign

    def _shown_weight(self, now: int) -> int:
        half_life = self._policy.half_life_us
        newest = PPM if half_life is None else PPM * factor_of(bucket_of(now, half_life), self._base)
        return divide_half_even(self.weight, newest)
