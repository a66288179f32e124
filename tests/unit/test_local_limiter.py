"""The limiter of one process, with time in the test's hands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coherence_grpc.adapters.local import FEW_TENANTS, LocalRateLimiter

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio

rates = st.floats(0.1, 1000)


class Time:
    """A clock that stands still until it is advanced."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    rps=rates,
    burst_s=st.floats(0, 10),
    requests=st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5)), min_size=1, max_size=50),
)
def test_never_more_than_the_burst_and_what_time_made_up_for(
    rps: float, burst_s: float, requests: Sequence[tuple[float, int]]
) -> None:
    time = Time()
    limiter = LocalRateLimiter(None, rps, burst_s=burst_s, monotonic=time)
    used: list[tuple[float, int]] = []

    async def ask() -> None:
        for pause_s, cost in requests:
            time.now += pause_s
            if await limiter.admit("acme", cost=cost) == 0:
                used.append((time.now, cost))

    asyncio.run(ask())

    assert used
    at_once = max(1, rps * burst_s, *(cost for _, cost in used))
    for first, (begun, _) in enumerate(used):
        for last in range(first, len(used)):
            spent = sum(cost for _, cost in used[first : last + 1])
            assert spent <= at_once + rps * (used[last][0] - begun) + 1e-3


@given(rps=rates, burst_s=st.floats(0, 10), costs=st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_who_waits_as_told_is_admitted(rps: float, burst_s: float, costs: Sequence[int]) -> None:
    time = Time()
    limiter = LocalRateLimiter(rps, rps * 2, burst_s=burst_s, monotonic=time)

    async def ask() -> list[float]:
        after: list[float] = []
        for cost in costs:
            wait_s = await limiter.admit("acme", cost=cost)
            if wait_s:
                time.now += wait_s
                after.append(await limiter.admit("acme", cost=cost))
        return after

    assert not any(asyncio.run(ask()))


async def test_who_waits_less_is_not() -> None:
    time = Time()
    limiter = LocalRateLimiter(1.0, None, burst_s=1, monotonic=time)
    await limiter.admit("acme")

    time.now += await limiter.admit("acme") - 0.001

    assert await limiter.admit("acme") == pytest.approx(0.001)


async def test_only_tenants_that_are_not_even_are_remembered_for_long() -> None:
    time = Time()
    limiter = LocalRateLimiter(1.0, None, burst_s=1, monotonic=time)
    for number in range(10 * FEW_TENANTS):
        time.now += 0.01
        await limiter.admit(f"tenant-{number}")

    assert len(limiter._even_at) <= FEW_TENANTS + 1
    assert await limiter.admit(f"tenant-{10 * FEW_TENANTS - 1}") > 0
    assert await limiter.admit("tenant-0") == 0
