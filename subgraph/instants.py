"""RFC 3339 instants and protobuf Timestamps, both ways: with an offset always, in microseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SHAPE: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,30}))?([Zz]|[+-]\d\d:\d\d)?", flags=re.ASCII
)
REMEDY: Final = "give an RFC 3339 instant with an offset, such as 2013-02-08T12:00:00Z"


class InstantInvalid(ValueError):
    """The text is no instant; the message says why and what to send."""


def parse_instant(text: str) -> Timestamp:
    """The instant that an RFC 3339 text names; what is finer than a microsecond is cut off.

    Raises:
        InstantInvalid: it is not RFC 3339, has no offset, or names no instant.
    """
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise InstantInvalid(REMEDY)
    day, time, fraction, offset = shape.groups()
    if offset is None:
        message = f"it has no offset, so it names no instant: {REMEDY}"
        raise InstantInvalid(message)
    micros = ((fraction or "") + "000000")[:6]
    try:
        # In UTC, because an offset can carry an instant out of the years 1 to 9999.
        when = datetime.fromisoformat(f"{day}T{time}.{micros}{offset.upper()}").astimezone(UTC)
        seconds, rest = divmod((when - _EPOCH) // _MICROSECOND, 1_000_000)
    except (ValueError, OverflowError) as exc:
        message = f"there is no such day, time or offset: {REMEDY}"
        raise InstantInvalid(message) from exc
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def format_instant(instant: Timestamp) -> str:
    """The instant as RFC 3339 in UTC with a Z; microseconds only when there are any."""
    when = _EPOCH + timedelta(seconds=instant.seconds, microseconds=instant.nanos // 1000)
    return when.replace(tzinfo=None).isoformat() + "Z"


def micros_of(instant: Timestamp) -> int:
    """Microseconds since 1970."""
    return instant.seconds * 1_000_000 + instant.nanos // 1000
