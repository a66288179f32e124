"""The words of enums and the seconds of durations, both ways."""

from collections.abc import Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration

from coherence.v1 import score_pb2
from coherence_grpc.errors import FieldError
from subgraph.refusals import invalid

STATUSES: Final = ("HEALTHY", "WARN", "CRITICAL", "UNKNOWN")
_STATUS: Final = "STATUS_"
# Longer than anything that is asked for; a Duration could not hold much more.
_LONGEST_S: Final = 1e10


def status_word(number: score_pb2.Status.ValueType) -> str | None:
    """The word of a status; None for one that is not told."""
    return score_pb2.Status.Name(number).removeprefix(_STATUS) if number else None


def statuses(words: Sequence[str] | None, path: str) -> list[score_pb2.Status.ValueType]:
    """The statuses of these words.

    Raises:
        Refused: there is no such status.
    """
    return [score_pb2.Status.Value(f"{_STATUS}{one_of(word, STATUSES, path)}") for word in words or ()]


def one_of(word: str, known: Sequence[str], path: str, *, reason: str = "FILTER_INVALID") -> str:
    """The word, if it is one of those known.

    Raises:
        Refused: it is not.
    """
    if word not in known:
        problem = f"must be one of {', '.join(known)}, not {word[:64]!r}"
        message = f"{path} {problem}"
        raise invalid(message, FieldError(path, problem), reason=reason)
    return word


def duration(seconds: float | None, path: str, *, reason: str = "FILTER_INVALID") -> Duration | None:
    """So many seconds, to the microsecond; None for none.

    Raises:
        Refused: no duration is that long.
    """
    if seconds is None:
        return None
    if not -_LONGEST_S <= seconds <= _LONGEST_S:
        problem = f"can't be {seconds:g} seconds; give a shorter time"
        message = f"{path} {problem}"
        raise invalid(message, FieldError(path, problem), reason=reason)
    found = Duration()
    found.FromMicroseconds(round(seconds * 1e6))
    return found


def seconds(value: Duration) -> float:
    """The duration in seconds."""
    return value.ToMicroseconds() / 1e6
