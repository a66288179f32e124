"""Two services on the same servers: stopped, killed, with clocks that differ, asked for the same at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import cycle, islice
from time import monotonic
from typing import TYPE_CHECKING, Final

import grpc.aio
import pytest

from coherence.v1.ingest_pb2 import OUTCOME_DUPLICATE, OUTCOME_STORED, PublishSignalRequest, PublishSignalResponse
from coherence_grpc.client import connect
from coherence_grpc.failpoints import VARIABLE
from tests.backends.fixtures import NEO4J, POSTGRES, REDIS, an_own_server
from tests.builders import fresh
from tests.e2e.bearing import TENANTS, assert_nothing_is_lost_or_twice, bearing, settled, tell
from tests.e2e.on_servers import fresh_servers
from tests.e2e.pairs import audience, pair, steps_back, stopped_inside
from tests.e2e.reading import all_events, all_signals, assert_log_is_whole, clock_us
from tests.e2e.rows import a_row, publish_of
from tests.e2e.unretried import unretried
from tests.e2e.wire import wire_to
from tests.serving import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from coherence.v1.ingest_pb2_grpc import IngestServiceStub

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(200), POSTGRES, REDIS, *NEO4J]

# Longer than a lease lasts. Neo4j ends the stopped one's transaction after 2 s and looks every two; on a busy machine
# the other one needs its time as well.
STOPPED_S: Final = 8.0
CALLERS: Final = 50
KEYS: Final = 4
LOST: Final = 20
LISTENERS: Final = 6
SOME: Final = 60


async def test_r7_a_holder_stopped_inside_a_write_changes_nothing_and_holds_up_the_other_not_for_long(
    tmp_path: Path,
) -> None:
    async with fresh_servers() as servers:
        beside = await stopped_inside("append.written", tmp_path, servers, stopped_s=STOPPED_S)

    tell(f"{beside}")
    assert beside.held
    assert beside.acknowledged
    assert {said.partition(" ")[0] for said in beside.refused} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert not beside.unread


async def test_r12_r22_over_kills_and_wrong_clocks_subscribers_see_everything_once_and_no_score_goes_back(
    tmp_path: Path,
) -> None:
    # Its tenants go to the other one, whose clock is ten seconds behind the rows.
    ahead = {VARIABLE: "clock=+10"}
    with an_own_server("redis") as redis:
        async with (
            fresh_servers(redis) as servers,
            pair(tmp_path, servers, first=ahead) as (one, two),
            wire_to(one.grpc) as first,
            wire_to(two.grpc) as second,
            audience(TENANTS[0], list(islice(cycle((first.address, second.address)), LISTENERS))) as heard,
            bearing(first.address) as going,
            bearing(second.address) as beside,
        ):
            await settled(two.grpc, going)
            await asyncio.to_thread(redis.kill)
            await beside.acknowledges_again(monotonic(), times=SOME)
            first.target = two.grpc
            await one.kill()
            await going.acknowledges_again(monotonic(), times=SOME)
            await asyncio.to_thread(redis.start_again)
            await beside.acknowledges_again(monotonic())
            await going.finish()
            await beside.finish()

            await assert_nothing_is_lost_or_twice(two.grpc, going.acked | beside.acked)
            truth = await heard.check(two.grpc)
            assert await steps_back(servers) == []

    assert {one.code for one in (*going.refused, *beside.refused)} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    tell(f"{LISTENERS} subscribers saw {truth.upto} signals and {len(truth.status_changes)} status changes")


async def test_r5_r6_two_services_store_a_key_once_and_repeat_each_other_s_replies(tmp_path: Path) -> None:
    tenant = fresh("tenant")
    async with (
        fresh_servers() as servers,
        pair(tmp_path, servers) as (one, two),
        wire_to(one.grpc) as wire,
        unretried(one.grpc) as here,
        unretried(two.grpc) as there,
        unretried(wire.address) as lost,
        connect(two.grpc) as client,
    ):
        now = await clock_us(client)
        stubs = list(islice(cycle((here, there)), CALLERS))
        for _ in range(KEYS):
            replies = await _at_once(stubs, publish_of(a_row(tenant, ts=now)))
            assert Counter(reply.outcome for reply in replies) == {OUTCOME_STORED: 1, OUTCOME_DUPLICATE: CALLERS - 1}
            assert len({(reply.seq, reply.provenance_id) for reply in replies}) == 1

        requests = [publish_of(a_row(tenant, signal_id=None), fresh("request")) for _ in range(LOST)]
        # The connection stands before its answers begin to get lost.
        await lost.PublishSignal(publish_of(a_row("another")))
        wire.mute = True
        async with asyncio.TaskGroup() as callers:
            unanswered = [callers.create_task(_unavailable(lost, request)) for request in requests]
            stored = await eventually(lambda: all_signals(client, tenant), lambda found: len(found) == KEYS + LOST)
            wire.cut()
        again = [await there.PublishSignal(request, timeout=10.0) for request in requests]

        assert all(task.result() for task in unanswered)
        assert {reply.outcome for reply in again} == {OUTCOME_DUPLICATE}
        assert {reply.seq for reply in again} <= {signal.seq for signal in stored}
        assert await assert_log_is_whole(client, tenant) == KEYS + LOST
        assert len(await all_events(client, tenant)) == KEYS + LOST


async def _at_once(stubs: Sequence[IngestServiceStub], request: PublishSignalRequest) -> list[PublishSignalResponse]:
    async def send(stub: IngestServiceStub) -> PublishSignalResponse:
        return await stub.PublishSignal(request, timeout=10.0)

    async with asyncio.TaskGroup() as callers:
        tasks = [callers.create_task(send(stub)) for stub in stubs]
    return [task.result() for task in tasks]


async def _unavailable(stub: IngestServiceStub, request: PublishSignalRequest) -> bool:
    """The call is never answered: its connection breaks."""
    try:
        await stub.PublishSignal(request, timeout=30.0)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False
