"""Scores cut where a status changes: in which part one is shows without a division."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from coherence_grpc.model import QUANTUM
from coherence_grpc.policy import PPM

if TYPE_CHECKING:
    from coherence_grpc.policy import ScorePolicy

# Twice a weighted sum is compared with so many times the weight sum.
_UNIT: Final = QUANTUM // PPM
NO_ZONE: Final = -1
# Bounds between which every score lies, and none.
ANYWHERE: Final = (-1, 4 * QUANTUM)
NOWHERE: Final = (4 * QUANTUM, -1)


class Zones:
    """The scores cut at the levels that decide what a status is and what is held."""

    def __init__(self, policy: ScorePolicy) -> None:
        shifts = (-policy.hysteresis_ppm, 0, policy.hysteresis_ppm)
        levels = {level + shift for level in (policy.warn_ppm, policy.healthy_ppm) for shift in shifts}
        self._levels = sorted(level for level in levels if 0 < level <= PPM)

    def of(self, score_ppm: int) -> int:
        """The zone of a rounded score."""
        return bisect_right(self._levels, score_ppm)

    def bounds(self, zone: int) -> tuple[int, int]:
        """While 2·Σ value·weight ÷ Σ weight is between these the score is in the zone; on one of them it may be.

        There the score is half-way between two millionths, and is rounded to the even one.
        """
        low = (2 * self._levels[zone - 1] - 1) * _UNIT if zone else ANYWHERE[0]
        high = (2 * self._levels[zone] - 1) * _UNIT if zone < len(self._levels) else ANYWHERE[1]
        return low, high
