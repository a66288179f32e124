"""Instants and durations: microseconds inside, Timestamp and Duration outside."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coherence_grpc.errors import FieldError
from coherence_grpc.model import SECOND

# What Timestamp allows: the years 1 to 9999.
MIN_SECONDS: Final = -62_135_596_800
MAX_SECONDS: Final = 253_402_300_799
MAX_NANOS: Final = 999_999_999
PROBLEM: Final = "must lie in the years 1 to 9999, with 0 to 999999999 nanos"


def timestamp(us: int) -> Timestamp:
    """The instant as a Timestamp."""
    seconds, rest = divmod(us, SECOND)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def microseconds(stamp: Timestamp) -> int | None:
    """The instant, finer parts cut off; None when it is no valid Timestamp."""
    seconds, nanos = stamp.seconds, stamp.nanos
    if MIN_SECONDS <= seconds <= MAX_SECONDS and 0 <= nanos <= MAX_NANOS:
        return seconds * SECOND + nanos // 1000
    return None


def invalid_instant(path: str) -> FieldError:
    """What is said about a Timestamp that is none."""
    return FieldError(path, PROBLEM)


def duration(seconds: float) -> Duration:
    """The duration, to the microsecond."""
    value = Duration()
    value.FromMicroseconds(round(seconds * SECOND))
    return value


def seconds_of(value: Duration) -> float:
    """The duration in seconds."""
    return value.seconds + value.nanos / 1e9
