"""Opening Redis, whether it is there or not."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.redis.cache import RedisScores
from coherence_grpc.adapters.redis.doorbell import RedisDoorbell
from coherence_grpc.adapters.redis.limiter import RedisLimiter
from coherence_grpc.adapters.redis.link import Counts, Link, Tally
from coherence_grpc.adapters.redis.marks import RedisMarks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from coherence_grpc.breaker import Breaker
    from coherence_grpc.ports import DedupeMarks, Doorbell, RateLimiter, ScoreCache

PREFIX: Final = "coherence:"
CACHE_TTL_S: Final = 30.0
MARKS_TTL_S: Final = 172_800.0
# The longest anybody waits for what Redis only makes faster.
CALL_S: Final = 0.2
CHECK_S: Final = 2.0
_CHECK_MS: Final = 1000


class RedisParts:
    """What a process has of one Redis."""

    def __init__(self, link: Link, doorbell: RedisDoorbell, marks: RedisMarks, cache: RedisScores, prefix: str) -> None:
        self.doorbell: Doorbell = doorbell
        self.marks: DedupeMarks = marks
        self.cache: ScoreCache = cache
        self._link = link
        self._hearing = doorbell
        self._prefix = prefix
        self._admissions = Tally()
        self._tallies = {
            "doorbell": doorbell.tally,
            "marks": marks.tally,
            "cache": cache.tally,
            "limiter": self._admissions,
        }

    @property
    def up(self) -> bool:
        """Doorbells are heard and calls are let through; while False, everything goes on without Redis."""
        return self._hearing.hearing and self._link.breaker.state != "open"

    @property
    def breaker(self) -> Breaker:
        """What keeps calls from a Redis that fails."""
        return self._link.breaker

    def limiter(
        self, rps_tenant: float | None, rps_global: float | None, *, burst_s: float = 1.0, away: RateLimiter
    ) -> RateLimiter:
        """Requests per second of each tenant and of all together, over all processes; None is no limit.

        `burst_s` seconds' worth, one request at least, may come at once. `away` decides while Redis does not answer.
        """
        return RedisLimiter(
            self._link,
            self._prefix,
            self._admissions,
            rps_tenant=rps_tenant,
            rps_global=rps_global,
            burst_s=burst_s,
            away=away,
        )

    def counts(self) -> Mapping[str, Counts]:
        """What each role did so far: doorbell, marks, cache and limiter."""
        return {role: tally.counts() for role, tally in self._tallies.items()}


@asynccontextmanager
async def open_redis(
    url: str,
    *,
    prefix: str = PREFIX,
    cache_ttl_s: float = CACHE_TTL_S,
    marks_ttl_s: float = MARKS_TTL_S,
    call_s: float = CALL_S,
) -> AsyncIterator[RedisParts]:
    """The parts, at once: a Redis that is away or refuses is tried again for ever. Every key begins with `prefix`.

    What Redis has not answered within `call_s` seconds is done without it.

    Raises:
        SettingsInvalid: the URL is none.
    """
    link = Link(url, call_s)
    try:
        async with RedisDoorbell(link, prefix) as doorbell:
            marks = RedisMarks(link, prefix, marks_ttl_s)
            yield RedisParts(link, doorbell, marks, RedisScores(link, prefix, cache_ttl_s), prefix)
    finally:
        await link.close()


async def check(url: str, *, prefix: str = PREFIX, call_s: float = CHECK_S) -> None:
    """Return when this Redis can be used: it answers and lets us write.

    Raises:
        SettingsInvalid, StoreDown, StoreTimeout: the message says what is wrong with it and what to do.
    """
    link = Link(url, call_s)
    try:
        async with link.call() as ask:
            await ask("SET", f"{prefix}check:{secrets.token_hex(8)}", "", "PX", _CHECK_MS)
    finally:
        await link.close()
