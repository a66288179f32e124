"""Score policies through two services on the same servers."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import grpc.aio
import pytest

from coherence.v1 import events_pb2, ingest_pb2, score_pb2
from coherence_grpc.app import open_backbone
from coherence_grpc.client import connect, refusal_of
from coherence_grpc.config import load_settings
from tests.backends.fixtures import NEO4J, POSTGRES, REDIS
from tests.builders import fresh
from tests.e2e.on_servers import fresh_servers
from tests.grpc.running import a_signal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coherence_grpc.client import Client
    from coherence_grpc.config import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120), POSTGRES, REDIS, *NEO4J]

CHANGES: Final = 8


async def test_of_changes_on_one_etag_through_two_services_one_is_made_and_both_score_by_it(tmp_path: Path) -> None:
    tenant = fresh("tenant")
    async with (
        fresh_servers() as servers,
        open_backbone(settings_of(tmp_path / "one", servers)) as one,
        open_backbone(settings_of(tmp_path / "two", servers)) as two,
        connect(one.grpc_address) as first,
        connect(two.grpc_address) as second,
    ):
        await first.ingest.PublishSignals(
            ingest_pb2.PublishSignalsRequest(tenant_id=tenant, signals=[a_signal(value=0.7)])
        )
        async with asyncio.TaskGroup() as group:
            attempts = [
                group.create_task(attempt((first, second)[n % 2], tenant, 0.6 + n / 100)) for n in range(CHANGES)
            ]
        request = score_pb2.GetScorePolicyRequest(tenant_id=tenant)
        found = [(await client.score.GetScorePolicy(request)) for client in (first, second)]
        consistency = score_pb2.Consistency(at_least_as_fresh=found[0].revision)
        reading = score_pb2.GetScoreRequest(tenant_id=tenant, consistency=consistency)
        scores = [(await client.score.GetScore(reading)).score for client in (first, second)]
        events = [await changes(client, tenant) for client in (first, second)]

    etag = found[0].policy.etag
    assert Counter(one.result() for one in attempts) == {etag: 1, f"ABORTED ETAG_MISMATCH {etag}": CHANGES - 1}
    assert found[1].policy == found[0].policy
    assert [score.policy_etag for score in scores] == [etag, etag]
    assert events == [[etag], [etag]]


def settings_of(directory: Path, servers: Mapping[str, str]) -> Settings:
    """Those of a service that shares the servers."""
    return load_settings({"data": directory, "grpc": "127.0.0.1:0"}, servers)


async def attempt(client: Client, tenant: str, healthy: float) -> str:
    """The etag of the change made, or what it is refused with."""
    request = score_pb2.UpdateScorePolicyRequest(
        tenant_id=tenant, policy=score_pb2.ScorePolicy(healthy_threshold=healthy), etag="default"
    )
    try:
        return (await client.score.UpdateScorePolicy(request)).policy.etag
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        return f"{refusal.code} {refusal.reason} {refusal.metadata.get('etag')}"


async def changes(client: Client, tenant: str) -> list[str]:
    """The policies among the tenant's events."""
    pulled = await client.events.PullEvents(
        events_pb2.PullEventsRequest(
            tenant_id=tenant,
            start=events_pb2.Start(position=events_pb2.POSITION_EARLIEST),
            filter=events_pb2.EventFilter(kinds=[events_pb2.EVENT_KIND_POLICY_UPDATED]),
        )
    )
    return [event.policy.etag for event in pulled.events]
