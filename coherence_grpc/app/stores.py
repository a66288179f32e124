"""The stores and shared parts that the settings name, opened: servers where they are named, embedded ones elsewhere."""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.adapters.local import NoCache, NoDoorbell, NoMarks
from coherence_grpc.materialize import EveryShard, check_stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from coherence_grpc.adapters.redis import Counts, RedisParts
    from coherence_grpc.breaker import Breaker
    from coherence_grpc.config import Settings
    from coherence_grpc.ports import (
        Clock,
        DedupeMarks,
        Doorbell,
        ScoreCache,
        ScoreStore,
        ShardLeases,
        SignalStore,
    )


@dataclass(frozen=True, slots=True)
class Stores:
    """What a backbone stands on; `followed` says that a log may grow without this process's being told.

    Another process writes to it, or the reply to a commit is lost on its way from the server.

    `breakers` stand before servers, `redis_counts` are those of each role; both are empty where there is no server.
    """

    signals: SignalStore
    scores: ScoreStore
    leases: ShardLeases
    doorbell: Doorbell
    marks: DedupeMarks
    cache: ScoreCache
    followed: bool
    breakers: Mapping[str, Breaker]
    redis_counts: Callable[[], Mapping[str, Counts]]


@asynccontextmanager
async def open_stores(settings: Settings, clock: Clock) -> AsyncIterator[Stores]:
    """The stores, checked against each other.

    Raises:
        DataRefused: they don't tell one story, or a file can't be used.
        MigrationPending: a server's schema is behind.
        StoreDown, StoreTimeout: a server can't be reached.
    """
    async with AsyncExitStack() as stack:
        breakers: dict[str, Breaker] = {}
        signals = await _signals(stack, settings, clock, breakers)
        scores = await _scores(stack, settings, breakers)
        await check_stores(signals, scores)
        followed = settings.neo4j_uri is not None
        leases = await _leases(stack, settings) if followed and settings.postgres_uri else EveryShard()
        redis = await _redis(stack, settings)
        if redis is None:
            yield Stores(signals, scores, leases, NoDoorbell(), NoMarks(), NoCache(), followed, breakers, dict)
            return
        breakers["redis"] = redis.breaker
        yield Stores(
            signals, scores, leases, redis.doorbell, redis.marks, redis.cache, followed, breakers, redis.counts
        )


async def _signals(
    stack: AsyncExitStack, settings: Settings, clock: Clock, breakers: dict[str, Breaker]
) -> SignalStore:
    if settings.neo4j_uri is None:
        return await stack.enter_async_context(
            open_signal_store(settings.data, clock, max_bytes=settings.max_store_bytes)
        )
    from coherence_grpc.adapters import neo4j

    store = await stack.enter_async_context(
        neo4j.open_signal_store(settings.neo4j_uri, settings.neo4j_user, settings.neo4j_password or "", clock)
    )
    breakers["neo4j"] = store.breaker
    return store


async def _scores(stack: AsyncExitStack, settings: Settings, breakers: dict[str, Breaker]) -> ScoreStore:
    if settings.postgres_uri is None:
        return await stack.enter_async_context(open_score_store(settings.data))
    from coherence_grpc.adapters import postgres

    store = await stack.enter_async_context(postgres.open_score_store(settings.postgres_uri))
    breakers["postgres"] = store.breaker
    return store


async def _leases(stack: AsyncExitStack, settings: Settings) -> ShardLeases:
    from coherence_grpc.adapters import postgres

    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    return await stack.enter_async_context(postgres.open_leases(settings.postgres_uri or "", holder=holder))


async def _redis(stack: AsyncExitStack, settings: Settings) -> RedisParts | None:
    if settings.redis_url is None:
        return None
    from coherence_grpc.adapters import redis

    return await stack.enter_async_context(
        redis.open_redis(settings.redis_url, marks_ttl_s=settings.marks_ttl_s, cache_ttl_s=settings.cache_ttl_s)
    )
