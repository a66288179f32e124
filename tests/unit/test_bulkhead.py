"""How many a bulkhead lets in, and who waits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from coherence_grpc.breaker import Bulkhead
from coherence_grpc.errors import Concurrency

pytestmark = pytest.mark.anyio


async def test_a_bulkhead_lets_so_many_in_and_refuses_the_rest() -> None:
    bulkhead = Bulkhead("graph", 2)
    async with AsyncExitStack() as inside:
        for _ in range(2):
            await inside.enter_async_context(bulkhead.place(timeout_s=5))

        with pytest.raises(Concurrency, match="graph is busy with 2 calls") as refused:
            await inside.enter_async_context(bulkhead.place(timeout_s=5))

        assert refused.value.retry_after_s == 0.25
    async with bulkhead.place(timeout_s=5):
        assert bulkhead.busy == 1


async def test_a_bulkheads_queue_is_served_in_order_and_never_longer() -> None:
    bulkhead = Bulkhead("graph", 1, queue=2)
    served: list[int] = []

    async def visit(number: int) -> None:
        async with bulkhead.place(timeout_s=5):
            assert bulkhead.busy == 1
            served.append(number)
            await asyncio.sleep(0)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        visits = [group.create_task(visit(number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Concurrency):
            await visit(3)

    assert all(task.done() for task in visits)
    assert served == [0, 1, 2]
    assert bulkhead.busy == 0


async def test_a_bulkhead_keeps_nobody_waiting_beyond_their_time() -> None:
    bulkhead = Bulkhead("graph", 1, queue=1)

    async with bulkhead.place(timeout_s=5), asyncio.timeout(5):
        for _ in range(2):
            with pytest.raises(Concurrency):
                await bulkhead.place(timeout_s=0.001).__aenter__()

    assert bulkhead.busy == 0


@pytest.mark.parametrize("order", ["cancel first", "leave first"])
async def test_a_place_handed_to_a_cancelled_caller_is_not_lost(order: str) -> None:
    bulkhead = Bulkhead("graph", 1, queue=2)
    inside = bulkhead.place(timeout_s=5)
    await inside.__aenter__()
    waiting = asyncio.create_task(bulkhead.place(timeout_s=5).__aenter__())
    await asyncio.sleep(0)

    if order == "cancel first":
        waiting.cancel()
        await inside.__aexit__(None, None, None)
    else:
        await inside.__aexit__(None, None, None)
        waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bulkhead.busy == 0
    async with asyncio.timeout(5), bulkhead.place(timeout_s=5):
        assert bulkhead.busy == 1
