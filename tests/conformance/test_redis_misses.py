"""Many who miss one row in Redis at the same time: one computation serves them all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.materialize.published import COMPUTING
from coherence_grpc.model import ScoreSource
from tests.backends.fixtures import REDIS, fresh_prefix
from tests.builders import NOON, TENANT, an_item
from tests.conformance.sharing_redis import a_process
from tests.faults import eventually, until
from tests.unit.sharing import open_shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.adapters.redis import RedisParts
    from coherence_grpc.model import Score
    from tests.unit.sharing import Process, Shared

pytestmark = [pytest.mark.anyio, REDIS]

READERS = 100


@pytest.fixture
async def parts(redis_url: str) -> AsyncIterator[RedisParts]:
    async with a_process(redis_url, fresh_prefix()) as parts:
        yield parts


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    async with open_shared(tmp_path) as opened:
        yield opened


async def read(process: Process, tenant_id: str = TENANT) -> Score:
    score, _ = await process.scores.get(tenant_id, timeout_s=10)
    return score


async def test_ac_api_08_of_100_who_miss_a_row_in_redis_one_computes(shared: Shared, parts: RedisParts) -> None:
    await shared.store(an_item(value=0.4))
    process = shared.process(cache=parts.cache)
    shared.signals.hold("totals")
    reading = [asyncio.create_task(read(process)) for _ in range(READERS)]
    await until(lambda: parts.counts()["cache"].misses == READERS)
    await until(lambda: shared.signals.calls["totals"] == 1)
    shared.signals.release()

    scores = [await one for one in reading]

    assert {score.score_ppm for score in scores} == {400_000}
    assert process.materializer.computations == shared.signals.calls["totals"] == 1


async def test_ac_api_08_100_who_miss_four_rows_in_redis_compute_four(shared: Shared, parts: RedisParts) -> None:
    tenants = [f"t{number}" for number in range(COMPUTING)]
    for tenant_id in tenants:
        await shared.store(an_item(value=0.4), tenant_id=tenant_id)
    process = shared.process(cache=parts.cache)
    shared.signals.hold("totals")
    reading = [asyncio.create_task(read(process, tenants[n % len(tenants)])) for n in range(READERS)]
    await until(lambda: parts.counts()["cache"].misses == READERS)
    await until(lambda: shared.signals.calls["totals"] == len(tenants))
    shared.signals.release()

    assert {(await one).score_ppm for one in reading} == {400_000}
    assert process.materializer.computations == len(tenants)


async def test_ac_api_08_what_is_cached_is_read_by_all_and_nothing_is_computed(
    shared: Shared, parts: RedisParts
) -> None:
    async with shared.running(TENANT):
        await shared.store(an_item(value=0.4, ts=NOON))
        row = await eventually(shared.row, lambda row: row is not None)
    assert row is not None
    await parts.cache.put([row])
    process = shared.process(cache=parts.cache)

    scores = [await read(process) for _ in range(READERS)]

    assert {(score.score_ppm, score.source) for score in scores} == {(400_000, ScoreSource.CACHE)}
    assert (parts.counts()["cache"].hits, parts.counts()["cache"].misses) == (READERS, 0)
    assert process.materializer.computations == 0
