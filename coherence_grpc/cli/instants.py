"""Instants as people write and read them. Inside they are microseconds since 1970-01-01T00:00Z."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

SECOND: Final = 1_000_000
EXAMPLE: Final = "2013-02-08T00:00:00Z"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.(\d+))?)?)([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)?",
    re.ASCII,
)
_DURATION: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_instant(text: str) -> int:
    """The microseconds of an RFC 3339 instant; what is finer is cut off, seconds may be left out.

    Raises:
        ValueError: it isn't one, or names no zone; the message says what to write instead.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        message = f"{text[:64]!r} is not an RFC 3339 instant; write it like {EXAMPLE}"
        raise ValueError(message)
    day, clock, fraction, zone = match.groups()
    if zone is None:
        message = f"{text!r} has no time zone; add Z for UTC, or an offset such as +01:00"
        raise ValueError(message)
    clock = clock.partition(".")[0]
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as error:
        message = f"{text!r} is not a real instant: {error}"
        raise ValueError(message) from error
    return (at - _EPOCH) // _MICROSECOND + int((fraction or "0")[:6].ljust(6, "0"))


def parse_duration(text: str) -> int:
    """The microseconds of a duration such as `90s`, `15m`, `6h` or `1d`.

    Raises:
        ValueError: it isn't one; the message says what to write instead.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        message = f"{text[:64]!r} is not a duration; write it like 90s, 15m, 6h or 1d"
        raise ValueError(message)
    return int(match[1]) * _UNITS[match[2]] * SECOND


def timestamp(us: int) -> Timestamp:
    """The instant as a message."""
    from google.protobuf.timestamp_pb2 import Timestamp

    seconds, rest = divmod(us, SECOND)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def micros(stamp: Timestamp) -> int:
    """The message as microseconds."""
    return stamp.seconds * SECOND + stamp.nanos // 1000


def render(us: int) -> str:
    """RFC 3339 in UTC, with as many digits as it has."""
    seconds, rest = divmod(us, SECOND)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    text = text.rjust(len(EXAMPLE) - 1, "0")
    return f"{text}.{rest:06d}Z" if rest else f"{text}Z"


def render_minute(us: int) -> str:
    """RFC 3339 in UTC, to the minute."""
    return f"{render(us)[:16]}Z"


def render_age(us: int) -> str:
    """A span as people say it: `42 s`, `17 min`, `3 h 05 min`, `2 d 03 h`."""
    minutes, seconds = divmod(max(us, 0) // SECOND, 60)
    if not minutes:
        return f"{seconds} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h" if days else f"{hours} h {minutes:02d} min"


class Instant(click.ParamType[int]):
    """An option's RFC 3339 instant, as microseconds."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """The microseconds, or a usage error that says how to write it."""
        if isinstance(value, int):
            return value
        try:
            return parse_instant(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[int]):
    """An option's duration, as microseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """The microseconds, or a usage error that says how to write it."""
        if isinstance(value, int):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


INSTANT: Final = Instant()
DURATION: Final = Duration()
