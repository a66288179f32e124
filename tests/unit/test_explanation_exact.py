"""What an explanation says, against fractions and full recomputations, under policies at random."""

from __future__ import annotations

from array import array
from dataclasses import replace
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from coherence_grpc.held import follow
from coherence_grpc.materialize import Exclusion, Rule
from coherence_grpc.materialize.explanation import explain
from coherence_grpc.materialize.sweep import sweep
from coherence_grpc.model import GENESIS, Head, Held, Status
from coherence_grpc.policy import PPM
from coherence_grpc.ports import Group, WindowParts
from tests.builders import NOON
from tests.generated import a_policy, columns_of, items_from
from tests.oracle import inside, mean_of, truth

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from coherence_grpc.materialize.explanation import ContributionGroup, Parts
    from coherence_grpc.model import Item
    from coherence_grpc.policy import ScorePolicy

ALL = 100


class Case(NamedTuple):
    """A window at random, and what is said of it; the seq of an item is its place in the list, from 1."""

    items: Sequence[Item]
    records: Sequence[int]
    policy: ScorePolicy
    shown: Held | None
    parts: Parts


def parts_of(items: Sequence[Item], records: Sequence[int], start: int, end: int) -> WindowParts:
    """The signals as a store hands them out."""
    rows = sorted((item.ts, seq, item) for seq, item in enumerate(items, 1))
    rows = [row for row in rows if start <= row[0] <= end or (end < row[0] and row[2].weight_q)]
    groups = sorted({Group(item.source, item.type) for _, _, item in rows}, reverse=True)
    return WindowParts(
        array("q", [ts for ts, _, _ in rows]),
        array("q", [item.value_q for _, _, item in rows]),
        array("q", [item.weight_q for _, _, item in rows]),
        array("q", [seq for _, seq, _ in rows]),
        array("q", [records[seq - 1] for _, seq, _ in rows]),
        array("q", [groups.index(Group(item.source, item.type)) for _, _, item in rows]),
        groups,
        sum(item.ts > end for item in items),
        sum(item.ts < start for item in items),
        Head(1, len(items), GENESIS),
    )


def a_case(seed: int) -> Case:
    random = Random(seed)  # noqa: S311 - spread, not secret
    policy = a_policy(random, plain=not random.randrange(4))
    items = items_from(random, NOON - policy.window_us, policy.window_us)
    records = [random.randrange(4) for _ in items]
    shown = random.choice([None, *(Held(status, NOON - policy.window_us // 5) for status in Status)])
    parts = explain(parts_of(items, records, NOON - policy.window_us, NOON), policy, NOON, ALL, shown)
    return Case(items, records, policy, shown, parts)


# Each stands for a handful: one test for every case would take longer to collect than to run.
cases = pytest.mark.parametrize("case", range(0, 500, 50))


def each(seed: int) -> Sequence[Case]:
    return [a_case(seed + number) for number in range(50)]


@cases
def test_the_verdict_is_that_of_a_full_recomputation(case: int) -> None:
    for one in each(case):
        verdict, expected = one.parts.reading.verdict, truth(one.items, one.policy, NOON)

        assert verdict == (expected.score_ppm, expected.status, expected.signal_count, expected.weight_q, expected.cap)
        assert one.parts.reading.data_time == expected.data_time


@cases
def test_each_push_is_exact_and_all_add_up_to_the_mean_minus_1(case: int) -> None:
    for one in each(case):
        pushes = exact_pushes(one.items, one.policy)
        said = {part.seq: part for part in one.parts.contributions}

        counted = inside(one.items, one.policy, NOON)
        if counted:
            assert sum(push for _, push in pushes.values()) == mean_of(counted, one.policy) / 10**9 - 1
        assert {seq: (part.weight_share, part.push) for seq, part in said.items()} == {
            seq: (float(share), float(push)) for seq, (share, push) in pushes.items()
        }
        in_order = sorted(pushes, key=lambda seq: (pushes[seq][1], one.items[seq - 1].ts, seq))
        assert [part.seq for part in one.parts.contributions] == in_order


@cases
def test_a_group_is_the_sum_of_its_signals(case: int) -> None:
    for one in each(case):
        pushes = exact_pushes(one.items, one.policy)
        for groups, name_of in namings(one):
            for group in groups:
                members = [seq for seq in pushes if name_of(seq) == group.name]
                share = sum(pushes[seq][0] for seq in members)
                push = sum(pushes[seq][1] for seq in members)

                assert (group.signal_count, group.weight_share, group.push) == (len(members), float(share), float(push))
                assert group.mean == float(1 + push / share)
            assert {group.name for group in groups} == {name_of(seq) for seq in pushes}


@cases
def test_a_delta_is_by_how_much_the_rounded_score_moves_without_it(case: int) -> None:
    for one in each(case):
        for part in one.parts.contributions:
            assert part.delta_if_removed == delta(one, {part.seq})
        for groups, name_of in namings(one):
            for group in groups:
                members = {seq for seq in range(1, len(one.items) + 1) if name_of(seq) == group.name}
                assert group.delta_if_removed == delta(one, members)


@cases
def test_next_moves_are_the_first_of_the_sweep_and_come_true(case: int) -> None:
    for one in each(case):
        policy, parts = one.policy, one.parts
        end = NOON + 4 * policy.window_us
        course = sweep(columns_of(one.items, grouped=not policy.plain), policy, start=NOON, end=end, held=parts.held)
        instants = [swept for swept in course if swept.instant > NOON]
        known = parts.held is not None

        said = {move.instant: move for move in parts.next_moves}
        for move in parts.next_moves:
            expected = truth(one.items, policy, move.instant)
            assert (move.score_ppm, move.status) == (expected.score_ppm, expected.status)
        if known:
            assert list(said) == [swept.instant for swept in instants][: len(said)]
            assert len(parts.next_moves) == 5 or len(said) == len(instants)
            held = {swept.instant: swept.held.status for swept in instants}
            assert all(move.held_status is held[move.instant] for move in parts.next_moves)
        else:
            assert all(move.held_status is None for move in parts.next_moves)


@cases
def test_what_is_held_follows_what_was_shown(case: int) -> None:
    for one in each(case):
        verdict = one.parts.reading.verdict

        if one.shown is not None:
            assert one.parts.held == follow(one.shown, one.policy, verdict, NOON)
        elif one.policy.remembers:
            assert one.parts.held is None
        else:
            assert one.parts.held == Held(verdict.status, None)


@cases
def test_a_rule_is_named_when_the_outcome_would_be_another_without_it(case: int) -> None:
    for one in each(case):
        policy, named = one.policy, {action.rule for action in one.parts.rules}
        lenient = replace(policy, minimum_signals=1, stale_after_us=None, vetoes=())
        bare = replace(lenient, type_weights=(), half_life_us=None, source_cap_ppm=None)
        typed = replace(bare, type_weights=policy.type_weights)
        aged = replace(typed, half_life_us=policy.half_life_us)
        stages = [outcome(one.items, stage) for stage in (bare, typed, aged, lenient)]
        full = truth(one.items, policy, NOON)
        vetoed = truth(one.items, replace(policy, vetoes=()), NOON).status is not full.status

        assert (Rule.TYPE_WEIGHT in named) == (stages[0] != stages[1])
        assert (Rule.HALF_LIFE in named) == (stages[1] != stages[2])
        assert (Rule.SOURCE_CAP in named) == (stages[2] != stages[3])
        assert (Rule.VETO in named) == vetoed
        assert (Rule.MINIMUM_SIGNALS in named) == (0 < full.signal_count < policy.minimum_signals)
        without_staleness = truth(one.items, replace(lenient, minimum_signals=1), NOON)
        stale = without_staleness != truth(one.items, replace(lenient, stale_after_us=policy.stale_after_us), NOON)
        assert (Rule.STALE_AFTER in named) == stale
        if one.parts.held is not None and full.status is one.parts.held.status:
            assert not named & {Rule.HYSTERESIS, Rule.DWELL}
        elif one.parts.held is not None:
            assert named & {Rule.HYSTERESIS, Rule.DWELL}


@cases
def test_what_is_left_out_is_counted_by_its_reason(case: int) -> None:
    for one in each(case):
        start, factors = NOON - one.policy.window_us, dict(one.policy.type_weights)
        window = [item for item in one.items if start <= item.ts <= NOON]

        assert one.parts.excluded == {
            Exclusion.MUTED: sum(not item.weight_q for item in window),
            Exclusion.TYPE_MUTED: sum(bool(item.weight_q) and not factors.get(item.type, PPM) for item in window),
            Exclusion.NOT_YET_DUE: sum(item.ts > NOON for item in one.items),
            Exclusion.AGED_OUT: sum(item.ts < start for item in one.items),
        }


def exact_pushes(items: Sequence[Item], policy: ScorePolicy) -> dict[int, tuple[Fraction, Fraction]]:
    """By seq the share of each signal that counts, and its push."""
    counted = inside(items, policy, NOON)
    whole = sum((weight for _, weight in counted), Fraction())
    sources: dict[str, Fraction] = {}
    for item, weight in counted:
        sources[item.source] = sources.get(item.source, Fraction()) + weight
    most = whole if policy.source_cap_ppm is None or len(sources) < 2 else whole * policy.source_cap_ppm / PPM
    scaled = [(item, weight * min(sources[item.source], most) / sources[item.source]) for item, weight in counted]
    total = sum((weight for _, weight in scaled), Fraction())
    seq = {item.signal_id: number for number, item in enumerate(items, 1)}
    return {
        seq[item.signal_id]: (weight / total, weight / total * (Fraction(item.value_q, 10**9) - 1))
        for item, weight in scaled
    }


def namings(one: Case) -> Sequence[tuple[Sequence[ContributionGroup], Callable[[int], str]]]:
    """The groups of each kind, and the name of the group that a signal is in; a record goes by its number."""
    named = [
        group._replace(name=str(one.records[seq - 1]))
        for seq, group in zip(one.parts.records, one.parts.provenances, strict=True)
    ]
    return [
        (one.parts.sources, lambda seq: one.items[seq - 1].source),
        (one.parts.types, lambda seq: one.items[seq - 1].type),
        (named, lambda seq: str(one.records[seq - 1])),
    ]


def delta(one: Case, gone: Collection[int]) -> float | None:
    """The difference of two rounded scores, one of them without some signals."""
    score = truth(one.items, one.policy, NOON).score_ppm
    left = [item for seq, item in enumerate(one.items, 1) if seq not in gone]
    rest = truth(left, one.policy, NOON).score_ppm
    return None if score is None or rest is None else (rest - score) / PPM


def outcome(items: Sequence[Item], policy: ScorePolicy) -> tuple[int | None, int]:
    found = truth(items, policy, NOON)
    return found.score_ppm, found.signal_count
