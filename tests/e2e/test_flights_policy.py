"""Real flights under other rules: what was foretold is what happens, and nothing was written to foretell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from coherence.v1 import ingest_pb2, signal_pb2
from coherence_grpc.cli.failure import Failure
from coherence_grpc.cli.importing.archive import cache_directory, flight_archive
from coherence_grpc.cli.importing.flights import FlightArchive
from coherence_grpc.client import connect
from tests.e2e.policing_flights import do, foretell
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from coherence_grpc.client import Client

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

# The smallest of the ten: 5,162 departures.
CARRIER: Final = "vx"
BATCH: Final = 1000


async def published(client: Client) -> None:
    try:
        archive = flight_archive(cache_directory(None), lambda _: None)
    except Failure as failure:
        pytest.skip(failure.message)
    signals = [one.signal() for one in FlightArchive(archive).departures() if one.tenant_id == CARRIER]
    for first in range(0, len(signals), BATCH):
        request = ingest_pb2.PublishSignalsRequest(
            tenant_id=CARRIER,
            signals=signals[first : first + BATCH],
            tags=signal_pb2.Tags(retention=signal_pb2.RETENTION_UNLIMITED),
            backfill=True,
        )
        assert (await client.ingest.PublishSignals(request)).refused_count == 0


async def test_a_year_of_flights_under_other_rules_is_as_foretold(tmp_path: Path) -> None:
    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        await published(client)

        foretold = await foretell(client, CARRIER)
        happened = await do(client, CARRIER)

    assert (foretold.plain_changes, foretold.steady_changes) == (293, 119)
    assert happened.plain_lasting == 173
    assert happened.steady_changes == foretold.steady_changes
    assert happened.vetoed == foretold.vetoed
    assert foretold.earlier_h == pytest.approx(3 + 35 / 60)
