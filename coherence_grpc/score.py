"""The score's arithmetic: exact integers, one division at the end.

score = Σ value·weight ÷ Σ weight over the signals with window start ≤ ts ≤ window end and weight > 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from coherence_grpc.model import QUANTUM, Status

HEALTHY_PPM: Final = 750_000
WARN_PPM: Final = 500_000
# Where UNKNOWN stands in a portfolio: behind every score.
UNKNOWN_RANK: Final = 1_000_001
# Below this distance from a tie the float product may have been rounded to the wrong side.
TIE: Final = 0.499


def quantise(number: float) -> int:
    """The number times 10⁹, rounded half-even on its exact binary value; −0 becomes 0. Finite numbers only."""
    scaled = number * QUANTUM
    nearest = round(scaled)
    if abs(scaled - nearest) < TIE:
        return nearest
    return round(Fraction(number) * QUANTUM)


def divide_half_even(numerator: int, denominator: int) -> int:
    """The quotient of non-negative integers, rounded to the nearest, ties to even."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2):
        return quotient + 1
    return quotient


def status_of(score_ppm: int | None, *, healthy_ppm: int = HEALTHY_PPM, warn_ppm: int = WARN_PPM) -> Status:
    """The word for a rounded score; UNKNOWN for none."""
    if score_ppm is None:
        return Status.UNKNOWN
    if score_ppm >= healthy_ppm:
        return Status.HEALTHY
    if score_ppm >= warn_ppm:
        return Status.WARN
    return Status.CRITICAL


@dataclass(frozen=True, slots=True)
class WindowSum:
    """Exact sums over a window: `weighted` in units of 10⁻¹⁸, `weight` in units of 10⁻⁹, `count` weighted signals."""

    weighted: int = 0
    weight: int = 0
    count: int = 0

    def plus(self, value_q: int, weight_q: int) -> WindowSum:
        """The sums with one more signal; a muted one (weight 0) changes nothing."""
        if not weight_q:
            return self
        return WindowSum(self.weighted + value_q * weight_q, self.weight + weight_q, self.count + 1)

    def minus(self, value_q: int, weight_q: int) -> WindowSum:
        """The sums without a signal that was in them; a muted one changes nothing."""
        if not weight_q:
            return self
        return WindowSum(self.weighted - value_q * weight_q, self.weight - weight_q, self.count - 1)

    def score_ppm(self) -> int | None:
        """The weighted mean times 10⁶, rounded once, half-even; None when nothing in the window carries weight."""
        if not self.count:
            return None
        return divide_half_even(self.weighted, self.weight * (QUANTUM // 10**6))

    def status(self) -> Status:
        """The word for the rounded score."""
        return status_of(self.score_ppm())
