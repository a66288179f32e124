"""R3, R8, R9 and R10 on Neo4j, PostgreSQL and Redis: the service is killed, and each server is taken away."""

from __future__ import annotations

import asyncio
import random
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from bench.faults.enduring import compared, difference, enduring
from bench.faults.outages import GONE, OF_A_STORE, OF_REDIS
from bench.faults.run import Finding
from bench.report import progress
from bench.servers import servers
from bench.spread import spread
from coherence_grpc.client import connect
from tests.e2e.bearing import bearing
from tests.e2e.wire import wire_to
from tests.serving import LeftBehind, serving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.faults.outages import Outage
    from bench.faults.run import Length

KILLED_DEMAND: Final = (
    "0 acknowledged signals lost, none twice, ledgers clean, scores equal to a recompute, no process left; ready ≤ 10 s"
)
REDIS_DEMAND: Final = "Redis away: nothing refused, nothing lost, no event missed; p95 of publishing ≤ 700 ms"
POSTGRES_DEMAND: Final = (
    "PostgreSQL away: nothing refused or lost, reads go on and say when they are behind; rows catch up within 10 s"
)
NEO4J_DEMAND: Final = (
    "Neo4j away: every refusal UNAVAILABLE with RetryInfo and pushback, reads go on, nothing lost, scores exact after;"
    " refused within 1 s (p99), the breaker open within 2 s"
)
READY_S: Final = 10.0
EVERY: Final = 20
FINISH_S: Final = 60.0
WRITE_S: Final = 0.7
CATCH_UP_S: Final = 10.0
REFUSED_S: Final = 1.0
OPEN_S: Final = 2.0
# Who keeps a tenant answers from memory until its lease of 4 s runs out; only then is there anything to say.
LEASE_S: Final = 5


async def killed_on_servers(length: Length) -> Finding:
    """Kill the service under ingest, restart it over the same servers, go on."""
    ready_s, left_behind, directory = list[float](), 0, length.fresh("killed")
    async with (
        servers("postgres", "redis", "neo4j") as environment,
        wire_to("127.0.0.1:1") as wire,
        bearing(wire.address) as going,
    ):
        for run in range(length.runs):
            async with serving(directory, environment=environment, http=False) as served:
                ready_s.append(served.ready_s)
                wire.target = served.grpc
                await going.acknowledges_again(monotonic())
                await asyncio.sleep(random.uniform(0.0, 0.5))  # noqa: S311 - any moment will do
                await served.kill()
            try:
                await served.all_gone()
            except LeftBehind:
                left_behind += 1
            if run % EVERY == EVERY - 1:
                progress(f"  {run + 1} kills, {len(going.acked):,} acknowledged")
        async with serving(directory, environment=environment, http=False) as served, connect(served.grpc) as client:
            wire.target = served.grpc
            await going.finish(within_s=FINISH_S)
            found = await difference(client, going.acked)
    figures = {"kills": length.runs} | found
    figures |= {"calls_lost": len(going.refused), "processes_left": left_behind, "ready_s": spread(ready_s)}
    return Finding(KILLED_DEMAND, _whole(found) and not left_behind, figures, in_time=max(ready_s) <= READY_S)


async def without_redis(length: Length) -> Finding:
    """Redis is taken away from two processes that ring, cache and remember through it."""
    switches = {"dedupe_mode": "redis", "cache": "on"}
    costs, found = await _suffered(length, "redis", OF_REDIS, processes=2, **switches)
    kept = all(cost["acknowledged"] and not cost["refused"] and _read_on(cost) for cost in costs.values())
    in_time = all(cost["acknowledged_s"]["p95"] <= WRITE_S for cost in costs.values() if cost["acknowledged"])
    return Finding(REDIS_DEMAND, kept and _whole(found), {"outages": costs} | found, in_time=in_time)


async def without_postgresql(length: Length) -> Finding:
    """PostgreSQL is taken away from the process that materialises and is read."""
    costs, found = await _suffered(length, "postgres", OF_A_STORE)
    kept = all(cost["acknowledged"] and not cost["refused"] and _read_on(cost) for cost in costs.values())
    told = length.runs <= LEASE_S or all(costs[name]["reads_stale"] for name in GONE)
    in_time = all(cost["caught_up_after_s"] <= CATCH_UP_S for cost in costs.values())
    return Finding(POSTGRES_DEMAND, kept and told and _whole(found), {"outages": costs} | found, in_time=in_time)


async def without_neo4j(length: Length) -> Finding:
    """Neo4j is taken away: nothing can be stored, and whoever tries hears so at once."""
    costs, found = await _suffered(length, "neo4j", OF_A_STORE)
    told = all(costs[name]["refused"] for name in GONE) and all(_told(cost) for cost in costs.values())
    in_time = all(
        costs[name]["refused_s"].get("p99", 0.0) <= REFUSED_S and _opened_s(costs[name]) <= OPEN_S for name in GONE
    )
    return Finding(NEO4J_DEMAND, told and _whole(found), {"outages": costs} | found, in_time=in_time)


async def _suffered(
    length: Length, part: str, outages: Mapping[str, Outage], *, processes: int = 1, **switches: str
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    async with enduring(length, part, processes=processes, **switches) as under:
        for name, outage in outages.items():
            await under.suffer(under.victims[part], name, outage, length.runs)
        return under.costs, await compared(under)


def _whole(found: Mapping[str, Any]) -> bool:
    return not (found["lost"] or found["never_acknowledged"] or found["flaws"])


def _read_on(cost: Mapping[str, Any]) -> bool:
    return bool(cost["reads"]) and not (cost["reads_refused"] or cost["reads_behind_and_silent_about_it"])


def _told(cost: Mapping[str, Any]) -> bool:
    unavailable = all(told.startswith("UNAVAILABLE ") for told in cost["refused"])
    return unavailable and not cost["refused_without_hint"] and _read_on(cost)


def _opened_s(cost: Mapping[str, Any]) -> float:
    """When the breaker of Neo4j opened; infinitely late when it didn't."""
    opened = (b["opened_after_s"] for b in cost["breakers"] if "Neo4j" in b["store"] and "opened_after_s" in b)
    return min(opened, default=float("inf"))
