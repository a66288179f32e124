"""What a score and what is held must be, by the words of the rules alone: fractions, and nothing of the service's code.

The policies and signals are the service's values; every number that follows from them is found here anew.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.model import Item, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coherence_grpc.policy import ScorePolicy

MILLION: Final = 10**6
EPOCH: Final = 946_684_800_000_000
ORDER: Final = (Status.HEALTHY, Status.WARN, Status.CRITICAL)


def table_entry(j: int) -> int:
    """2^(j/64)·2³⁰ to the nearest whole number, found with whole numbers only."""
    low, high = 1 << 30, 1 << 31
    # The greatest n with (n − 1/2)⁶⁴ ≤ 2^(64·30 + j).
    while low < high:
        middle = (low + high + 1) // 2
        if (2 * middle - 1) ** 64 <= 1 << (64 * 30 + j + 64):
            low = middle
        else:
            high = middle - 1
    return low


TABLE: Final = tuple(map(table_entry, range(64)))


class Truth(NamedTuple):
    """What the rules say of a window."""

    score_ppm: int | None
    status: Status
    signal_count: int
    weight_q: int
    cap: Status | None
    data_time: int | None


class Segment(NamedTuple):
    """A truth that holds from an instant until the next segment begins."""

    instant: int
    truth: Truth
    policy: ScorePolicy


def age_factor(ts: int, now: int, half_life_us: int | None) -> Fraction:
    """What a signal of `ts` counts, in units of one whose half-life's octave is that of `now`."""
    if half_life_us is None:
        return Fraction(1)
    steps, newest = ((instant - EPOCH) * 64 // half_life_us for instant in (ts, now))
    return TABLE[steps % 64] * Fraction(2) ** (steps // 64 - newest // 64)


def inside(items: Iterable[Item], policy: ScorePolicy, now: int) -> Sequence[tuple[Item, Fraction]]:
    """The signals that count at `now`, with their weights in millionths."""
    factors = dict(policy.type_weights)
    weighed = (
        (item, item.weight_q * factors.get(item.type, MILLION) * age_factor(item.ts, now, policy.half_life_us))
        for item in items
        if now - policy.window_us <= item.ts <= now
    )
    return [(item, weight) for item, weight in weighed if weight]


def mean_of(counted: Sequence[tuple[Item, Fraction]], policy: ScorePolicy) -> Fraction:
    """The weighted mean of the values in 10⁻⁹, with no source weighing more than its cap."""
    whole = sum((weight for _, weight in counted), Fraction())
    sources: dict[str, Fraction] = {}
    for item, weight in counted:
        sources[item.source] = sources.get(item.source, Fraction()) + weight
    scale = dict.fromkeys(sources, Fraction(1))
    if policy.source_cap_ppm is not None and len(sources) > 1:
        most = whole * policy.source_cap_ppm / MILLION
        scale = {source: min(weight, most) / weight for source, weight in sources.items()}
    weights = [(item, weight * scale[item.source]) for item, weight in counted]
    return sum((item.value_q * weight for item, weight in weights), Fraction()) / sum(weight for _, weight in weights)


def colour(policy: ScorePolicy, score_ppm: int, cap: Status | None, shift_ppm: int = 0) -> Status:
    """The word for a score by thresholds moved by so much, no better than the cap."""
    reached = [threshold + shift_ppm <= score_ppm for threshold in (policy.healthy_ppm, policy.warn_ppm)]
    word = Status.HEALTHY if reached[0] else Status.WARN if reached[1] else Status.CRITICAL
    return word if cap is None else max(word, cap, key=ORDER.index)


def truth(items: Iterable[Item], policy: ScorePolicy, now: int) -> Truth:
    """The score at `now`, from everything there is."""
    counted = inside(items, policy, now)
    caps = [
        veto.cap
        for veto in policy.vetoes
        if any(item.type == veto.type and item.value_q < veto.below_q for item, _ in counted)
    ]
    cap = max(caps, key=ORDER.index, default=None)
    newest = max((item.ts for item, _ in counted), default=None)
    unit = MILLION * age_factor(now, now, policy.half_life_us)
    weight_q = round(sum((weight for _, weight in counted), Fraction()) / unit)
    too_old = newest is not None and policy.stale_after_us is not None and newest + policy.stale_after_us < now
    if not counted or len(counted) < policy.minimum_signals or too_old:
        return Truth(None, Status.UNKNOWN, len(counted), weight_q, cap, newest)
    # round() of a fraction is half-even.
    score_ppm = round(mean_of(counted, policy) / 1000)
    return Truth(score_ppm, colour(policy, score_ppm, cap), len(counted), weight_q, cap, newest)


def changes(items: Iterable[Item], policy: ScorePolicy, start: int, end: int) -> Sequence[int]:
    """`start`, and every later instant up to `end` at which something may change."""
    spans = [0, policy.window_us + 1]
    if policy.stale_after_us is not None:
        spans.append(policy.stale_after_us + 1)
    instants = {item.ts + span for item in items for span in spans}
    return sorted({start} | {instant for instant in instants if start < instant <= end})


def segments(items: Sequence[Item], policy: ScorePolicy, start: int, end: int) -> Sequence[Segment]:
    """The truths from `start` to `end`."""
    return [Segment(instant, truth(items, policy, instant), policy) for instant in changes(items, policy, start, end)]


def held_over(course: Sequence[Segment], end: int, held: Status | None = None) -> Mapping[int, Status]:
    """What is held from each instant on at which that changes, the first included."""
    found = {course[0].instant: held or course[0].truth.status}
    held = found[course[0].instant]
    for number, segment in enumerate(course):
        until = course[number + 1].instant if number + 1 < len(course) else end
        after = segment.instant
        while (change := _next_change(course[: number + 1], held, after)) is not None and change[0] <= until:
            after, held = change
            found[after] = held
    return {instant: status for instant, status in found.items() if instant <= end}


def _next_change(past: Sequence[Segment], held: Status, after: int) -> tuple[int, Status] | None:
    """The next change when the newest segment lasts for ever."""
    segment = past[-1]
    if Status.UNKNOWN in {segment.truth.status, held}:
        return None if segment.truth.status is held else (segment.instant, segment.truth.status)
    due = {
        status: max(after, since + segment.policy.dwell_us)
        for status in ORDER
        if (since := _beyond_since(past, held, status)) is not None
    }
    if not due:
        return None
    # Of two at the same instant the one farther off.
    distance = {status: abs(ORDER.index(status) - ORDER.index(held)) for status in due}
    status = min(due, key=lambda status: (due[status], -distance[status]))
    return due[status], status


def _beyond_since(past: Sequence[Segment], held: Status, wanted: Status) -> int | None:
    """Since when the score has been at least as far as the wanted status, beyond the hysteresis."""
    run = list(takewhile(lambda segment: _is_beyond(segment, held, wanted), reversed(past)))
    return run[-1].instant if run else None


def _is_beyond(segment: Segment, held: Status, wanted: Status) -> bool:
    truth, policy = segment.truth, segment.policy
    if truth.score_ppm is None or wanted is held:
        return False
    if ORDER.index(wanted) > ORDER.index(held):
        word = colour(policy, truth.score_ppm, truth.cap, -policy.hysteresis_ppm)
        return ORDER.index(word) >= ORDER.index(wanted)
    word = colour(policy, truth.score_ppm, truth.cap, policy.hysteresis_ppm)
    return ORDER.index(word) <= ORDER.index(wanted)
