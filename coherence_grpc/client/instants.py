"""Instants and spans of time between Python and the wire, exact to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY_S: Final = 86_400
MICROS: Final = 1_000_000


def since_epoch(instant: datetime) -> tuple[int, int]:
    """Whole seconds since 1970, and microseconds beyond them.

    Raises:
        ValueError: the instant has no time zone, so that it could be any of 38.
    """
    if instant.tzinfo is None:
        message = f"the instant {instant.isoformat()} has no time zone; give it one, such as datetime.UTC"
        raise ValueError(message)
    since = instant - EPOCH
    return since.days * DAY_S + since.seconds, since.microseconds


def timestamp(instant: datetime) -> Timestamp:
    """The instant as a message."""
    seconds, micros = since_epoch(instant)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def maybe_timestamp(instant: datetime | None) -> Timestamp | None:
    """The instant as a message, where there is one."""
    return None if instant is None else timestamp(instant)


def instant(message: Timestamp) -> datetime:
    """What the message says, in UTC."""
    return EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def maybe_instant(message: Timestamp) -> datetime | None:
    """What the message says; None when it is left out."""
    return instant(message) if message.seconds or message.nanos else None


def duration(span: timedelta) -> Duration:
    """The span as a message."""
    message = Duration()
    message.FromTimedelta(span)
    return message


def span(message: Duration) -> timedelta:
    """What the message says."""
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
