"""One computation for all who ask at once, whoever of them stays."""

from __future__ import annotations

import asyncio

import pytest

from coherence_grpc.errors import StoreDown
from coherence_grpc.singleflight import SingleFlight
from tests.faults import until

pytestmark = pytest.mark.anyio


class Computing:
    """A computation that waits to be let go, and counts how often it began and was cancelled."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> int:
        self.begun += 1
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def asking(flights: SingleFlight[str, int], computing: Computing, times: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(flights.do("acme", computing)) for _ in range(times)]
    await until(lambda: computing.begun > 0)
    return tasks


async def test_a_hundred_who_ask_at_once_cause_one_computation() -> None:
    flights, computing = SingleFlight[str, int](), Computing()
    tasks = await asking(flights, computing, 100)

    computing.answer.set_result(7)

    async with asyncio.timeout(5):
        assert [await task for task in tasks] == [7] * 100
    assert computing.begun == 1


async def test_another_key_is_computed_on_its_own() -> None:
    flights, computing = SingleFlight[str, int](), Computing()
    (task,) = await asking(flights, computing, 1)

    async def other() -> int:
        return 8

    assert await flights.do("other", other) == 8
    computing.answer.set_result(7)
    assert await task == 7


async def test_who_asks_afterwards_computes_anew() -> None:
    flights, computing = SingleFlight[str, int](), Computing()
    computing.answer.set_result(7)
    await flights.do("acme", computing)

    await flights.do("acme", computing)

    assert computing.begun == 2


async def test_a_cancelled_leader_does_not_fail_the_followers() -> None:
    flights, computing = SingleFlight[str, int](), Computing()
    leader, *followers = await asking(flights, computing, 5)

    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    computing.answer.set_result(7)

    async with asyncio.timeout(5):
        assert [await task for task in followers] == [7] * 4
    assert computing.begun == 1


async def test_when_everybody_is_gone_the_computation_ends_and_the_next_begins_anew() -> None:
    flights, computing = SingleFlight[str, int](), Computing()
    tasks = await asking(flights, computing, 3)

    for task in tasks:
        task.cancel()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task
    computing.answer.set_result(7)

    assert await flights.do("acme", computing) == 7
    assert (computing.begun, computing.cancelled) == (2, 1)


async def test_an_error_reaches_everybody_and_is_not_kept() -> None:
    flights, computing = SingleFlight[str, int](), Computing()
    tasks = await asking(flights, computing, 3)

    computing.answer.set_exception(StoreDown("lost"))

    for task in tasks:
        with pytest.raises(StoreDown):
            await task
    again = Computing()
    again.answer.set_result(7)
    assert await flights.do("acme", again) == 7


async def test_an_error_that_nobody_waits_for_any_more_is_not_reported() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    flights, computing = SingleFlight[str, int](), Computing()
    (task,) = await asking(flights, computing, 1)

    task.cancel()
    computing.answer.set_exception(StoreDown("lost"))
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0)
    asyncio.get_running_loop().set_exception_handler(None)

    assert not reported
