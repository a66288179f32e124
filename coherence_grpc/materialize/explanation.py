"""What a score is made of: how far each signal, source and type pushes it below 1."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from heapq import nsmallest
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.model import QUANTUM
from coherence_grpc.score import WindowSum

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coherence_grpc.model import Score, StoredSignal
    from coherence_grpc.ports import Weighed

FORMULA: Final = (
    "score = Σ(value × weight) ÷ Σ weight over the signals with window start ≤ ts ≤ window end and weight > 0,"
    " rounded once, half-even, to 6 decimals; HEALTHY from 0.75, WARN from 0.5, else CRITICAL, UNKNOWN without signals;"
    " push = weight ÷ Σ weight × (value − 1), so that all pushes add up to score − 1"
)


class Exclusion(StrEnum):
    """Why a stored signal does not count."""

    MUTED = "MUTED"
    NOT_YET_DUE = "NOT_YET_DUE"
    AGED_OUT = "AGED_OUT"


class Contribution(NamedTuple):
    """What one signal does to the score; `delta_if_removed` is None when nothing would remain without it."""

    signal: StoredSignal
    weight_share: float
    push: float
    delta_if_removed: float | None


class ContributionGroup(NamedTuple):
    """What all signals of one source or type do to the score; `mean` is that of the group alone."""

    name: str
    signal_count: int
    weight_share: float
    mean: float
    push: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score and what it is made of, strongest pushes first.

    All pushes add up to the score before rounding, minus 1.
    """

    score: Score
    formula: str
    contributions: Sequence[Contribution]
    sources: Sequence[ContributionGroup]
    types: Sequence[ContributionGroup]
    excluded: Mapping[Exclusion, int]


class Parts(NamedTuple):
    """The parts of an explanation that the signals alone determine."""

    sums: WindowSum
    oldest_ts: int | None
    newest_ts: int | None
    contributions: Sequence[Contribution]
    sources: Sequence[ContributionGroup]
    types: Sequence[ContributionGroup]
    excluded: Mapping[Exclusion, int]


def explain(weighed: Weighed, top_n: int) -> Parts:
    """Takes a window apart. Sums and differences are exact integers; each figure is one division."""
    counted = [signal for signal in weighed.signals if signal.item.weight_q]
    sources, types = _sums_by(counted, "source"), _sums_by(counted, "type")
    sums = WindowSum(
        sum(group.weighted for group in sources.values()),
        sum(group.weight for group in sources.values()),
        len(counted),
    )
    strongest = nsmallest(top_n, counted, key=_push)
    return Parts(
        sums=sums,
        oldest_ts=counted[0].item.ts if counted else None,
        newest_ts=counted[-1].item.ts if counted else None,
        contributions=[_contribution(signal, sums) for signal in strongest],
        sources=_groups(sources, sums, top_n),
        types=_groups(types, sums, top_n),
        excluded={
            Exclusion.MUTED: len(weighed.signals) - len(counted),
            Exclusion.NOT_YET_DUE: weighed.not_yet_due,
            Exclusion.AGED_OUT: weighed.aged_out,
        },
    )


def _push(signal: StoredSignal) -> tuple[int, int, str, str]:
    # In units of 10⁻¹⁸ of weight; equal pushes in key order, so that the same window always reads the same.
    item = signal.item
    return item.weight_q * (item.value_q - QUANTUM), item.ts, item.source, item.signal_id


def _contribution(signal: StoredSignal, sums: WindowSum) -> Contribution:
    value_q, weight_q = signal.item.value_q, signal.item.weight_q
    rest = sums.minus(value_q, weight_q)
    delta = None
    if rest.count:
        delta = (rest.weighted * sums.weight - sums.weighted * rest.weight) / (rest.weight * sums.weight * QUANTUM)
    return Contribution(
        signal=signal,
        weight_share=weight_q / sums.weight,
        push=weight_q * (value_q - QUANTUM) / (sums.weight * QUANTUM),
        delta_if_removed=delta,
    )


def _sums_by(signals: Iterable[StoredSignal], field: str) -> Mapping[str, WindowSum]:
    weighted: dict[str, int] = defaultdict(int)
    weight: dict[str, int] = defaultdict(int)
    count: dict[str, int] = defaultdict(int)
    for signal in signals:
        item = signal.item
        name = getattr(item, field)
        weighted[name] += item.value_q * item.weight_q
        weight[name] += item.weight_q
        count[name] += 1
    return {name: WindowSum(weighted[name], weight[name], count[name]) for name in count}


def _groups(groups: Mapping[str, WindowSum], sums: WindowSum, top_n: int) -> Sequence[ContributionGroup]:
    strongest = nsmallest(top_n, groups.items(), key=lambda named: (_group_push(named[1]), named[0]))
    return [
        ContributionGroup(
            name=name,
            signal_count=group.count,
            weight_share=group.weight / sums.weight,
            mean=group.weighted / (group.weight * QUANTUM),
            push=_group_push(group) / (sums.weight * QUANTUM),
        )
        for name, group in strongest
    ]


def _group_push(group: WindowSum) -> int:
    return group.weighted - group.weight * QUANTUM
