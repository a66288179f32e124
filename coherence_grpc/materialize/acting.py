"""Which rules of a policy changed the outcome, and what they did, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.held import target_of
from coherence_grpc.model import QUANTUM, Status
from coherence_grpc.policy import DEFAULT, PPM
from coherence_grpc.rules import is_fresh, policy_status, severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coherence_grpc.materialize.weighing import Weighing
    from coherence_grpc.model import Held
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.rules import Verdict

FORMULA: Final = (
    "score = Σ(value × weight) ÷ Σ weight over the signals with window start ≤ ts ≤ window end and weight > 0,"
    " rounded once, half-even, to 6 decimals; HEALTHY from 0.75, WARN from 0.5, else CRITICAL, UNKNOWN without signals;"
    " push = weight ÷ Σ weight × (value − 1), so that all pushes add up to score − 1"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000))


class Rule(StrEnum):
    """A rule of a policy, in the order in which they apply."""

    TYPE_WEIGHT = "TYPE_WEIGHT"
    HALF_LIFE = "HALF_LIFE"
    SOURCE_CAP = "SOURCE_CAP"
    VETO = "VETO"
    MINIMUM_SIGNALS = "MINIMUM_SIGNALS"
    STALE_AFTER = "STALE_AFTER"
    HYSTERESIS = "HYSTERESIS"
    DWELL = "DWELL"


class RuleAction(NamedTuple):
    """A rule that changed the outcome: what it did, for people, and the type or source it was about, if any."""

    rule: Rule
    subject: str
    detail: str


def formula(policy: ScorePolicy) -> str:
    """How a score is computed under the policy, for people."""
    return FORMULA if policy == DEFAULT else "; ".join(_clauses(policy))


def rules_acting(weighing: Weighing, verdict: Verdict, held: Held | None) -> Sequence[RuleAction]:
    """The rules that changed the score, the status or what is held, in the order in which they apply."""
    return [*_weights(weighing), *_verdicts(weighing, verdict), *_holding(weighing.policy, verdict, held)]


def _weights(weighing: Weighing) -> Iterator[RuleAction]:
    bare, typed, aged, capped = weighing.stages()
    if bare != typed:
        for type_, factor_ppm in weighing.policy.type_weights:
            count = weighing.signal_count(type_)
            if count and factor_ppm != PPM:
                what = f"weighs {factor_ppm / PPM:g} times as much: {_signals(count)}{_moved(bare, typed)}"
                yield RuleAction(Rule.TYPE_WEIGHT, type_, what if factor_ppm else f"is muted: {_signals(count)}")
    if typed != aged:
        half_life = _span(weighing.policy.half_life_us or 0)
        yield RuleAction(Rule.HALF_LIFE, "", f"what is {half_life} older counts half{_moved(typed, aged)}")
    if aged != capped:
        tally = weighing.tally
        shares = {source: sums.weight for source, sums in tally.sources}
        for source in tally.capped():
            share, most = shares[source] / tally.weight, (weighing.policy.source_cap_ppm or 0) / PPM
            detail = f"has {share:.4g} of the weight, counts with {most:g} of it{_moved(aged, capped)}"
            yield RuleAction(Rule.SOURCE_CAP, weighing.kinds.groups[source][0], detail)


def _verdicts(weighing: Weighing, verdict: Verdict) -> Iterator[RuleAction]:
    policy, now = weighing.policy, weighing.now
    if verdict.score_ppm is not None:
        status = policy_status(policy, verdict.score_ppm)
        for veto, count in zip(policy.vetoes, weighing.tally.vetoing, strict=True):
            if count and severity(veto.cap) > severity(status):
                below = f"{veto.type} below {veto.below_q / QUANTUM:g}"
                yield RuleAction(Rule.VETO, veto.type, f"{below}: capped to {veto.cap} by {_signals(count)}")
    if 0 < verdict.signal_count < policy.minimum_signals:
        detail = f"{_signals(verdict.signal_count)} of at least {policy.minimum_signals}: no score"
        yield RuleAction(Rule.MINIMUM_SIGNALS, "", detail)
    if weighing.data_time is not None and not is_fresh(policy, weighing.data_time, now):
        age, most = _span(now - weighing.data_time), _span(policy.stale_after_us or 0)
        yield RuleAction(Rule.STALE_AFTER, "", f"the newest signal is {age} old, more than {most}: no score")


def _holding(policy: ScorePolicy, verdict: Verdict, held: Held | None) -> Iterator[RuleAction]:
    if held is None or Status.UNKNOWN in {held.status, verdict.status}:
        return
    target = target_of(held, policy, verdict)
    if target is not verdict.status:
        band = policy.hysteresis_ppm / PPM
        detail = f"{verdict.status} is not {band:g} beyond the threshold: {target} stays"
        yield RuleAction(Rule.HYSTERESIS, "", detail)
    if held.pending:
        status, since = held.pending[-1]
        detail = f"{status} since {_instant(since)}, not for {_span(policy.dwell_us)} yet: {held.status} is held"
        yield RuleAction(Rule.DWELL, "", detail)


def _clauses(policy: ScorePolicy) -> Iterator[str]:
    weight = "weight"
    if policy.type_weights:
        weight += " × weight of its type"
    if policy.half_life_us is not None:
        weight += f" × 2^(−age ÷ {_span(policy.half_life_us)})"
    yield (
        "score = Σ(value × counted weight) ÷ Σ counted weight over the signals with window start ≤ ts ≤ window end and"
        f" counted weight > 0, rounded once, half-even, to 6 decimals; counted weight = {weight}"
    )
    if policy.source_cap_ppm is not None:
        yield f"a source counts with at most {policy.source_cap_ppm / PPM:g} of the weight of all before the cap"
    yield f"HEALTHY from {policy.healthy_ppm / PPM:g}, WARN from {policy.warn_ppm / PPM:g}, else CRITICAL"
    for veto in policy.vetoes:
        yield f"at best {veto.cap} with a {veto.type} below {veto.below_q / QUANTUM:g}"
    yield f"UNKNOWN with fewer than {_signals(policy.minimum_signals)}"
    if policy.stale_after_us is not None:
        yield f"UNKNOWN when the newest is older than {_span(policy.stale_after_us)}"
    if policy.hysteresis_ppm:
        yield f"the held status changes {policy.hysteresis_ppm / PPM:g} beyond a threshold"
    if policy.dwell_us:
        yield f"the held status changes to what has lasted {_span(policy.dwell_us)}"
    yield "push = counted weight ÷ Σ counted weight × (value − 1), so that all pushes add up to the mean − 1"


def _moved(before: tuple[int | None, int], after: tuple[int | None, int]) -> str:
    """What the rule as a whole did to the score."""
    return f" ({_figure(before[0])} becomes {_figure(after[0])})"


def _figure(score_ppm: int | None) -> str:
    return "no score" if score_ppm is None else f"{score_ppm / PPM:.6f}"


def _signals(count: int) -> str:
    return f"{count} signal{'' if count == 1 else 's'}"


def _instant(us: int) -> str:
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def _span(us: int) -> str:
    """`3 h`, `1 d 12 h`, `2.5 s`."""
    words = []
    for unit, size in _UNITS[:-1]:
        count, us = divmod(us, size)
        if count:
            words.append(f"{count} {unit}")
    if us or not words:
        words.append(f"{us / _UNITS[-1][1]:g} s")
    return " ".join(words)
