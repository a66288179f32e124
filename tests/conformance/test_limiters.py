"""RateLimiter, sentence by sentence. Rates are so low that time plays no part, but where it is what is asked about."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from coherence_grpc.adapters.local import LocalRateLimiter
from tests.backends.fixtures import REDIS, fresh_prefix, redis_url
from tests.conformance.sharing_redis import a_process, asking, keys_of
from tests.faults import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence_grpc.ports import RateLimiter

pytestmark = pytest.mark.anyio

SLOW = 0.001
"""One request in 1000 seconds; `burst_s` 3000 is three at once."""


class Making(Protocol):
    def __call__(self, rps_tenant: float | None, rps_global: float | None, *, burst_s: float) -> RateLimiter: ...


@pytest.fixture(params=["local", pytest.param("redis", marks=REDIS)])
async def making(request: pytest.FixtureRequest) -> AsyncIterator[Making]:
    """How a limiter with nothing used up is made."""
    async with AsyncExitStack() as stack:
        if request.param == "local":
            yield LocalRateLimiter
            return
        parts = await stack.enter_async_context(a_process(redis_url(), fresh_prefix()))

        def make(rps_tenant: float | None, rps_global: float | None, *, burst_s: float) -> RateLimiter:
            return parts.limiter(rps_tenant, rps_global, burst_s=burst_s, away=LocalRateLimiter(None, None))

        yield make
        assert parts.counts()["limiter"].errors == 0


async def admitted(limiter: RateLimiter, *tenants: str, cost: int = 1) -> list[bool]:
    return [await limiter.admit(tenant_id, cost=cost) == 0 for tenant_id in tenants]


async def test_so_many_pass_at_once_and_the_next_one_learns_when(making: Making) -> None:
    limiter = making(SLOW, None, burst_s=3000)

    assert await admitted(limiter, "acme", "acme", "acme", "acme") == [True, True, True, False]
    assert 990 < await limiter.admit("acme") <= 1000


async def test_each_tenant_has_its_own_share(making: Making) -> None:
    limiter = making(SLOW, None, burst_s=1000)

    assert await admitted(limiter, "acme", "umbrella", "acme", "umbrella") == [True, True, False, False]


async def test_all_tenants_together_have_theirs(making: Making) -> None:
    limiter = making(None, SLOW, burst_s=2000)

    assert await admitted(limiter, "acme", "umbrella", "initech") == [True, True, False]


async def test_what_the_tenant_is_refused_uses_nothing_of_the_whole_up(making: Making) -> None:
    limiter = making(SLOW, SLOW * 2, burst_s=1000)
    assert await admitted(limiter, *["acme"] * 10) == [True] + [False] * 9

    assert await admitted(limiter, "umbrella", "initech") == [True, False]


async def test_what_the_whole_is_refused_uses_nothing_of_the_tenant_up(making: Making) -> None:
    limiter = making(100.0, 10.0, burst_s=0.5)
    while await limiter.admit("acme") == 0:
        pass
    for _ in range(100):
        await limiter.admit("acme")

    wait_s = await limiter.admit("acme")

    # 100 requests of the tenant would have used up a second.
    assert wait_s <= 0.1


async def test_a_request_can_cost_more_than_one(making: Making) -> None:
    limiter = making(SLOW, None, burst_s=5000)
    assert await admitted(limiter, "acme", cost=3) == [True]

    assert 990 < await limiter.admit("acme", cost=3) <= 1000
    assert await admitted(limiter, "acme", "acme", "acme") == [True, True, False]


async def test_a_request_that_costs_more_than_passes_at_once_passes_when_nothing_was_used(making: Making) -> None:
    limiter = making(SLOW, None, burst_s=2000)
    assert await admitted(limiter, "acme", cost=5) == [True]

    assert 4990 < await limiter.admit("acme", cost=5) <= 5000


async def test_one_request_passes_at_any_rate(making: Making) -> None:
    limiter = making(SLOW, None, burst_s=1)

    assert await admitted(limiter, "acme", "acme") == [True, False]


async def test_after_the_wait_it_is_admitted(making: Making) -> None:
    limiter = making(20.0, None, burst_s=0.05)
    assert await admitted(limiter, "acme") == [True]

    wait_s = await limiter.admit("acme")

    assert 0 < wait_s <= 0.05
    await asyncio.sleep(wait_s)
    assert await eventually(lambda: limiter.admit("acme"), lambda wait: wait == 0, timeout_s=0.05) == 0


async def test_without_a_rate_everything_passes(making: Making) -> None:
    limiter = making(None, None, burst_s=1)

    assert all(await admitted(limiter, *["acme"] * 100))


@pytest.mark.parametrize("rate", [3.0, 7.0, 1000 / 3])
async def test_the_last_digits_of_a_rate_cost_no_request(making: Making, rate: float) -> None:
    limiter = making(None, rate / 1e6, burst_s=12e6 / rate)

    assert await admitted(limiter, *["acme"] * 13) == [True] * 12 + [False]


async def test_ac_cost_02_all_processes_count_together(redis_url: str) -> None:
    prefix = fresh_prefix()
    away = LocalRateLimiter(None, None)
    async with a_process(redis_url, prefix) as one, a_process(redis_url, prefix) as other:
        limiters = [parts.limiter(SLOW, None, burst_s=10_000, away=away) for parts in (one, other)]

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(limiters[number % 2].admit("acme")) for number in range(30)]

        assert [task.result() for task in asked].count(0) == 10
        counts = [parts.counts()["limiter"] for parts in (one, other)]
        assert sum(count.hits for count in counts) == 10
        assert sum(count.misses for count in counts) == 20


async def test_a_damaged_count_begins_anew(redis_url: str) -> None:
    prefix = fresh_prefix()
    async with a_process(redis_url, prefix) as parts, asking(redis_url) as ask:
        limiter = parts.limiter(SLOW, None, away=LocalRateLimiter(None, None))
        assert await admitted(limiter, "acme", "acme") == [True, False]
        (name,) = await keys_of(ask, prefix)

        await ask("SET", name, "damaged")

        assert await admitted(limiter, "acme", "acme") == [True, False]
        assert parts.counts()["limiter"].errors == 0


async def test_what_was_used_stands_under_the_prefix_only_until_it_is_made_up_for(redis_url: str) -> None:
    prefix = fresh_prefix()
    async with a_process(redis_url, prefix) as parts, asking(redis_url) as ask:
        await parts.limiter(0.1, 0.01, away=LocalRateLimiter(None, None)).admit("acme")

        left_ms = sorted([await ask("PTTL", name) for name in await keys_of(ask, prefix)])

    assert len(left_ms) == 2
    assert 9_000 < left_ms[0] <= 10_002
    assert 99_000 < left_ms[1] <= 100_002
