"""What a score is made of: how far each signal, source, type and provenance record pushes it below 1."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from heapq import nsmallest
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

from coherence_grpc.held import follow
from coherence_grpc.materialize.acting import rules_acting
from coherence_grpc.materialize.computed import Reading, held_alone
from coherence_grpc.materialize.moves import next_change, next_moves
from coherence_grpc.materialize.weighing import Weighing
from coherence_grpc.model import QUANTUM
from coherence_grpc.policy import PPM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coherence_grpc.materialize.acting import RuleAction
    from coherence_grpc.materialize.moves import NextMove
    from coherence_grpc.materialize.weighing import Cell
    from coherence_grpc.model import Held, Score, StoredSignal
    from coherence_grpc.policy import PolicyVersion, ScorePolicy
    from coherence_grpc.ports import WindowParts


class Exclusion(StrEnum):
    """Why a stored signal does not count."""

    MUTED = "MUTED"
    TYPE_MUTED = "TYPE_MUTED"
    NOT_YET_DUE = "NOT_YET_DUE"
    AGED_OUT = "AGED_OUT"


class Part(NamedTuple):
    """What one signal does to the score: `seq` is the number of its entry.

    `delta_if_removed` is the score without it minus the score, both as rounded; None when there would be none.
    """

    seq: int
    weight_share: float
    push: float
    delta_if_removed: float | None


class Contribution(NamedTuple):
    """What one signal does to the score, as Part."""

    signal: StoredSignal
    weight_share: float
    push: float
    delta_if_removed: float | None


class ContributionGroup(NamedTuple):
    """What all signals of one source, type or provenance record do to the score.

    `mean` is that of its signals by the weight with which they count. `capped`: a source that the cap holds down.
    """

    name: str
    signal_count: int
    weight_share: float
    mean: float
    push: float
    delta_if_removed: float | None
    capped: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score and what it is made of, strongest pushes first.

    All pushes add up to the mean before rounding, minus 1; the mean is the score unless a rule leaves none.
    """

    score: Score
    formula: str
    version: PolicyVersion
    contributions: Sequence[Contribution]
    sources: Sequence[ContributionGroup]
    types: Sequence[ContributionGroup]
    provenances: Sequence[ContributionGroup]
    excluded: Mapping[Exclusion, int]
    rules: Sequence[RuleAction]
    next_moves: Sequence[NextMove]


class Parts(NamedTuple):
    """An explanation without the names that only the log knows.

    `provenances` are not named yet; `records` has the number of an entry of each.
    """

    reading: Reading
    held: Held | None
    contributions: Sequence[Part]
    sources: Sequence[ContributionGroup]
    types: Sequence[ContributionGroup]
    provenances: Sequence[ContributionGroup]
    records: Sequence[int]
    excluded: Mapping[Exclusion, int]
    rules: Sequence[RuleAction]
    next_moves: Sequence[NextMove]


def explain(parts: WindowParts, policy: ScorePolicy, instant: int, top_n: int, shown: Held | None = None) -> Parts:
    """Takes the window up to the instant apart. Sums and differences are exact integers; each figure is one division.

    `shown` is what was held last; None: that is not known.
    """
    weighing = Weighing(parts, policy, instant)
    verdict = weighing.verdict()
    held = held_alone(policy, verdict) if shown is None else follow(shown, policy, verdict, instant)
    dissection = _Dissection(weighing, verdict.score_ppm, top_n)
    records, provenances = dissection.provenances()
    return Parts(
        reading=Reading(verdict, weighing.data_time, next_change(weighing), parts.head),
        held=held,
        contributions=dissection.contributions(),
        sources=dissection.sources(),
        types=dissection.types(),
        provenances=provenances,
        records=records,
        excluded={
            Exclusion.MUTED: weighing.muted,
            Exclusion.TYPE_MUTED: weighing.type_muted,
            Exclusion.NOT_YET_DUE: parts.not_yet_due,
            Exclusion.AGED_OUT: parts.aged_out,
        },
        rules=rules_acting(weighing, verdict, held),
        next_moves=next_moves(weighing, held),
    )


class _Dissection:
    """Finds the strongest pushes. Whole numbers of pushes and weights are in units of the total weight as it counts."""

    def __init__(self, weighing: Weighing, score_ppm: int | None, top_n: int) -> None:
        self._weighing = weighing
        self._score_ppm = score_ppm
        self._top_n = top_n
        self._multipliers, self._total = weighing.multipliers()
        rows, sources = weighing.rows, weighing.kinds.sources
        self._counted: Sequence[int] = weighing.effective
        if weighing.tally.capped():
            by = (self._multipliers[sources[group]] for group in rows.group)
            self._counted = list(map(mul, self._counted, by))
        self._pushes = [weight * (value - QUANTUM) for weight, value in zip(self._counted, rows.value_q, strict=True)]

    def contributions(self) -> Sequence[Part]:
        """The signals with the strongest pushes; of equal ones the older first, then the one stored first."""
        ts, seq, pushes = self._weighing.rows.ts, self._weighing.rows.seq, self._pushes
        strongest = nsmallest(self._top_n, range(len(pushes)), key=lambda row: (pushes[row], ts[row], seq[row]))
        return [
            Part(
                seq[row],
                self._counted[row] / self._total,
                pushes[row] / (self._total * QUANTUM),
                self._delta(self._weighing.score_without_row(row)),
            )
            for row in strongest
        ]

    def sources(self) -> Sequence[ContributionGroup]:
        """The sources with the strongest pushes."""
        kinds, capped = self._weighing.kinds, frozenset(self._weighing.tally.capped())
        held_down = frozenset(kinds.groups[source][0] for source in capped)
        found = self._grouped(lambda group: group[0])
        return [group._replace(capped=group.name in held_down) for group in found]

    def types(self) -> Sequence[ContributionGroup]:
        """The types with the strongest pushes."""
        return self._grouped(lambda group: group[1])

    def provenances(self) -> tuple[Sequence[int], Sequence[ContributionGroup]]:
        """The provenance records with the strongest pushes, without names, and the number of an entry of each."""
        rows = self._weighing.rows
        pushes: dict[int, int] = defaultdict(int)
        for record, push in zip(rows.record, self._pushes, strict=True):
            pushes[record] += push
        # Of equal ones the one whose oldest signal is older.
        order = {record: number for number, record in enumerate(pushes)}
        strongest = nsmallest(self._top_n, order, key=lambda record: (pushes[record], order[record]))
        members: dict[int, list[int]] = {record: [] for record in strongest}
        for row, record in enumerate(rows.record):
            if record in members:
                members[record].append(row)
        return [rows.seq[found[0]] for found in members.values()], [
            self._group(
                "",
                count=len(found),
                weight=sum(map(self._counted.__getitem__, found)),
                push=pushes[record],
                without_ppm=self._weighing.score_without_record(record, found),
            )
            for record, found in members.items()
        ]

    def _grouped(self, name_of: Callable[[tuple[str, str]], str]) -> Sequence[ContributionGroup]:
        weighing = self._weighing
        members: dict[str, list[Cell]] = defaultdict(list)
        for cell in weighing.cells:
            members[name_of(weighing.kinds.groups[cell.group])].append(cell)
        pushes = {name: sum(map(self._push, cells)) for name, cells in members.items()}
        strongest = nsmallest(self._top_n, pushes, key=lambda name: (pushes[name], name))
        return [
            self._group(
                name,
                count=sum(cell.sums.signal_count for cell in members[name]),
                weight=sum(cell.sums.weight * self._multiplier(cell) for cell in members[name]),
                push=pushes[name],
                without_ppm=weighing.score_without_groups([cell.group for cell in members[name]]),
            )
            for name in strongest
        ]

    def _multiplier(self, cell: Cell) -> int:
        return self._multipliers[self._weighing.kinds.sources[cell.group]]

    def _push(self, cell: Cell) -> int:
        return (cell.sums.weighted - cell.sums.weight * QUANTUM) * self._multiplier(cell)

    def _group(self, name: str, *, count: int, weight: int, push: int, without_ppm: int | None) -> ContributionGroup:
        return ContributionGroup(
            name=name,
            signal_count=count,
            weight_share=weight / self._total,
            mean=(push + weight * QUANTUM) / (weight * QUANTUM),
            push=push / (self._total * QUANTUM),
            delta_if_removed=self._delta(without_ppm),
        )

    def _delta(self, without_ppm: int | None) -> float | None:
        return None if without_ppm is None or self._score_ppm is None else (without_ppm - self._score_ppm) / PPM
