"""A carrier's real flights, stored as backfill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from coherence.v1 import ingest_pb2, signal_pb2
from coherence_grpc.cli.failure import Failure
from coherence_grpc.cli.importing.archive import cache_directory, flight_archive
from coherence_grpc.cli.importing.flights import FlightArchive

if TYPE_CHECKING:
    from coherence_grpc.client import Client

BATCH: Final = 1000


async def publish_flights(client: Client, carrier: str, *, start_s: int = 0, end_s: int = 1 << 60) -> None:
    """Its departures of the year, or those between two instants; without the data the test is skipped."""
    try:
        archive = flight_archive(cache_directory(None), lambda _: None)
    except Failure as failure:
        pytest.skip(failure.message)
    flights = [one for one in FlightArchive(archive).departures() if one.tenant_id == carrier]
    signals = [signal for one in flights if start_s <= (signal := one.signal()).ts.seconds <= end_s]
    for first in range(0, len(signals), BATCH):
        request = ingest_pb2.PublishSignalsRequest(
            tenant_id=carrier,
            signals=signals[first : first + BATCH],
            tags=signal_pb2.Tags(retention=signal_pb2.RETENTION_UNLIMITED),
            backfill=True,
        )
        assert (await client.ingest.PublishSignals(request)).refused_count == 0
