"""The ways in which a server is taken away and given back; each is entered to take it away."""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from redis.asyncio import Redis

from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from tests.backends.sharing import Own
    from tests.faultproxy import FaultProxy

LATENCY_S: Final = 0.5
EMPTIED_EVERY_S: Final = 1.0
ENDED_S: Final = 60.0
# What asks each server to end by itself, without waiting for its clients.
ASKED_TO_END: Final = {"postgres": SIGINT, "redis": SIGTERM, "neo4j": SIGTERM}


class Victim(NamedTuple):
    """A server, and the proxy through which the service reaches it."""

    own: Own
    proxy: FaultProxy


Outage: TypeAlias = "Callable[[Victim], AbstractAsyncContextManager[None]]"


@asynccontextmanager
async def undisturbed(_: Victim) -> AsyncIterator[None]:
    """Nothing: what the others are to be compared with."""
    yield


@asynccontextmanager
async def refused(victim: Victim) -> AsyncIterator[None]:
    """Its connections are reset and new ones refused."""
    victim.proxy.refuse()
    yield
    victim.proxy.heal()


@asynccontextmanager
async def silent(victim: Victim) -> AsyncIterator[None]:
    """Connections stand and can be made, and nothing passes."""
    victim.proxy.black_hole()
    yield
    victim.proxy.heal()


@asynccontextmanager
async def slow(victim: Victim) -> AsyncIterator[None]:
    """Every answer comes half a second later."""
    # In each direction half of it.
    victim.proxy.delay(LATENCY_S / 2)
    yield
    victim.proxy.heal()


@asynccontextmanager
async def killed(victim: Victim) -> AsyncIterator[None]:
    """All its processes are killed; it is started again over the same files at the end."""
    await asyncio.to_thread(victim.own.kill)
    yield
    await asyncio.to_thread(victim.own.start_again)


@asynccontextmanager
async def restarted(victim: Victim) -> AsyncIterator[None]:
    """It is asked to end, and started again at once."""
    server = victim.own.server
    os.kill(server.pid.number, ASKED_TO_END[server.part])
    await until(lambda: not server.running, within_s=ENDED_S)
    await asyncio.to_thread(victim.own.start_again)
    yield


@asynccontextmanager
async def emptied(victim: Victim) -> AsyncIterator[None]:
    """FLUSHALL, every second anew."""

    async def empty() -> None:
        while True:
            await redis.flushall()
            await asyncio.sleep(EMPTIED_EVERY_S)

    async with Redis.from_url(victim.own.variables["REDIS_URL"]) as redis, asyncio.TaskGroup() as tasks:
        emptying = tasks.create_task(empty())
        yield
        emptying.cancel()


OF_A_STORE: Final[Mapping[str, Outage]] = {
    "undisturbed": undisturbed,
    "refused": refused,
    "silent": silent,
    "slow": slow,
    "restarted": restarted,
    "killed": killed,
}
OF_REDIS: Final[Mapping[str, Outage]] = {**OF_A_STORE, "emptied": emptied}
# Nothing is answered from their beginning to their end.
GONE: Final = frozenset({"refused", "silent", "killed"})
