"""How long a server may take for somebody whose own time is short."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from coherence_grpc.deadline import Limit, impose, unhurried, within
from coherence_grpc.errors import OutOfTime, StoreDown, StoreTimeout
from coherence_grpc.owning import Owner
from coherence_grpc.singleflight import SingleFlight

pytestmark = pytest.mark.anyio
LIMIT_S: Final = 2.0


async def limit_with(left_s: float) -> Limit:
    """In a task of its own, as every call is."""

    async def call() -> Limit:
        impose(asyncio.get_running_loop().time() + left_s)
        return within(LIMIT_S)

    return await asyncio.create_task(call())


async def test_nobody_waits_longer_than_their_call_lasts() -> None:
    alone, plenty, little, none = within(LIMIT_S), await limit_with(9), await limit_with(0.5), await limit_with(-1)

    assert (alone, plenty) == (Limit(LIMIT_S, hurried=False), Limit(LIMIT_S, hurried=False))
    assert little.hurried
    assert 0 < little.seconds <= 0.5
    # Nought would mean no limit to a driver.
    assert none == Limit(0.001, hurried=True)


def test_who_runs_out_of_time_says_nothing_of_the_store() -> None:
    late, away = StoreTimeout("late"), StoreDown("away")

    with pytest.raises(OutOfTime), Limit(0.5, hurried=True).kept():
        raise late
    with pytest.raises(StoreTimeout) as told, Limit(0.5, hurried=False).kept():
        raise late
    with pytest.raises(StoreDown), Limit(0.5, hurried=True).kept():
        raise away

    assert told.value is late


async def test_what_others_wait_for_or_is_to_be_kept_has_its_own_time() -> None:
    async def seen() -> Limit:
        return within(LIMIT_S)

    async def call() -> list[Limit]:
        impose(asyncio.get_running_loop().time() + 0.5)
        return [
            await asyncio.create_task(seen(), context=unhurried()),
            await Owner().owned(seen()),
            await SingleFlight[str, Limit]().do("a", seen),
        ]

    limits = await asyncio.create_task(call())

    assert limits == [Limit(LIMIT_S, hurried=False)] * 3
