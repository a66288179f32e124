"""Doorbell, sentence by sentence."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.local import LocalDoorbell, NoDoorbell
from coherence_grpc.adapters.redis.doorbell import PENDING
from coherence_grpc.ports import News
from tests.backends.fixtures import REDIS, an_own_server, fresh_prefix, redis_url
from tests.conformance.sharing_redis import a_process, asking
from tests.faults import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence_grpc.adapters.redis import RedisParts
    from coherence_grpc.ports import Doorbell

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def of_one_process() -> AsyncIterator[Doorbell]:
    yield LocalDoorbell()


@asynccontextmanager
async def of_redis() -> AsyncIterator[Doorbell]:
    async with a_process(redis_url(), fresh_prefix()) as parts:
        yield parts.doorbell


@pytest.fixture(params=[pytest.param(of_one_process, id="local"), pytest.param(of_redis, id="redis", marks=REDIS)])
async def doorbell(request: pytest.FixtureRequest) -> AsyncIterator[Doorbell]:
    async with request.param() as doorbell:
        yield doorbell


@pytest.fixture
async def processes(redis_url: str) -> AsyncIterator[tuple[RedisParts, RedisParts]]:
    """Two that share a Redis."""
    prefix = fresh_prefix()
    async with a_process(redis_url, prefix) as one, a_process(redis_url, prefix) as other:
        yield one, other


def heard_by(doorbell: Doorbell) -> list[News]:
    heard: list[News] = []
    doorbell.listen(heard.append)
    return heard


def fails(_: News) -> None:
    message = "a listener's own fault"
    raise ValueError(message)


async def test_listeners_hear_what_their_own_process_rings(doorbell: Doorbell) -> None:
    heard, also = heard_by(doorbell), heard_by(doorbell)

    doorbell.ring(News("acme", 3, 5))

    assert heard == also == [News("acme", 3, 5)]


async def test_a_listener_that_fails_fails_neither_who_rings_nor_the_others(doorbell: Doorbell) -> None:
    doorbell.listen(fails)
    heard = heard_by(doorbell)

    doorbell.ring(News("acme", 3, 5))

    assert heard == [News("acme", 3, 5)]


def test_without_a_doorbell_nobody_hears() -> None:
    doorbell = NoDoorbell()
    heard = heard_by(doorbell)

    doorbell.ring(News("acme", 3, 5))

    assert not heard


async def test_other_processes_hear_what_one_rings(processes: tuple[RedisParts, RedisParts]) -> None:
    one, other = processes
    heard = heard_by(other.doorbell)

    one.doorbell.ring(News("acme", 3, 5))
    one.doorbell.ring(News("umbrella", 1, 1))

    await until(lambda: len(heard) == 2)
    assert heard == [News("acme", 3, 5), News("umbrella", 1, 1)]
    assert one.counts()["doorbell"].hits == 2


async def test_who_rings_does_not_hear_it_twice(processes: tuple[RedisParts, RedisParts]) -> None:
    one, other = processes
    heard, elsewhere = heard_by(one.doorbell), heard_by(other.doorbell)

    one.doorbell.ring(News("acme", 3, 5))
    await until(lambda: len(elsewhere) == 1)
    other.doorbell.ring(News("acme", 6, 6))

    await until(lambda: len(heard) == 2)
    assert heard == [News("acme", 3, 5), News("acme", 6, 6)]


async def test_what_is_rung_in_a_row_is_told_together(processes: tuple[RedisParts, RedisParts]) -> None:
    one, other = processes
    heard = heard_by(other.doorbell)

    for seq in range(1, 1001):
        one.doorbell.ring(News("acme", seq, seq))
    one.doorbell.ring(News("acme", 0, 0, version=7))
    one.doorbell.ring(News("acme", 0, 0, version=6))
    one.doorbell.ring(News("acme", 0, 0))

    await until(lambda: len(heard) == 3)
    assert heard == [News("acme", 1, 1000), News("acme", 0, 0, version=7), News("acme", 0, 0)]


async def test_news_beyond_what_is_kept_waiting_is_let_go(processes: tuple[RedisParts, RedisParts]) -> None:
    one, other = processes
    heard = heard_by(other.doorbell)

    for number in range(PENDING + 7):
        one.doorbell.ring(News(f"tenant-{number}", 1, 1))

    await until(lambda: len(heard) == PENDING)
    assert one.counts()["doorbell"].misses == 7


async def test_another_prefix_is_another_channel(redis_url: str) -> None:
    async with a_process(redis_url, fresh_prefix()) as one, a_process(redis_url, fresh_prefix()) as stranger:
        heard, own = heard_by(stranger.doorbell), heard_by(one.doorbell)

        one.doorbell.ring(News("acme", 3, 5))
        await until(lambda: one.counts()["doorbell"].hits == 1)
        stranger.doorbell.ring(News("umbrella", 1, 1))

        assert heard == [News("umbrella", 1, 1)]
        assert own == [News("acme", 3, 5)]


@pytest.mark.parametrize("garbage", [b"", b"\xff\x00", b"{}", b'["x",[["acme",1]]]', b'["x",[[1,2,3]]]'])
async def test_what_is_no_news_is_ignored(redis_url: str, garbage: bytes) -> None:
    prefix = fresh_prefix()
    async with a_process(redis_url, prefix) as one, a_process(redis_url, prefix) as other, asking(redis_url) as ask:
        heard = heard_by(other.doorbell)

        await ask("PUBLISH", f"{prefix}news", garbage)
        one.doorbell.ring(News("acme", 3, 5))

        await until(lambda: len(heard) == 1)
        assert heard == [News("acme", 3, 5)]
        assert other.counts()["doorbell"].errors == 1


@pytest.mark.external("redis")
async def test_after_a_lost_connection_anything_may_have_happened_to_the_tenants_known() -> None:
    with an_own_server("redis") as server:
        url, prefix = server.variables["REDIS_URL"], fresh_prefix()
        async with a_process(url, prefix) as one, a_process(url, prefix) as other, asking(url) as ask:
            heard = heard_by(other.doorbell)
            one.doorbell.ring(News("acme", 3, 5))
            other.doorbell.ring(News("umbrella", 1, 1))
            await until(lambda: len(heard) == 2)
            heard.clear()

            for _ in range(2):
                assert await ask("CLIENT", "KILL", "TYPE", "pubsub") == 2
                await until(lambda: {News("acme", 0, 0), News("umbrella", 0, 0)} <= set(heard))
                heard.clear()
                await until(lambda: one.up and other.up)
                one.doorbell.ring(News("acme", 6, 7))
                await until(lambda: News("acme", 6, 7) in heard)
                heard.clear()


@pytest.mark.external("redis")
@pytest.mark.slow
async def test_r12_a_doorbell_behind_a_silent_connection_is_heard_again() -> None:
    with an_own_server("redis") as server:
        url, prefix = server.variables["REDIS_URL"], fresh_prefix()
        async with a_process(url, prefix) as parts:
            heard = heard_by(parts.doorbell)
            parts.doorbell.ring(News("acme", 3, 5))

            server.freeze()
            await until(lambda: not parts.up)
            server.thaw()

            await until(lambda: parts.up and News("acme", 0, 0) in heard)


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_closing_ends_at_any_moment(redis_url: str, turns: int) -> None:
    async with asyncio.timeout(5), a_process(redis_url, fresh_prefix()) as parts:
        heard = heard_by(parts.doorbell)
        parts.doorbell.ring(News("acme", 3, 5))

        for _ in range(turns):
            await asyncio.sleep(0)

    assert heard == [News("acme", 3, 5)]


async def test_ringing_never_waits(processes: tuple[RedisParts, RedisParts]) -> None:
    one, _ = processes
    loop = asyncio.get_running_loop()
    turns: list[int] = []
    loop.call_soon(turns.append, 1)

    for seq in range(100):
        one.doorbell.ring(News("acme", seq, seq))

    assert not turns
