"""Signals as the tests write them down: rows with the contract's names, `ts` in microseconds, None for left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from coherence.v1.ingest_pb2 import PublishSignalRequest, PublishSignalsRequest
from coherence.v1.signal_pb2 import Signal
from tests.builders import fresh
from tests.e2e.reading import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = dict[str, Any]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def a_row(tenant_id: str, **named: object) -> Row:
    """A complete signal but for ts; its signal_id is fresh."""
    row = {
        "tenant_id": tenant_id,
        "source": "ci",
        "signal_id": fresh("signal"),
        "type": "build",
        "value": 0.8,
        "weight": 1.0,
    }
    return row | named


def signal_of(row: Row) -> Signal:
    """The row as a message."""
    given = {name: value for name, value in row.items() if value is not None}
    if isinstance(given.get("ts"), int):
        given["ts"] = timestamp(given["ts"])
    return Signal(**given)


def json_of(row: Row) -> Row:
    """The row as HTTP push takes it."""
    given = {name: value for name, value in row.items() if value is not None}
    if isinstance(given.get("ts"), int):
        given["ts"] = rfc3339(given["ts"])
    return given


def input_of(row: Row) -> Row:
    """The row as a PublishCoherenceSignalInput."""
    return {camel(name): value for name, value in json_of(row).items()}


def publish_of(row: Row, request_id: str = "") -> PublishSignalRequest:
    """A request that stores the row."""
    return PublishSignalRequest(signal=signal_of(row), request_id=request_id)


def batch_of(rows: Iterable[Row], tenant_id: str, request_id: str = "") -> PublishSignalsRequest:
    """A request that stores the rows of one tenant."""
    return PublishSignalsRequest(tenant_id=tenant_id, signals=map(signal_of, rows), request_id=request_id)


def rfc3339(us: int) -> str:
    """The instant as text."""
    return (EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def camel(name: str) -> str:
    """The name as GraphQL writes it."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
