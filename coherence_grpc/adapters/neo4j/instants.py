"""Instants of the graph: native DateTimes in UTC, to the microsecond, made and taken apart by the server.

A DateTime made by the driver has another zone, and an index finds it only by looking at many.
"""

from __future__ import annotations

from typing import Final

# The years that the driver of every language can take.
LATEST: Final = 253_402_300_799_999_999


def bounded(us: int) -> int:
    """The instant, or the nearest that a DateTime of the graph can be."""
    return min(max(us, 0), LATEST)


def instant(us: str) -> str:
    """The DateTime of so many microseconds."""
    return f"datetime.fromEpoch({us} / 1000000, {us} % 1000000 * 1000)"


def microseconds(of: str) -> str:
    """The microseconds of a DateTime."""
    return f"({of}.epochSeconds * 1000000 + {of}.microsecond)"
