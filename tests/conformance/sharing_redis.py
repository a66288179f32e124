"""Processes that share one Redis, and a look at what is really in it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from redis.asyncio import Redis

from coherence_grpc.adapters.redis import open_redis
from tests.faults import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from coherence_grpc.adapters.redis import RedisParts

    Ask: TypeAlias = Callable[..., Awaitable[Any]]

PATIENCE_S: Final = 5.0


@asynccontextmanager
async def a_process(url: str, prefix: str, **ttls: float) -> AsyncIterator[RedisParts]:
    """The parts of a process that has reached its Redis, and has patience with it on a busy machine."""
    async with open_redis(url, prefix=prefix, call_s=PATIENCE_S, **ttls) as parts:
        await until(lambda: parts.up)
        yield parts


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Ask]:
    """Commands by hand."""
    async with Redis.from_url(url, protocol=2) as client:
        ask: Ask = client.execute_command
        yield ask


async def keys_of(ask: Ask, prefix: str) -> list[bytes]:
    """The names that begin so."""
    keys: list[bytes] = await ask("KEYS", f"{prefix}*")
    return keys
