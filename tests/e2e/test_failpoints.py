"""What a kill costs at the moments that matter: between a write, its commit, and who hears of it."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from signal import SIGCONT
from typing import TYPE_CHECKING, Final

import grpc.aio
import pytest

from coherence_grpc.adapters.postgres import migrate, open_score_store
from coherence_grpc.client import connect, refusal_of
from coherence_grpc.failpoints import VARIABLE
from tests.backends.fixtures import emptied, fresh_schema, neo4j_auth
from tests.builders import TENANT, a_score, fresh
from tests.e2e.cutting import published_up_to
from tests.e2e.failing import BEFORE_THE_COMMIT, EMBEDDED, Attempt, a_batch, killed_at, one_signal, stored_once
from tests.e2e.on_servers import fresh_servers, migrated
from tests.e2e.pairs import is_stopped
from tests.e2e.reading import score_of
from tests.e2e.rows import a_row, publish_of
from tests.e2e.unretried import unretried
from tests.serving import eventually, serving, spoken, until

if TYPE_CHECKING:
    from coherence.v1.ingest_pb2_grpc import IngestServiceStub
    from coherence_grpc.client import Refusal

ROOT: Final = Path(__file__).parents[2]
# Two rows of one tenant are one transaction.
STOPS_INSIDE: Final = """
import asyncio, sys
from coherence_grpc.adapters.postgres import open_score_store
from coherence_grpc.errors import StoreDown
from coherence_grpc.failpoints import arm
from tests.builders import a_score

async def publish(uri, schema):
    async with open_score_store(uri, namespace=schema) as store:
        arm("publish.written=stop", profile="dev")
        try:
            print(await store.publish([a_score(version=1), a_score(version=2)]))
        except StoreDown:
            print("refused")

asyncio.run(publish(*sys.argv[1:]))
"""

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize("place", EMBEDDED)
async def test_r4_a_request_killed_at_any_place_is_stored_once_by_a_retry(tmp_path: Path, place: str) -> None:
    attempts = [one_signal(), a_batch()]

    answered = await killed_at(place, tmp_path, attempts)

    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        before = [await stored_once(client, attempt, answered.get(attempt.tenant)) for attempt in attempts]
    assert any(before) == (place not in BEFORE_THE_COMMIT)


@pytest.mark.usefixtures("neo4j_auth", "postgres_uri", "redis_url")
async def test_r4_ac_ing_04_on_servers_too_also_between_a_commit_and_its_mark(tmp_path: Path) -> None:
    # First: a row that a kill left behind is published by the next process, which would be killed for that.
    places = ("publish.written", "append.written", "mark.before")
    attempts = {place: [one_signal(), a_batch()] for place in places}
    await spoken("switch", "dedupe_mode", "redis", "--data", str(tmp_path))
    async with fresh_servers() as servers:
        answered = {place: await killed_at(place, tmp_path, made, servers) for place, made in attempts.items()}

        async with serving(tmp_path, environment=servers, http=False) as served, connect(served.grpc) as client:
            before = {
                place: [await stored_once(client, attempt, answered[place].get(attempt.tenant)) for attempt in made]
                for place, made in attempts.items()
            }

    assert {place: any(found) for place, found in before.items()} == {
        place: place not in BEFORE_THE_COMMIT for place in places
    }


async def test_r4_a_step_that_fails_at_any_place_is_made_good(tmp_path: Path) -> None:
    # Of a commit that stood, the embedded store doesn't say that its outcome is unknown.
    armed = ",".join(f"{place}=error" for place in EMBEDDED if place != "append.after")
    attempts = [one_signal(), a_batch()]

    async with (
        serving(tmp_path, environment={VARIABLE: armed}, http=False) as served,
        unretried(served.grpc) as stub,
        connect(served.grpc) as client,
    ):
        refused = [refusal for attempt in attempts for refusal in await _refusals(attempt, stub)]
        assert [await stored_once(client, attempt, None) for attempt in attempts] == [True, True]
        for attempt in attempts:
            await eventually(partial(published_up_to, client, attempt.tenant, attempt.signals))

    assert [(one.code, one.metadata["outcome"]) for one in refused] == [("UNAVAILABLE", "unknown")] * 3


@pytest.mark.usefixtures("neo4j_auth")
async def test_r5_a_commit_in_neo4j_whose_reply_was_lost_reaches_a_score_that_is_kept_here(tmp_path: Path) -> None:
    auth = await emptied(neo4j_auth())
    servers = {"NEO4J_URI": auth.uri, "NEO4J_USER": auth.user, "NEO4J_PASSWORD": auth.password}
    await migrated(servers)
    tenant = fresh("tenant")
    attempts = [Attempt(tenant, publish_of(a_row(tenant), fresh("request"))) for _ in range(2)]

    async with (
        serving(tmp_path, environment={**servers, VARIABLE: "append.after=error:2"}, http=False) as served,
        unretried(served.grpc) as stub,
        connect(served.grpc) as client,
    ):
        refused = [refusal.message for attempt in attempts for refusal in await _refusals(attempt, stub)]
        await eventually(partial(score_of, client, tenant), lambda score: score.as_of_seq == len(attempts))
        await eventually(partial(published_up_to, client, tenant, len(attempts)))

    assert [message for message in refused if "append.after" in message]


async def _refusals(attempt: Attempt, stub: IngestServiceStub) -> list[Refusal]:
    """Send until it is acknowledged; what it was told before."""
    told: list[Refusal] = []
    async with asyncio.timeout(10):
        while True:
            try:
                await attempt.send(stub)
            except grpc.aio.AioRpcError as error:
                told.append(refusal_of(error))
            else:
                return told


async def test_r7_who_stops_inside_a_transaction_of_postgresql_holds_up_others_for_its_limit_and_changes_nothing(
    postgres_uri: str,
) -> None:
    async with fresh_schema(postgres_uri) as schema:
        await migrate(postgres_uri, namespace=schema)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", STOPS_INSIDE, postgres_uri, schema), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        try:
            await until(lambda: is_stopped(process.pid))
            async with open_score_store(postgres_uri, namespace=schema) as store:
                # It waits for the row, for less long than a statement may take.
                assert await store.publish([a_score(score_ppm=700_000)]) == [True]
                os.kill(process.pid, SIGCONT)
                said, _ = await process.communicate()
                row = (await store.get([TENANT]))[TENANT]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    assert said == b"refused\n"
    assert (row.score_ppm, row.version) == (700_000, 1)


async def test_a_service_in_production_refuses_to_fail_on_purpose(tmp_path: Path) -> None:
    said = await spoken(
        "serve", "--data", str(tmp_path), "--profile", "prod", environment={VARIABLE: "append.before=kill"}
    )

    assert (said.exit_code, "unset it" in said.stderr) == (2, True)
