"""What is read is true at the moment of the read: own writes, the passing of time, a stopped materialiser."""

from __future__ import annotations

import asyncio
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final

import pytest

from coherence.v1.meta_pb2 import GetServerInfoRequest
from coherence.v1.score_pb2 import (
    SCORE_SOURCE_COMPUTED,
    STATUS_CRITICAL,
    STATUS_HEALTHY,
    STATUS_UNKNOWN,
    ListScoresRequest,
    Score,
    WatchScoreRequest,
)
from coherence_grpc.client import Client, connect
from tests.e2e.reading import (
    WINDOW_US,
    assert_score_is_exact,
    clock_us,
    micros,
    score_of,
)
from tests.e2e.rows import a_row, batch_of, input_of, publish_of
from tests.e2e.ways import all_ways, browser, mutated, operate
from tests.serving import Served, eventually, serving, spoken

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.anyio

MINUTE_US: Final = 60 * 10**6
START: Final = "2013-02-08T00:00:00Z"
# Ten domain minutes take a second.
FAST: Final = ("--clock-start", START, "--clock-speed", "600")


async def test_a_publish_is_visible_to_the_next_read_on_grpc(client: Client, tenant: str) -> None:
    for count in range(1, 101):
        reply = await client.ingest.PublishSignal(publish_of(a_row(tenant)))

        score = await score_of(client, tenant)

        assert score.signal_count == count
        assert score.as_of_seq == reply.seq


async def test_a_publish_is_visible_to_the_next_read_while_others_publish_too(client: Client, tenant: str) -> None:
    async def read_what_was_written() -> None:
        for _ in range(20):
            reply = await client.ingest.PublishSignal(publish_of(a_row(tenant)))
            assert (await score_of(client, tenant)).as_of_seq >= reply.seq

    async with asyncio.TaskGroup() as callers:
        for _ in range(20):
            callers.create_task(read_what_was_written())

    assert (await assert_score_is_exact(client, tenant)).signal_count == 400


async def test_a_publish_is_visible_to_the_next_read_on_graphql(service: Served, tenant: str) -> None:
    async with browser(service) as http:
        for count in range(1, 51):
            published = mutated(await operate(http, "pq_publish_signal_v1", {"input": input_of(a_row(tenant))}))
            assert not published.code

            assert (await _read_by_graphql(http, tenant))["signalCount"] == count


async def test_a_publish_over_one_way_is_visible_to_the_next_read_over_another(
    service: Served, client: Client, tenant: str
) -> None:
    async with all_ways(service) as ways, browser(service) as http:
        for count, way in enumerate(islice(cycle(ways), 50), start=1):
            assert not (await way.publish(a_row(tenant))).code

            assert (await _read_by_graphql(http, tenant))["signalCount"] == count
            assert (await score_of(client, tenant)).signal_count == count


@pytest.mark.slow
async def test_a_score_changes_when_a_signal_ages_out_though_nothing_arrives(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path, *FAST, http=False) as served, connect(served.grpc) as client:
        now = await clock_us(client)
        leaving = a_row(tenant, value=0.0, weight=3.0, ts=now - WINDOW_US + 20 * MINUTE_US)
        await client.ingest.PublishSignals(batch_of([leaving, a_row(tenant, value=1.0, ts=now)], tenant))
        before = await score_of(client, tenant)

        pushed = await _watched_until(client, tenant, STATUS_HEALTHY)

        assert (before.score, before.status) == (0.25, STATUS_CRITICAL)
        assert micros(before.valid_until_time) == leaving["ts"] + WINDOW_US + 1
        assert (pushed.score, pushed.signal_count) == (1.0, 1)
        assert micros(pushed.window_end_time) >= micros(before.valid_until_time)
        await assert_score_is_exact(client, tenant)


@pytest.mark.slow
async def test_the_last_signal_to_age_out_leaves_no_score_behind(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path, *FAST, http=False) as served, connect(served.grpc) as client:
        leaving = a_row(tenant, value=1.0, ts=await clock_us(client) - WINDOW_US + 10 * MINUTE_US)
        await client.ingest.PublishSignal(publish_of(leaving))

        pushed = await _watched_until(client, tenant, STATUS_UNKNOWN)

        assert not pushed.HasField("score")
        assert pushed.signal_count == 0
        assert (await assert_score_is_exact(client, tenant)).status == STATUS_UNKNOWN


@pytest.mark.slow
async def test_a_signal_dated_ahead_counts_when_its_time_comes(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path, *FAST, http=False) as served, connect(served.grpc) as client:
        now = await clock_us(client)
        due = now + 4 * MINUTE_US
        await client.ingest.PublishSignals(
            batch_of([a_row(tenant, value=1.0, ts=now), a_row(tenant, value=0.0, weight=9.0, ts=due)], tenant)
        )
        before = await score_of(client, tenant)

        pushed = await _watched_until(client, tenant, STATUS_CRITICAL)

        assert (before.score, before.signal_count) == (1.0, 1)
        assert micros(before.valid_until_time) == due
        assert (pushed.score, pushed.signal_count) == (0.1, 2)
        assert micros(pushed.window_end_time) >= due


@pytest.mark.slow
async def test_with_the_materialiser_off_no_read_shows_the_old_row_as_fresh(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path, *FAST) as served, connect(served.grpc) as client, browser(served) as http:
        leaving = a_row(tenant, value=0.0, ts=await clock_us(client) - WINDOW_US + 30 * MINUTE_US)
        await client.ingest.PublishSignal(publish_of(leaving))
        old = await _watched_until(client, tenant, STATUS_CRITICAL)
        await _turn(client, tmp_path, "off")
        await client.ingest.PublishSignal(publish_of(a_row(tenant, value=1.0)))
        await _clock_past(client, micros(old.valid_until_time))

        read = await score_of(client, tenant)
        listed = await _listed(client)
        read_by_graphql = await _read_by_graphql(http, tenant)
        listed_by_graphql = (await operate(http, "pq_portfolio_v1", {}))["data"]["coherencePortfolio"]["nodes"]

        assert (read.source, read.score, read.signal_count) == (SCORE_SOURCE_COMPUTED, 1.0, 1)
        assert [(score.tenant_id, score.stale) for score in listed] == [(tenant, True)]
        assert (read_by_graphql["source"], read_by_graphql["score"]) == ("COMPUTED", 1.0)
        assert [(score["tenantId"], score["stale"]) for score in listed_by_graphql] == [(tenant, True)]
        await assert_score_is_exact(client, tenant)


@pytest.mark.slow
async def test_the_materialiser_catches_up_when_it_is_turned_on(tmp_path: Path, tenant: str) -> None:
    tmp_path.joinpath("runtime.json").write_text('{"switches": {"materialiser": "off"}}')
    async with serving(tmp_path, *FAST, http=False) as served, connect(served.grpc) as client:
        await client.ingest.PublishSignal(publish_of(a_row(tenant, value=1.0)))
        before = await _listed(client)

        await _turn(client, tmp_path, "on")

        listed = await eventually(lambda: _listed(client))
        assert not before
        assert [(score.score, score.stale) for score in listed] == [(1.0, False)]


async def _read_by_graphql(http: httpx.AsyncClient, tenant: str) -> Any:  # noqa: ANN401 - JSON
    answer = await operate(http, "pq_tenant_coherence_v2", {"tenantId": tenant})
    return answer["data"]["tenantCoherence"]


async def _watched_until(client: Client, tenant: str, status: int) -> Score:
    """The first score with the status that WatchScore sends."""
    async with asyncio.timeout(15):
        async for frame in client.score.WatchScore(WatchScoreRequest(tenant_ids=[tenant])):
            if frame.score.status == status:
                return frame.score
    raise AssertionError


async def _turn(client: Client, directory: Path, value: str) -> None:
    """Switch the materialiser, and wait until the server has noticed."""
    done = await spoken("switch", "materialiser", value, environment={"COHERENCE_DATA": str(directory)})
    assert done.exit_code == 0, done.stderr
    await eventually(lambda: _materialiser(client), lambda now: now == value)


async def _materialiser(client: Client) -> str:
    switches = (await client.meta.GetServerInfo(GetServerInfoRequest())).switches
    return {switch.name: switch.value for switch in switches}["materialiser"]


async def _listed(client: Client) -> Sequence[Score]:
    return (await client.score.ListScores(ListScoresRequest())).scores


async def _clock_past(client: Client, instant: int) -> None:
    await eventually(lambda: clock_us(client), lambda now: now > instant)
