"""The rules of a policy one by one, by hand; together they are checked in test_sweep.py and test_ruled_window.py."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coherence_grpc.model import QUANTUM, SECOND, WINDOW, Status
from coherence_grpc.policy import PPM, ScorePolicy, Veto
from coherence_grpc.rules import (
    FACTORS,
    Kinds,
    Standing,
    Tally,
    bucket_of,
    factor_of,
    octave_of,
    plain_verdict,
    severity,
    stale_at,
    worst,
)
from coherence_grpc.score import WindowSum
from tests import generated
from tests.builders import NOON, an_item
from tests.oracle import TABLE, age_factor, mean_of, truth

if TYPE_CHECKING:
    from random import Random

    from coherence_grpc.model import Item

HEALTHY, WARN, CRITICAL, UNKNOWN = Status.HEALTHY, Status.WARN, Status.CRITICAL, Status.UNKNOWN


def a_tally(policy: ScorePolicy, *items: Item, now: int = NOON) -> Tally:
    kinds = Kinds(policy)
    tally = Tally(kinds, now - policy.window_us)
    for item in items:
        tally.add(item.ts, item.value_q, item.weight_q, kinds.number(item.source, item.type))
    return tally


def test_the_table_of_a_half_life_is_exact() -> None:
    assert FACTORS == TABLE


@pytest.mark.parametrize("half_life_us", [1, SECOND, WINDOW // 64, 7 * WINDOW])
@pytest.mark.parametrize("ts", [0, 1, NOON, NOON + 1])
def test_a_factor_doubles_with_every_half_life(half_life_us: int, ts: int) -> None:
    bucket, later = bucket_of(ts, half_life_us), bucket_of(ts + half_life_us, half_life_us)
    base = octave_of(bucket)

    assert factor_of(later, base) == 2 * factor_of(bucket, base)
    assert Fraction(factor_of(bucket, base)) == age_factor(ts, ts, half_life_us)


def test_the_worse_of_two_colours_counts() -> None:
    assert [worst(HEALTHY, None), worst(HEALTHY, WARN), worst(CRITICAL, WARN), worst(WARN, WARN)] == [
        HEALTHY,
        WARN,
        CRITICAL,
        WARN,
    ]
    assert severity(HEALTHY) < severity(WARN) < severity(CRITICAL)


def test_a_source_beyond_the_cap_counts_with_the_caps_share_of_all() -> None:
    # 9 of 10 weigh in one source: it counts 0.4·10 = 4 beside the other's 1.
    loud = [an_item(source="loud", value=0.0, weight=1, ts=NOON - n) for n in range(9)]
    tally = a_tally(ScorePolicy(source_cap_ppm=400_000), *loud, an_item(source="calm", value=1.0))

    assert tally.score_ppm() == 200_000
    assert tally.capped() == [0]
    assert (tally.counted(0), tally.counted(9 if 9 in dict(tally.sources) else 1)) == (
        (400_000 * 10 * QUANTUM * PPM, PPM),
        (QUANTUM * PPM, 1),
    )


def test_a_source_at_the_cap_is_not_cut_and_one_alone_never() -> None:
    even = a_tally(ScorePolicy(source_cap_ppm=500_000), an_item(source="a", value=0.0), an_item(source="b", value=1.0))
    alone = a_tally(ScorePolicy(source_cap_ppm=10_000), an_item(source="a", value=0.3))

    assert (even.capped(), even.score_ppm()) == ([], 500_000)
    assert (alone.capped(), alone.score_ppm()) == ((), 300_000)


def test_every_source_may_be_capped() -> None:
    sources = [
        an_item(source=name, value=value, weight=weight) for name, value, weight in (("a", 0.0, 1), ("b", 1.0, 9))
    ]

    assert a_tally(ScorePolicy(source_cap_ppm=10_000), *sources).score_ppm() == 500_000


def test_the_sums_of_a_source_are_over_all_its_types() -> None:
    tally = a_tally(
        ScorePolicy(type_weights=(("deploy", 2_000_000),)),
        an_item(source="ci", type="build", value=0.5),
        an_item(source="ci", type="deploy", value=1.0),
    )

    assert dict(tally.sources) == {
        0: Standing(PPM * QUANTUM * (QUANTUM // 2) + 2 * PPM * QUANTUM * QUANTUM, 3 * PPM * QUANTUM, 2)
    }
    assert tally.effective(NOON, QUANTUM, 1) == 2 * tally.effective(NOON, QUANTUM, 0)


def test_a_type_of_no_weight_counts_nowhere_and_vetoes_nothing() -> None:
    policy = ScorePolicy(type_weights=(("build", 0),), vetoes=(Veto("build", QUANTUM, CRITICAL),))

    tally = a_tally(policy, an_item(type="build", value=0.0))

    assert tally.verdict(data_time=None, now=NOON) == (None, UNKNOWN, 0, 0, None)


def test_of_several_vetoes_the_worst_caps() -> None:
    policy = ScorePolicy(vetoes=(Veto("a", QUANTUM, WARN), Veto("b", QUANTUM, CRITICAL), Veto("c", QUANTUM, WARN)))
    healthy = an_item(type="a", value=1.0, weight=1000)

    assert a_tally(policy, healthy).cap() is None
    assert a_tally(policy, healthy, an_item(type="a", value=0.99)).cap() is WARN
    assert a_tally(policy, healthy, an_item(type="c", value=0), an_item(type="b", value=0)).cap() is CRITICAL


def test_a_veto_never_makes_a_status_better() -> None:
    policy = ScorePolicy(vetoes=(Veto("a", QUANTUM, WARN),))

    verdict = a_tally(policy, an_item(type="a", value=0.1)).verdict(data_time=NOON, now=NOON)

    assert (verdict.status, verdict.cap) == (CRITICAL, WARN)


@pytest.mark.parametrize(("age", "status"), [(0, HEALTHY), (SECOND, HEALTHY), (SECOND + 1, UNKNOWN)])
def test_data_older_than_stale_after_are_no_data(age: int, status: Status) -> None:
    policy = ScorePolicy(stale_after_us=SECOND)

    verdict = plain_verdict(policy, WindowSum().plus(QUANTUM, QUANTUM), data_time=NOON, now=NOON + age)

    assert (verdict.status, verdict.score_ppm is None) == (status, status is UNKNOWN)
    assert stale_at(policy, NOON, NOON + age) == (NOON + SECOND + 1 if status is HEALTHY else None)


def test_without_data_or_the_rule_nothing_becomes_stale() -> None:
    assert stale_at(ScorePolicy(), NOON, NOON) is None
    assert stale_at(ScorePolicy(stale_after_us=SECOND), None, NOON) is None


@pytest.mark.parametrize(("count", "status"), [(0, UNKNOWN), (1, UNKNOWN), (2, HEALTHY)])
def test_fewer_signals_than_the_minimum_are_no_score(count: int, status: Status) -> None:
    sums = WindowSum()
    for _ in range(count):
        sums = sums.plus(QUANTUM, QUANTUM)

    verdict = plain_verdict(ScorePolicy(minimum_signals=2), sums, data_time=NOON, now=NOON)

    assert (verdict.status, verdict.signal_count) == (status, count)


@settings(max_examples=100, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_taking_away_what_was_added_leaves_exactly_the_rest(random: Random) -> None:
    policy = generated.a_policy(random)
    now = NOON + policy.window_us
    items = [item for item in generated.items_from(random, NOON, policy.window_us, most=30) if NOON <= item.ts <= now]
    kinds = Kinds(policy)
    tally = Tally(kinds, NOON)
    rows = [(item.ts, item.value_q, item.weight_q, kinds.number(item.source, item.type)) for item in items]
    for row in rows:
        tally.add(*row)
    gone = random.sample(range(len(rows)), random.randrange(len(rows) + 1))

    for index in gone:
        tally.remove(*rows[index])

    rest = [item for index, item in enumerate(items) if index not in gone]
    expected = truth(rest, policy, now)
    assert tally.verdict(data_time=expected.data_time, now=now) == expected[:5]
    if expected.signal_count:
        weighed = [
            (item, Fraction(tally.effective(item.ts, item.weight_q, kinds.number(item.source, item.type))))
            for item in rest
        ]
        counted = [(item, weight) for item, weight in weighed if weight]
        assert Fraction(*tally.mean()) == mean_of(counted, policy)
        shares = [Fraction(*tally.counted(source)) for source, _ in tally.sources]
        assert all(share > 0 for share in shares)
