"""What a kill -9 may cost: nothing that was acknowledged, and no process."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import grpc.aio
import pytest

from coherence.v1.events_pb2 import EVENT_KIND_SCORE_STATUS_CHANGED, SubscribeResponse
from coherence.v1.ingest_pb2 import OUTCOME_DUPLICATE, OUTCOME_STORED, PublishSignalRequest
from coherence_grpc.client import connect
from tests.builders import fresh
from tests.e2e.cutting import published_up_to
from tests.e2e.following import Follower, over_grpc
from tests.e2e.reading import (
    Named,
    all_events,
    all_signals,
    assert_log_is_whole,
    assert_score_is_exact,
    clock_us,
    named,
)
from tests.e2e.rows import a_row, batch_of, publish_of
from tests.e2e.unretried import unretried
from tests.e2e.ways import all_ways
from tests.e2e.wire import Wire, wire_to
from tests.serving import Served, eventually, serving, spoken, until
from tests.validators import Truth, check, seen_on_the_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence.v1.ingest_pb2_grpc import IngestServiceStub
    from coherence_grpc.client import Client

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TENANTS: Final = ("north", "east", "south", "west")
KILLS: Final = 20
BATCH: Final = 20
# The demand is 3 s on a quiet machine; the figure is printed, and judged by bench and faults.
READY_S: Final = 15.0

Acked = dict[tuple[str, Named], int]


@pytest.mark.timeout(300)
async def test_r3_ac_ing_04_no_acknowledged_signal_is_lost_over_twenty_kills(tmp_path: Path) -> None:
    acked: Acked = {}
    ready: list[float] = []

    for _ in range(KILLS):
        async with serving(tmp_path) as served:
            ready.append(served.ready_s)
            await _killed_under_ingest(served, acked)

    async with serving(tmp_path) as served, connect(served.grpc) as client:
        for tenant in TENANTS:
            await _assert_nothing_is_lost(client, tenant, acked)
            said = await spoken("provenance", "verify", tenant, environment={"COHERENCE_GRPC": served.grpc})
            assert said.exit_code == 0, said
    sys.stdout.write(f"{len(acked)} acknowledged, ready after {max(ready):.2f} s at most\n")
    assert max(ready) < READY_S


async def test_a_killed_service_leaves_no_process_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert served.children()

        await served.kill()

        await served.all_gone()


@pytest.mark.timeout(120)
async def test_r7_r12_a_subscriber_over_five_kills_sees_every_signal_once_and_no_older_score(
    tmp_path: Path, tenant: str
) -> None:
    follower, history = Follower(), list[SubscribeResponse]()
    async with wire_to("127.0.0.1:1") as wire, asyncio.TaskGroup() as tasks:
        connect_again = over_grpc(wire.address, tenant, history)
        following = tasks.create_task(follower.follow(connect_again, (grpc.aio.AioRpcError,)))
        for _ in range(5):
            async with serving(tmp_path, http=False) as served:
                wire.target = served.grpc
                await _killed_under_ingest(served, {}, [tenant])

        async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
            wire.target = served.grpc
            head = await assert_log_is_whole(client, tenant)
            (published,) = await eventually(lambda: published_up_to(client, tenant, head))
            changes = await all_events(client, tenant, EVENT_KIND_SCORE_STATUS_CHANGED)
            await until(lambda: follower.signals[-1:] == [head] and follower.version == published.version)
            following.cancel()

    truth = Truth(head, [event.score.version for event in changes], published.version)
    check(seen_on_the_wire(history), truth)


@pytest.mark.timeout(120)
async def test_r4_requests_without_ts_killed_before_their_reply_are_stored_once_by_a_retry(tmp_path: Path) -> None:
    requests = {tenant: [_without_ts(tenant) for _ in range(150)] for tenant in TENANTS}

    for _ in range(5):
        async with serving(tmp_path, http=False) as served:
            await _killed_before_the_replies(served, [r for rows in requests.values() for r in rows])

    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        kept = {tenant: {named(s): s.seq for s in await all_signals(client, tenant)} for tenant in TENANTS}
        for tenant, sent in requests.items():
            replies = [await client.ingest.PublishSignal(request) for request in sent]
            for reply in replies:
                assert reply.outcome == (OUTCOME_DUPLICATE if named(reply.key) in kept[tenant] else OUTCOME_STORED)
                assert kept[tenant].get(named(reply.key), reply.seq) == reply.seq
            assert len(await all_signals(client, tenant)) == len(sent)
            await assert_log_is_whole(client, tenant)
        sys.stdout.write(f"{sum(map(len, kept.values()))} of 600 were stored before a kill\n")


@pytest.mark.parametrize("number", range(5))
async def test_r4_r5_a_request_killed_between_its_commit_and_its_reply_is_one_signal(
    tmp_path: Path, tenant: str, number: int
) -> None:
    row, request_id = a_row(tenant, signal_id=None), fresh("request")
    async with serving(tmp_path) as served, _wired(served) as (far, wires), all_ways(far) as ways:
        # The connection stands before its answers begin to get lost.
        await ways[number].publish(a_row("another"))
        for wire in wires:
            wire.mute = True
        unanswered = asyncio.create_task(ways[number].publish(row, request_id))
        async with connect(served.grpc) as client:
            await eventually(lambda: all_signals(client, tenant))

        await served.kill()

        unanswered.cancel()
        await asyncio.wait([unanswered])

    async with serving(tmp_path) as served, connect(served.grpc) as client, all_ways(served) as ways:
        (before,) = await all_signals(client, tenant)
        answers = [await way.publish(row, request_id) for way in ways]
        assert {answer.seq for answer in answers if answer.seq} == {before.seq}
        assert {answer.outcome for answer in answers} <= {"DUPLICATE", "STORED or DUPLICATE"}
        assert await all_signals(client, tenant) == [before]


def _without_ts(tenant: str) -> PublishSignalRequest:
    return publish_of(a_row(tenant, signal_id=None), fresh("request"))


@asynccontextmanager
async def _wired(served: Served) -> AsyncIterator[tuple[Served, tuple[Wire, Wire]]]:
    """The service as it looks from the other end of two wires."""
    async with wire_to(served.grpc) as grpc_wire, wire_to(served.http) as http_wire:
        far = dataclasses.replace(served, grpc=grpc_wire.address, http=http_wire.address)
        yield far, (grpc_wire, http_wire)


async def _killed_under_ingest(served: Served, acked: Acked, tenants: Sequence[str] = TENANTS) -> None:
    """Publish from eight callers, note what is acknowledged, and kill the service in the midst of it."""
    async with connect(served.grpc) as client:
        now = await clock_us(client)
    async with unretried(served.grpc) as stub, asyncio.TaskGroup() as callers:
        for number in range(8):
            callers.create_task(_publish_until_it_ends(stub, tenants[number % len(tenants)], now, acked))
        await asyncio.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - any moment will do
        await served.kill()
    await served.all_gone()


async def _publish_until_it_ends(stub: IngestServiceStub, tenant: str, now: int, acked: Acked) -> None:
    with suppress(grpc.aio.AioRpcError):
        while True:
            rows = [a_row(tenant, ts=now - n, value=random.random()) for n in range(BATCH)]  # noqa: S311 - a value
            reply = await stub.PublishSignals(batch_of(rows, tenant))
            for row, result in zip(rows, reply.results, strict=True):
                acked[tenant, Named(row["source"], row["signal_id"], row["ts"])] = result.seq
            single = a_row(tenant, ts=now)
            one = await stub.PublishSignal(publish_of(single))
            acked[tenant, named(one.key)] = one.seq


async def _killed_before_the_replies(served: Served, requests: list[PublishSignalRequest]) -> None:
    """Send all of them at once and kill the service while they are under way."""

    async def send(stub: IngestServiceStub, request: PublishSignalRequest) -> None:
        with suppress(grpc.aio.AioRpcError):
            await stub.PublishSignal(request)

    async with unretried(served.grpc) as stub, asyncio.TaskGroup() as callers:
        for request in random.sample(requests, len(requests)):
            callers.create_task(send(stub, request))
        await asyncio.sleep(random.uniform(0.0, 0.25))  # noqa: S311 - any moment will do
        await served.kill()


async def _assert_nothing_is_lost(client: Client, tenant: str, acked: Acked) -> None:
    stored = {named(signal): signal.seq for signal in await all_signals(client, tenant)}
    lost = [(key, seq) for (owner, key), seq in acked.items() if owner == tenant and stored.get(key) != seq]
    assert not lost
    await assert_log_is_whole(client, tenant)
    await assert_score_is_exact(client, tenant)
