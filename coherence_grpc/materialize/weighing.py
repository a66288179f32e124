"""A window's signals as a policy weighs them, and their exact sums."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import replace
from math import gcd, prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coherence_grpc.policy import PPM
from coherence_grpc.rules import Kinds, Standing, Tally, bucket_of, factor_of, octave_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import WindowParts
    from coherence_grpc.rules import Verdict

# How many signals ahead are looked at: for the next few instants at which any come due.
AHEAD: Final = 1000
# The rules that change what weighs how much, in the order in which they apply, and how each is switched off.
WEIGHT_RULES: Final[Sequence[tuple[str, Any]]] = (
    ("type_weights", ()),
    ("half_life_us", None),
    ("source_cap_ppm", None),
)


class Rows(NamedTuple):
    """Signals as columns in ts order; `group` numbers are those of the policy's Kinds."""

    ts: list[int]
    value_q: list[int]
    weight_q: list[int]
    seq: list[int]
    record: list[int]
    group: list[int]

    def part(self, first: int, end: int | None) -> Rows:
        """The rows from `first` to before `end`."""
        return Rows(*(column[first:end] for column in self))

    def picked(self, numbers: Iterable[int]) -> Rows:
        """The rows of these numbers, which ascend."""
        numbers = list(numbers)
        return Rows(*(list(map(column.__getitem__, numbers)) for column in self))

    def followed_by(self, later: Rows) -> Rows:
        """These rows and then those."""
        return Rows(*(column + more for column, more in zip(self, later, strict=True)))

    def signal(self, row: int) -> tuple[int, int, int, int]:
        """A row as a tally takes it."""
        return self.ts[row], self.value_q[row], self.weight_q[row], self.group[row]


class Cell(NamedTuple):
    """Signals of one group: exact sums in the tally's scale, and how many of them set off each veto of the policy."""

    group: int
    sums: Standing
    vetoing: Sequence[int]


class Weighing:
    """The signals that count in a window as of `now`; `effective` is what each weighs in the scale of the tally.

    `muted` and `type_muted` count those of the window that weigh nothing. `ahead` are signals that come due later;
    there are no others up to `known_until`, which is None when there are no others at all. `cells` has one cell for
    each group.
    """

    def __init__(self, parts: WindowParts, policy: ScorePolicy, now: int) -> None:
        self.policy = policy
        self.now = now
        self.kinds = Kinds(policy)
        self._start = now - policy.window_us
        numbers = [self.kinds.number(*group) for group in parts.groups]
        every = Rows(
            parts.ts.tolist(),
            parts.value_q.tolist(),
            parts.weight_q.tolist(),
            parts.seq.tolist(),
            parts.record.tolist(),
            list(map(numbers.__getitem__, parts.group)),
        )
        due = bisect_right(every.ts, now)
        inside, ahead = every.part(0, due), every.part(due, None)
        self._unruled = _kept(inside, inside.weight_q)
        self.muted = due - len(self._unruled.ts)
        self.rows = self._typed(self._unruled)
        self.type_muted = len(self._unruled.ts) - len(self.rows.ts)
        # Of the last instant some may be missing.
        self.known_until = ahead.ts[-1] - 1 if len(ahead.ts) >= AHEAD else None
        if self.known_until is not None:
            ahead = ahead.part(0, bisect_right(ahead.ts, self.known_until))
        self.ahead = self._typed(ahead)
        self.effective = _weights(self.rows, self.kinds, self._start)
        self.cells = self._cells(self.rows, self.effective)
        self.tally = self.fresh_tally()

    @property
    def data_time(self) -> int | None:
        """The newest ts inside."""
        return self.rows.ts[-1] if self.rows.ts else None

    def verdict(self) -> Verdict:
        """What the policy makes of all of them."""
        return self.tally.verdict(data_time=self.data_time, now=self.now)

    def fresh_tally(self) -> Tally:
        """The sums, for the caller to change."""
        tally = Tally(self.kinds, self._start)
        for cell in self.cells:
            self._shift(tally, cell, 1)
        return tally

    def signal_count(self, type_: str) -> int:
        """How many weighted signals of the type there are, also of a type that the policy mutes."""
        groups = {number for number, group in enumerate(self.kinds.groups) if group[1] == type_}
        return sum(group in groups for group in self._unruled.group)

    def multipliers(self) -> tuple[Mapping[int, int], int]:
        """By what to multiply a weight so that all stand as they count after the cap: per source; and their total.

        Whole numbers without a common divisor. Without a capped source each is 1.
        """
        sources = dict(self.tally.sources)
        capped = self.tally.capped()
        if not capped:
            return dict.fromkeys(sources, 1), self.tally.weight
        share = (self.policy.source_cap_ppm or 0) * self.tally.weight
        over = prod(sources[source].weight for source in capped)
        found = dict.fromkeys(sources, PPM * over)
        found |= {source: share * (over // sources[source].weight) for source in capped}
        divisor = gcd(*found.values())
        found = {source: multiplier // divisor for source, multiplier in found.items()}
        return found, sum(found[source] * sums.weight for source, sums in sources.items())

    def score_without_row(self, row: int) -> int | None:
        """The rounded score times 10⁶ if that signal were not there; None: there would be none."""
        rows, tally = self.rows, self.tally
        newest = len(rows.ts) - 1
        if row == newest:
            newest -= 1
        tally.remove(*rows.signal(row))
        verdict = tally.verdict(data_time=rows.ts[newest] if newest >= 0 else None, now=self.now)
        tally.add(*rows.signal(row))
        return verdict.score_ppm

    def score_without_groups(self, groups: Sequence[int]) -> int | None:
        """As `score_without_row`, without all signals of these groups."""
        wanted = frozenset(groups)
        cells = [cell for cell in self.cells if cell.group in wanted]
        return self._score_without(cells, lambda row: self.rows.group[row] in wanted)

    def score_without_record(self, record: int, members: Sequence[int]) -> int | None:
        """As `score_without_row`, without all signals of the provenance record; `members` are their rows, ascending."""
        cells = self._cells(self.rows.picked(members), [self.effective[row] for row in members])
        return self._score_without(cells, lambda row: self.rows.record[row] == record)

    def stages(self) -> Sequence[tuple[int | None, int]]:
        """The rounded score times 10⁶ and how many signals count: by their own weights, and after each weight rule."""
        found: list[tuple[int | None, int]] = []
        for number in range(len(WEIGHT_RULES) + 1):
            if found and getattr(self.policy, WEIGHT_RULES[number - 1][0]) == WEIGHT_RULES[number - 1][1]:
                found.append(found[-1])
            else:
                found.append(self._without_rules(dict(WEIGHT_RULES[number:])))
        return found

    def _without_rules(self, switched_off: Mapping[str, Any]) -> tuple[int | None, int]:
        policy = replace(self.policy, **switched_off)
        if policy == self.policy:
            return self.tally.score_ppm(), self.tally.count
        kinds = Kinds(policy)
        for source, type_ in self.kinds.groups:
            kinds.number(source, type_)
        tally = Tally(kinds, self._start)
        for group, sums in _sums(self._unruled, _weights(self._unruled, kinds, self._start)).items():
            if sums.weight:
                tally.shift(kinds.sources[group], sums)
        return tally.score_ppm(), tally.count

    def _score_without(self, cells: Sequence[Cell], is_gone: Callable[[int], bool]) -> int | None:
        data_time = None
        # Nobody asks for it otherwise.
        if self.policy.stale_after_us is not None:
            left = (row for row in range(len(self.rows.ts) - 1, -1, -1) if not is_gone(row))
            data_time = next((self.rows.ts[row] for row in left), None)
        for cell in cells:
            self._shift(self.tally, cell, -1)
        verdict = self.tally.verdict(data_time=data_time, now=self.now)
        for cell in cells:
            self._shift(self.tally, cell, 1)
        return verdict.score_ppm

    def _typed(self, rows: Rows) -> Rows:
        """The rows of types that the policy does not mute."""
        return _kept(rows, list(map(self.kinds.factors_ppm.__getitem__, rows.group)))

    def _cells(self, rows: Rows, effective: Sequence[int]) -> Sequence[Cell]:
        vetoing = self._vetoing(rows)
        return [Cell(group, sums, vetoing.get(group, ())) for group, sums in _sums(rows, effective).items()]

    def _vetoing(self, rows: Rows) -> Mapping[int, Sequence[int]]:
        found: dict[int, list[int]] = defaultdict(lambda: [0] * len(self.policy.vetoes))
        if self.policy.vetoes:
            vetoes = self.kinds.vetoes
            for group, value in zip(rows.group, rows.value_q, strict=True):
                for veto, below_q in vetoes[group]:
                    found[group][veto] += value < below_q
        return found

    def _shift(self, tally: Tally, cell: Cell, sign: int) -> None:
        weighted, weight, count = cell.sums
        sums = Standing(sign * weighted, sign * weight, sign * count)
        tally.shift(self.kinds.sources[cell.group], sums, [sign * number for number in cell.vetoing])


def _kept(rows: Rows, marks: Sequence[int]) -> Rows:
    """The rows whose mark is not 0."""
    return rows if all(marks) else rows.picked(row for row, mark in enumerate(marks) if mark)


def _weights(rows: Rows, kinds: Kinds, start: int) -> list[int]:
    """What each signal weighs, in the scale of a tally whose window begins at `start`."""
    factors = kinds.factors_ppm
    weights = [weight * factors[group] for weight, group in zip(rows.weight_q, rows.group, strict=True)]
    half_life = kinds.policy.half_life_us
    if half_life is None:
        return weights
    base = octave_of(bucket_of(start, half_life))
    return [weight * factor_of(bucket_of(ts, half_life), base) for weight, ts in zip(weights, rows.ts, strict=True)]


def _sums(rows: Rows, weights: Sequence[int]) -> Mapping[int, Standing]:
    """The sums of each group."""
    counts = Counter(rows.group)
    weighted, weight_sum = dict.fromkeys(counts, 0), dict.fromkeys(counts, 0)
    for group, value, weight in zip(rows.group, rows.value_q, weights, strict=True):
        weighted[group] += value * weight
        weight_sum[group] += weight
    return {group: Standing(weighted[group], weight_sum[group], count) for group, count in counts.items()}
