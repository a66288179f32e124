from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coherence_grpc.model import QUANTUM, Status
from coherence_grpc.score import WindowSum, divide_half_even, quantise, status_of

finite = st.floats(min_value=0, max_value=1000, allow_nan=False)
signals = st.lists(st.tuples(st.integers(0, QUANTUM), st.integers(0, 1000 * QUANTUM)), max_size=50)


def sum_of(pairs: list[tuple[int, int]]) -> WindowSum:
    total = WindowSum()
    for value_q, weight_q in pairs:
        total = total.plus(value_q, weight_q)
    return total


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.0, 0),
        (-0.0, 0),
        (1.0, QUANTUM),
        (1000.0, 1000 * QUANTUM),
        (0.1, 100_000_000),
        (1e-9, 1),
        (4e-10, 0),
        (5e-324, 0),
        (999.999999999, 999_999_999_999),
    ],
)
def test_a_number_is_kept_to_nine_decimals(number: float, expected: int) -> None:
    assert quantise(number) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        # Odd multiples of 2⁻¹⁰: 10⁹ has only nine twos.
        (1 * 2.0**-10, 976_562),
        (3 * 2.0**-10, 2_929_688),
        (5 * 2.0**-10, 4_882_812),
    ],
)
def test_an_exact_tie_is_quantised_to_the_even_neighbour(number: float, expected: int) -> None:
    assert Fraction(number) * QUANTUM % 1 == Fraction(1, 2)

    assert quantise(number) == expected


@pytest.mark.parametrize("number", [0.5e-9, 1.5e-9, 2.5e-9, 0.1234567885, 0.1234567895, 123.4567890125])
def test_a_near_tie_is_decided_by_the_number_itself_not_by_a_rounded_product(number: float) -> None:
    exact = Decimal(number).scaleb(9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)

    assert quantise(number) == int(exact)


@given(finite)
def test_quantising_agrees_with_exact_decimal_arithmetic(number: float) -> None:
    exact = Decimal(number).scaleb(9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)

    assert quantise(number) == int(exact)


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(1, 2, 0), (3, 2, 2), (5, 2, 2), (7, 2, 4), (1, 3, 0), (2, 3, 1), (4, 2, 2), (0, 5, 0)],
)
def test_a_quotient_is_rounded_to_the_nearest_and_ties_to_even(numerator: int, denominator: int, expected: int) -> None:
    assert divide_half_even(numerator, denominator) == expected


@given(st.integers(0, 10**30), st.integers(1, 10**20))
def test_ac_test_01_division_agrees_with_exact_fractions(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize(
    ("score_ppm", "status"),
    [
        (None, Status.UNKNOWN),
        (0, Status.CRITICAL),
        (499_999, Status.CRITICAL),
        (500_000, Status.WARN),
        (749_999, Status.WARN),
        (750_000, Status.HEALTHY),
        (1_000_000, Status.HEALTHY),
    ],
)
def test_ac_test_01_the_status_is_that_of_the_rounded_score(score_ppm: int | None, status: Status) -> None:
    assert status_of(score_ppm) is status


@pytest.mark.parametrize(
    ("value_q", "status", "score_ppm"),
    [
        # Contradiction 1: 0.7496 must not be shown as 0.75 with WARN, nor be HEALTHY.
        (749_600_000, Status.WARN, 749_600),
        (749_999_500, Status.HEALTHY, 750_000),
        (749_999_499, Status.WARN, 749_999),
        (499_999_500, Status.WARN, 500_000),
        (499_998_500, Status.CRITICAL, 499_998),
    ],
)
def test_rounding_comes_before_the_status(value_q: int, status: Status, score_ppm: int) -> None:
    window = WindowSum().plus(value_q, QUANTUM)

    assert window.score_ppm() == score_ppm
    assert window.status() is status


def test_no_signals_are_unknown_and_never_zero() -> None:
    window = WindowSum()

    assert window.score_ppm() is None
    assert window.status() is Status.UNKNOWN


def test_a_muted_signal_changes_nothing() -> None:
    window = WindowSum().plus(QUANTUM, QUANTUM)

    assert window.plus(0, 0) == window
    assert window.minus(0, 0) == window


@pytest.mark.parametrize("weight_q", [1000 * QUANTUM, 999_999_999_999])
def test_ac_test_01_ten_thousand_signals_at_the_limits_sum_exactly(weight_q: int) -> None:
    window = sum_of([(QUANTUM, weight_q)] * 10_000)

    assert window == WindowSum(10_000 * QUANTUM * weight_q, 10_000 * weight_q, 10_000)
    assert window.score_ppm() == 1_000_000


@given(signals, signals)
def test_ac_test_01_taking_signals_away_leaves_what_the_others_amount_to(
    stay: list[tuple[int, int]], go: list[tuple[int, int]]
) -> None:
    window = sum_of(stay + go)

    for value_q, weight_q in go:
        window = window.minus(value_q, weight_q)

    assert window == sum_of(stay)


@given(signals)
def test_ac_data_03_the_score_is_the_exact_mean_rounded_once(pairs: list[tuple[int, int]]) -> None:
    weight = sum(weight_q for _, weight_q in pairs)

    score_ppm = sum_of(pairs).score_ppm()

    if not weight:
        assert score_ppm is None
    else:
        mean = Fraction(sum(value_q * weight_q for value_q, weight_q in pairs), weight * QUANTUM)
        assert score_ppm == round(mean * 10**6)
        assert 0 <= score_ppm <= 10**6
