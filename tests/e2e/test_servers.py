"""The service on Neo4j, PostgreSQL and Redis: what holds on the embedded default holds there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from grpc.aio import AioRpcError

from coherence.v1.events_pb2 import POSITION_EARLIEST, Start, SubscribeRequest
from coherence.v1.ingest_pb2 import PublishSignalsRequest
from coherence.v1.score_pb2 import GetScoreRequest
from coherence.v1.signal_pb2 import Signal
from coherence_grpc.client import connect, refusal_of
from tests.backends.fixtures import NEO4J, POSTGRES, REDIS, emptied, neo4j_auth
from tests.e2e.commanding import records
from tests.e2e.on_servers import copied_database, fresh_servers, migrated
from tests.e2e.reading import score_of
from tests.serving import eventually, serving, spoken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from coherence_grpc.client import Client

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120), POSTGRES, REDIS, *NEO4J]


@pytest.fixture
async def servers() -> AsyncIterator[Mapping[str, str]]:
    async with fresh_servers() as environment:
        yield environment


async def publish(client: Client, *values: float, tenant_id: str = "acme") -> str:
    """Store signals of these values; the revision that has them."""
    signals = [Signal(source="ci", type="build", value=value) for value in values]
    reply = await client.ingest.PublishSignals(PublishSignalsRequest(tenant_id=tenant_id, signals=signals))
    assert reply.stored_count == len(values)
    return reply.revision.token


async def score(client: Client, at_least: str = "", *, tenant_id: str = "acme") -> float:
    request = GetScoreRequest(tenant_id=tenant_id)
    if at_least:
        request.consistency.at_least_as_fresh.token = at_least
    return (await client.score.GetScore(request)).score.score


async def seqs(client: Client, count: int, *, tenant_id: str = "acme") -> list[int]:
    """The numbers of the first signals, in the order in which a subscriber gets them."""
    request = SubscribeRequest(tenant_id=tenant_id, start=Start(position=POSITION_EARLIEST))
    found: list[int] = []
    async for frame in client.events.Subscribe(request):
        found += [event.signal.seq for event in frame.batch.events if event.HasField("signal")]
        if len(found) >= count:
            break
    return found


async def test_what_one_process_stores_another_reads_and_streams(servers: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        serving(tmp_path / "a", environment=servers, http=False) as one,
        serving(tmp_path / "b", environment=servers, http=False) as two,
        connect(one.grpc) as first,
        connect(two.grpc) as second,
    ):
        streamed = asyncio.create_task(seqs(second, 4))
        revision = await publish(first, 0.2, 0.4)
        seen = await score(second, revision)
        revision = await publish(second, 0.6, 0.8)

        assert (seen, await score(first, revision)) == (0.3, 0.5)
        assert await streamed == [1, 2, 3, 4]
        await eventually(lambda: score(first), lambda found: found == 0.5)
        await eventually(lambda: score(second), lambda found: found == 0.5)


async def test_when_one_process_is_killed_the_other_goes_on_with_its_tenants(
    servers: Mapping[str, str], tmp_path: Path
) -> None:
    tenants = [f"t{number}" for number in range(8)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        serving(tmp_path / "a", environment=servers, http=False) as one,
        serving(tmp_path / "b", environment=servers, http=False) as two,
        connect(one.grpc) as first,
        connect(two.grpc) as second,
    ):
        for tenant_id in tenants:
            await publish(first, 0.2, tenant_id=tenant_id)
        await one.kill()
        for tenant_id in tenants:
            await publish(second, 0.4, tenant_id=tenant_id)

        async def rows() -> list[float]:
            return [shown["score"] for shown in await records(two, "score", *tenants)]

        await eventually(rows, lambda found: found == [0.3] * len(tenants), within_s=20)
        assert [await seqs(second, 2, tenant_id=tenant_id) for tenant_id in tenants] == [[1, 2]] * len(tenants)


async def test_a_log_put_back_is_refused_until_the_scores_are_rebuilt_and_old_cursors_expire(
    servers: Mapping[str, str], tmp_path: Path
) -> None:
    async with serving(tmp_path, environment=servers, http=False) as served, connect(served.grpc) as client:
        await publish(client, 0.2)
        await eventually(lambda: records(served, "score", "acme"), lambda shown: shown[0]["version"] == 1)
        cursor = (await client.score.GetScore(GetScoreRequest(tenant_id="acme"))).score.cursor
    await emptied(neo4j_auth())
    await migrated(servers)
    arguments = ("--data", str(tmp_path))

    refused = await spoken("serve", *arguments, "--grpc", "127.0.0.1:0", "--http", "off", environment=servers)
    rebuilt = await spoken("rebuild-scores", *arguments, environment=servers)
    async with serving(tmp_path, environment=servers, http=False) as served, connect(served.grpc) as client:
        await publish(client, 0.6)
        again = await score(client)
        with pytest.raises(AioRpcError) as expired:
            async for _ in client.events.Subscribe(SubscribeRequest(tenant_id="acme", start=Start(cursor=cursor))):
                pass

    assert (refused.exit_code, "coherence rebuild-scores" in refused.stderr) == (2, True)
    assert rebuilt.exit_code == 0
    assert again == 0.6
    assert refusal_of(expired.value).reason == "CURSOR_EXPIRED"


async def test_scores_put_back_are_refused_until_they_are_rebuilt_and_then_go_on(
    servers: Mapping[str, str], tmp_path: Path
) -> None:
    arguments = ("--data", str(tmp_path))

    async def published(client: Client, value: float, version: int) -> None:
        await publish(client, value)
        await eventually(lambda: score_of(client, "acme"), lambda found: found.version == version)

    async with serving(tmp_path, environment=servers, http=False) as served, connect(served.grpc) as client:
        await published(client, 0.2, 1)
    async with copied_database(servers["POSTGRES_URI"]) as older:
        # What was published is noted beside the signals within two seconds, and at the end.
        async with (
            serving(tmp_path, environment=servers, http=False, drain=True) as served,
            connect(served.grpc) as client,
        ):
            await published(client, 0.6, 2)
        put_back = {**servers, "POSTGRES_URI": older}

        refused = await spoken("serve", *arguments, "--grpc", "127.0.0.1:0", "--http", "off", environment=put_back)
        rebuilt = await spoken("rebuild-scores", *arguments, environment=put_back)
        async with serving(tmp_path, environment=put_back, http=False) as served, connect(served.grpc) as client:
            again = await score_of(client, "acme")
            await publish(client, 1.0)
            moved = await eventually(
                lambda: score_of(client, "acme"), lambda found: found.version > again.version and found.as_of_seq == 3
            )

    assert (refused.exit_code, "coherence rebuild-scores" in refused.stderr) == (2, True)
    assert rebuilt.exit_code == 0
    assert (again.score, again.as_of_seq) == (0.4, 2)
    assert moved.score == 0.6
