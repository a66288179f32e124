"""Requests of all processes counted together: the generic cell rate algorithm (GCRA) in one script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.redis.link import Script, Tally, run
from coherence_grpc.errors import CoherenceError

if TYPE_CHECKING:
    from coherence_grpc.adapters.redis.link import Link
    from coherence_grpc.ports import RateLimiter

MICROSECONDS: Final = 1e6

# Per key: when what was used so far will have been made up for, by the clock of Redis, in microseconds. The arguments
# are the cost, then per key the microseconds for each unit of cost and how far ahead of now a key may run. A wait below
# a microsecond is what the last digits of a float make.
ADMIT: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost = tonumber(ARGV[1])
local wait = 0
local even_at = {}
for i, key in ipairs(KEYS) do
  local used = cost * tonumber(ARGV[2 * i])
  even_at[i] = math.max(now, tonumber(redis.call('GET', key) or '') or now) + used
  wait = math.max(wait, even_at[i] - now - math.max(used, tonumber(ARGV[2 * i + 1])))
end
if wait >= 1 then
  return math.ceil(wait)
end
for i, key in ipairs(KEYS) do
  local ahead_ms = math.ceil((even_at[i] - now) / 1000) + 1
  redis.call('SET', key, string.format('%.17g', even_at[i]), 'PX', ahead_ms)
end
return 0
""")


class RedisLimiter:
    """Asks Redis, and counts by itself (`away`) while it does not answer."""

    def __init__(
        self,
        link: Link,
        prefix: str,
        tally: Tally,
        *,
        rps_tenant: float | None,
        rps_global: float | None,
        burst_s: float,
        away: RateLimiter,
    ) -> None:
        self._link = link
        self._tenant = f"{prefix}rate:tenant:"
        self._global = f"{prefix}rate:all"
        self._tally = tally
        self._tenant_rule = _rule(rps_tenant, burst_s)
        self._global_rule = _rule(rps_global, burst_s)
        self._away = away

    async def admit(self, tenant_id: str, *, cost: int = 1) -> float:
        """0, or the seconds after which the request could go on."""
        keys: list[str] = []
        arguments: list[float] = [cost]
        for key, rule in ((self._tenant + tenant_id, self._tenant_rule), (self._global, self._global_rule)):
            if rule is not None:
                keys.append(key)
                arguments += rule
        if not keys:
            return 0.0
        try:
            async with self._link.call() as ask:
                wait_us: int = await run(ask, ADMIT, keys, arguments)
        except CoherenceError:
            self._tally.errors += 1
            return await self._away.admit(tenant_id, cost=cost)
        if wait_us:
            self._tally.misses += 1
        else:
            self._tally.hits += 1
        return wait_us / MICROSECONDS


def _rule(rps: float | None, burst_s: float) -> tuple[float, float] | None:
    """Microseconds for a unit of cost, and how far ahead of now what was used may run."""
    if rps is None:
        return None
    each_us = MICROSECONDS / rps
    return each_us, max(each_us, burst_s * MICROSECONDS)
