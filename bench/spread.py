"""Order statistics, without interpolation: a percentile is a number that was measured."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest number that at least `part` of the ascending numbers don't exceed."""
    return ordered[max(1, ceil(len(ordered) * part)) - 1]


def spread(numbers: Sequence[float], scale: float = 1.0) -> Mapping[str, float]:
    """Count, median, tail and extremes, each divided by `scale`."""
    ordered = sorted(numbers)
    if not ordered:
        return {"count": 0}
    parts = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {"count": len(ordered)} | {name: round(percentile(ordered, part) / scale, 4) for name, part in parts.items()}
