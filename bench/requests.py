"""Publish requests as the bytes on the wire: the same numbers give the same bytes in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp

from coherence.v1.ingest_pb2 import (
    PublishSignalRequest,
    PublishSignalsRequest,
    StreamBatch,
    StreamSignalsRequest,
)
from coherence.v1.signal_pb2 import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES: Final = ("latency", "errors", "saturation", "build", "deploy")
SOURCES: Final = tuple(f"service-{n:02}" for n in range(20))
STEP_US: Final = 1_000
MICROS: Final = 1_000_000
ONE_BY_ONE: Final = "/coherence.v1.IngestService/PublishSignal"
BATCHES: Final = "/coherence.v1.IngestService/PublishSignals"


def tenant(number: int) -> str:
    """The name of a tenant of the benchmark."""
    return f"bench-{number:03}"


def signal(number: int, start_us: int, tenant_id: str = "") -> Signal:
    """Signal `number`: instants rise by a millisecond each, as live sources emit them."""
    at = start_us + number * STEP_US
    return Signal(
        tenant_id=tenant_id,
        source=SOURCES[number % len(SOURCES)],
        signal_id=f"measurement-{number:010}",
        type=TYPES[number % len(TYPES)],
        value=(number * 7919 % 1000) / 1000,
        weight=1 + number % 4,
        ts=Timestamp(seconds=at // MICROS, nanos=at % MICROS * 1000),
    )


def batches(*, size: int, count: int, first: int, start_us: int, tenants: int) -> Iterator[bytes]:
    """`count` requests of `size` signals numbered from `first`, tenant after tenant; alone they go by PublishSignal."""
    for number in range(count):
        name = tenant(number % tenants)
        begin = first + number * size
        if size == 1:
            single = PublishSignalRequest(signal=signal(begin, start_us, name), request_id=f"request-{begin}")
            yield single.SerializeToString()
            continue
        signals = [signal(n, start_us) for n in range(begin, begin + size)]
        request = PublishSignalsRequest(tenant_id=name, signals=signals, request_id=f"request-{begin}")
        yield request.SerializeToString()


def frames(*, size: int, count: int, first: int, start_us: int, tenants: int) -> Iterator[bytes]:
    """The same signals as `batches` makes of the same numbers, as frames of one stream a tenant."""
    for number in range(count):
        begin = first + number * size
        signals = [signal(n, start_us) for n in range(begin, begin + size)]
        batch = StreamBatch(sequence=number // tenants + 1, signals=signals)
        yield StreamSignalsRequest(batch=batch).SerializeToString()
