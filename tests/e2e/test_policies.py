"""A score policy that changes under load: no signal is lost, and the score moves once for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from google.protobuf.duration_pb2 import Duration

from coherence.v1 import events_pb2, ingest_pb2, score_pb2
from tests.grpc.running import a_signal

if TYPE_CHECKING:
    from coherence_grpc.client import Client

pytestmark = pytest.mark.anyio

PUBLISHERS: Final = 8
REQUESTS: Final = 150
# Each request holds one signal of either type: the mean is the same after every one of them.
BUILD, DEPLOY = 0.9, 0.3
SIGNALS: Final = 2 * PUBLISHERS * REQUESTS


async def test_a_policy_changed_under_load_loses_no_signal_and_moves_the_score_once(
    client: Client, tenant: str
) -> None:
    half = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        load = [group.create_task(publish(client, tenant, half)) for _ in range(PUBLISHERS)]
        await half.wait()
        changed = await client.score.UpdateScorePolicy(
            score_pb2.UpdateScorePolicyRequest(
                tenant_id=tenant, policy=score_pb2.ScorePolicy(type_weights={"deploy": 2}), etag="default"
            )
        )
        before_the_end = not all(publisher.done() for publisher in load)

    at_last = (await client.score.GetScore(score_pb2.GetScoreRequest(tenant_id=tenant))).score
    events = await all_events(client, tenant)

    policy = changed.policy
    assert before_the_end
    assert 1 < policy.seq <= SIGNALS
    assert (at_last.signal_count, at_last.as_of_seq) == (SIGNALS, SIGNALS + 1)
    stored = [event.signal.seq for event in events if event.HasField("signal")]
    assert sorted([*stored, policy.seq]) == list(range(1, SIGNALS + 2))
    assert [event.policy.etag for event in events if event.HasField("policy")] == [policy.etag]
    moves = [(event.score.version, event.score.score, event.score.policy_etag) for event in events_of_scores(events)]
    assert moves == [(1, 0.6, ""), (2, 0.5, policy.etag)]


async def publish(client: Client, tenant: str, half: asyncio.Event) -> None:
    """Publish requests one after the other, and say when half of them are stored."""
    for number in range(REQUESTS):
        reply = await client.ingest.PublishSignals(
            ingest_pb2.PublishSignalsRequest(
                tenant_id=tenant,
                signals=[a_signal(type="build", value=BUILD), a_signal(type="deploy", value=DEPLOY)],
            )
        )
        assert {result.outcome for result in reply.results} == {ingest_pb2.OUTCOME_STORED}
        if number == REQUESTS // 2:
            half.set()


async def all_events(client: Client, tenant: str) -> list[events_pb2.Event]:
    """What happened to the tenant, up to the second version of its score."""
    events: list[events_pb2.Event] = []
    start = events_pb2.Start(position=events_pb2.POSITION_EARLIEST)
    async with asyncio.timeout(20):
        while len(events_of_scores(events)) < 2 or len(events) < SIGNALS + 3:
            pulled = await client.events.PullEvents(
                events_pb2.PullEventsRequest(tenant_id=tenant, start=start, max_events=1000, wait=Duration(seconds=1))
            )
            events += pulled.events
            start = events_pb2.Start(cursor=pulled.next_cursor)
    return events


def events_of_scores(events: list[events_pb2.Event]) -> list[events_pb2.Event]:
    return [event for event in events if event.HasField("score")]
