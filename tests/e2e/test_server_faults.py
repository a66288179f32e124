"""What Neo4j, PostgreSQL and Redis may cost when they are killed, frozen, slow or silent: time, and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from itertools import pairwise
from signal import SIGCONT, SIGSTOP
from time import monotonic
from typing import TYPE_CHECKING, Final

import pytest
from redis.asyncio import Redis

from coherence_grpc.client import connect
from tests.backends.fixtures import NEO4J, POSTGRES, REDIS, an_own_server
from tests.e2e.bearing import (
    TENANTS,
    assert_nothing_is_lost_or_twice,
    bearing,
    descriptors,
    descriptors_fall_to,
    followed,
    p99,
    settled,
    tell,
)
from tests.e2e.on_servers import fresh_servers
from tests.e2e.reading import assert_score_is_exact
from tests.e2e.wire import wire_to
from tests.faultproxy import behind_proxies
from tests.serving import serving, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.bearing import Bearing
    from tests.faultproxy import FaultProxy

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(200), POSTGRES, REDIS, *NEO4J]

KILLS: Final = 2
FLAPS: Final = 2
AWAY_S: Final = 1.5
# Longer than it takes to notice.
SILENT_S: Final = 2.0
# Several times what leases last without renewal.
LEASES_S: Final = 20.0
# A score that is behind says so after two seconds, and a call may take its time here.
SAID_S: Final = 5.0
# Longer than a lease lasts.
STOPPED_S: Final = 5.0
# The limit of the servers on a write transaction, with the time until they look.
TRANSACTION_S: Final = 5.0
# The demand is 1 s on a quiet machine; the figure is printed, and judged by the long runs.
REFUSED_WITHIN_S: Final = 3.0


async def test_r3_nothing_acknowledged_is_lost_or_twice_over_kills_of_the_service(tmp_path: Path) -> None:
    async with fresh_servers() as servers, wire_to("127.0.0.1:1") as wire, bearing(wire.address) as going:
        for _ in range(KILLS):
            async with serving(tmp_path, environment=servers, http=False) as served:
                wire.target = served.grpc
                await going.acknowledges_again(monotonic())
                await asyncio.sleep(random.uniform(0.0, 0.3))  # noqa: S311 - any moment will do
                await served.kill()

        async with serving(tmp_path, environment=servers, http=False) as served:
            wire.target = served.grpc
            await going.finish()
            await assert_nothing_is_lost_or_twice(served.grpc, going.acked)

    tell(f"{len(going.acked)} acknowledged over {KILLS} kills, {len(going.refused)} calls lost")


async def test_r10_a_killed_neo4j_costs_refusals_that_say_when_to_come_back(tmp_path: Path) -> None:
    with an_own_server("neo4j") as neo4j:
        async with (
            fresh_servers(neo4j) as servers,
            serving(tmp_path, environment=servers, http=False) as served,
            bearing(served.grpc, readers=[served.grpc]) as going,
            followed(served.grpc) as check_events,
        ):
            await settled(served.grpc, going)
            before = descriptors(served.process.pid)
            await asyncio.to_thread(neo4j.kill)
            away = monotonic()
            await asyncio.sleep(AWAY_S)
            back = monotonic()
            await asyncio.to_thread(neo4j.start_again)
            await going.acknowledges_again(monotonic())
            await going.finish()

            await assert_nothing_is_lost_or_twice(served.grpc, going.acked)
            await check_events()
            await descriptors_fall_to(served.process.pid, before)

    refused, reads = going.refused_between(away, back), going.read_between(away, back)
    tell(f"{len(refused)} refused, p99 {p99([one.seconds for one in refused]):.3f} s; {len(reads)} reads")
    assert refused
    assert reads
    assert {(one.code, one.retry_after_s is not None, one.pushback) for one in refused} == {("UNAVAILABLE", True, True)}
    assert p99([one.seconds for one in refused]) < REFUSED_WITHIN_S
    assert {one.code for one in reads} == {""}


async def test_r9_a_killed_postgresql_holds_up_neither_signals_nor_reads(tmp_path: Path) -> None:
    with an_own_server("postgres") as postgres:
        async with (
            fresh_servers(postgres) as servers,
            serving(tmp_path, environment=servers, http=False) as served,
            bearing(served.grpc, readers=[served.grpc]) as going,
            followed(served.grpc) as check_events,
        ):
            await settled(served.grpc, going)
            before = descriptors(served.process.pid)
            await asyncio.to_thread(postgres.kill)
            away = monotonic()
            # Until its leases run out the service answers from memory.
            await until(lambda: any(one.stale for one in going.reads), within_s=LEASES_S)
            back = monotonic()
            await asyncio.to_thread(postgres.start_again)
            await going.acknowledges_again(monotonic())
            await going.finish()

            await assert_nothing_is_lost_or_twice(served.grpc, going.acked)
            await check_events()
            await descriptors_fall_to(served.process.pid, before)

    acked = sum(away < one.at < back for one in going.acks)
    reads = going.read_between(away, back)
    tell(f"{acked} requests acknowledged without PostgreSQL, {len(reads)} reads")
    assert acked
    assert not going.refused
    assert reads
    assert {one.code for one in going.reads} == {""}
    assert not going.untold(grace_s=SAID_S)


async def test_r8_a_redis_that_is_killed_emptied_or_frozen_holds_up_nothing(tmp_path: Path) -> None:
    with an_own_server("redis") as redis:
        async with (
            fresh_servers(redis) as servers,
            serving(tmp_path, environment=servers, http=False) as served,
            bearing(served.grpc, readers=[served.grpc]) as going,
            followed(served.grpc) as check_events,
        ):
            await settled(served.grpc, going)
            before = descriptors(served.process.pid)
            async with Redis.from_url(redis.variables["REDIS_URL"]) as client:
                await client.flushall()
            await going.acknowledges_again(monotonic())
            redis.freeze()
            await going.acknowledges_again(monotonic(), times=40)
            redis.thaw()
            await asyncio.to_thread(redis.kill)
            await going.acknowledges_again(monotonic(), times=40)
            await asyncio.to_thread(redis.start_again)
            await going.acknowledges_again(monotonic())
            await going.finish()

            await assert_nothing_is_lost_or_twice(served.grpc, going.acked)
            await check_events()
            await descriptors_fall_to(served.process.pid, before)

    tell(f"{len(going.acked)} acknowledged, {len(going.reads)} reads, {len(going.refused)} refused")
    assert not going.refused
    assert {one.code for one in going.reads} == {""}


async def test_r9_r10_a_server_half_a_second_away_or_silent_ends_no_call_late(tmp_path: Path) -> None:
    async with (
        fresh_servers() as servers,
        behind_proxies(servers, "POSTGRES_URI", "NEO4J_URI") as (proxied, (postgres, neo4j)),
        serving(tmp_path, environment=proxied, http=False) as served,
        bearing(served.grpc, readers=[served.grpc]) as going,
        followed(served.grpc) as check_events,
    ):
        await settled(served.grpc, going)
        before = descriptors(served.process.pid)
        without_scores = await slow_then_silent(postgres, going)
        acknowledged, refused = len(going.acks), len(going.refused)
        without_signals = await slow_then_silent(neo4j, going)
        await going.finish()

        await assert_nothing_is_lost_or_twice(served.grpc, going.acked)
        await check_events()
        await descriptors_fall_to(served.process.pid, before)

    late = [one.seconds for one in going.refused_between(*without_signals)]
    slow = [one.seconds for silent in (without_scores, without_signals) for one in going.read_between(*silent)]
    tell(
        f"{acknowledged} acknowledged without PostgreSQL; {len(late)} refused without Neo4j, p99 {p99(late):.3f} s; "
        f"{len(slow)} reads, p99 {p99(slow):.3f} s; {Counter((one.code, one.reason) for one in going.refused)}"
    )
    assert not refused
    assert late
    assert p99(late) < REFUSED_WITHIN_S
    assert {one.code for one in going.refused} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert all(one.retry_after_s is not None and one.pushback for one in going.refused)
    assert {one.code for one in going.reads} == {""}


async def test_r11_servers_that_come_and_go_leave_nothing_open(tmp_path: Path) -> None:
    async with (
        fresh_servers() as servers,
        behind_proxies(servers, "NEO4J_URI", "POSTGRES_URI", "REDIS_URL") as (proxied, proxies),
        serving(tmp_path, environment=proxied, http=False) as served,
        bearing(served.grpc, readers=[served.grpc]) as going,
        followed(served.grpc) as check_events,
    ):
        await settled(served.grpc, going)
        before = descriptors(served.process.pid)
        for _ in range(FLAPS):
            for proxy in proxies:
                proxy.refuse()
            await asyncio.sleep(1)
            for proxy in proxies:
                proxy.heal()
            await asyncio.sleep(1)
        await going.acknowledges_again(monotonic())
        await going.finish()

        await assert_nothing_is_lost_or_twice(served.grpc, going.acked)
        await check_events()
        await descriptors_fall_to(served.process.pid, before)
        assert {one.code for one in going.refused} <= {"UNAVAILABLE"}

    tell(f"{len(going.acked)} acknowledged, {len(going.refused)} refused over {FLAPS} absences")


async def test_r7_a_holder_that_is_stopped_and_goes_on_changes_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with (
        fresh_servers() as servers,
        serving(tmp_path / "a", environment=servers, http=False) as one,
        serving(tmp_path / "b", environment=servers, http=False) as two,
        bearing(two.grpc, readers=[two.grpc]) as going,
        followed(two.grpc) as check_events,
    ):
        await settled(two.grpc, going)
        os.kill(one.process.pid, SIGSTOP)
        try:
            stopped = monotonic()
            await asyncio.sleep(STOPPED_S)
            late = monotonic()
        finally:
            os.kill(one.process.pid, SIGCONT)
        await going.acknowledges_again(monotonic())
        await going.finish()

        await assert_nothing_is_lost_or_twice(two.grpc, going.acked)
        async with connect(one.grpc) as client:
            for tenant in TENANTS:
                await assert_score_is_exact(client, tenant)
        await check_events()

    times = [stopped, *(one.at for one in going.acks if stopped < one.at < late), late]
    longest = max(after - before for before, after in pairwise(times))
    tell(f"{len(times) - 2} requests acknowledged beside a stopped holder, the longest pause {longest:.3f} s")
    assert longest < TRANSACTION_S
    assert not going.refused
    assert {read.code for read in going.reads} == {""}


async def slow_then_silent(proxy: FaultProxy, going: Bearing) -> tuple[float, float]:
    """Have the server answer late, then not at all; from when to when it was silent."""
    proxy.delay(0.5)
    await asyncio.sleep(AWAY_S)
    proxy.heal()
    await going.acknowledges_again(monotonic())
    proxy.black_hole()
    silent = monotonic()
    await asyncio.sleep(SILENT_S)
    heard = monotonic()
    proxy.heal()
    await going.acknowledges_again(monotonic())
    return silent, heard
