"""Ingest on Neo4j: through the served process beside a bare script on the same server; and at a steady rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.plan import past_us
from bench.report import Figure, Target, progress
from bench.requests import BATCHES
from bench.servers import servers
from bench.worker import cpu_seconds, working
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from bench.plan import Plan
    from bench.worker import Job
    from tests.serving import Served

TENANTS: Final = 4
CALLERS: Final = 4
SIZE: Final = 1000
RUN_S: Final = 120.0
STEADY_SIZE: Final = 20
STEADY_SIGNALS: Final = 1000
WARM_UP_S: Final = 3
RAW: Final = "bare script"
INGEST: Final = f"Neo4j: PublishSignals b={SIZE}, {CALLERS} callers"
P95: Final = f"Neo4j: {STEADY_SIGNALS} signals/s, b={STEADY_SIZE}, p95"
ERRORS: Final = f"Neo4j: {STEADY_SIGNALS} signals/s, b={STEADY_SIZE}, errors"
FIGURES: Final = (INGEST, P95, ERRORS)


async def ingest_on_neo4j(plan: Plan) -> AsyncIterator[Figure]:
    """Both in turns over the same requests, the first rounds only to warm the server up; then the steady rate.

    The figure is the round whose ratio is the median of all.
    """
    async with (
        servers("neo4j") as environment,
        serving(plan.fresh("neo4j"), http=False, environment=environment) as service,
    ):
        yield await _beside(plan, service, environment)
        found = await _steady(plan, service)
    progress(f"  steady: {found['latency_ms']} {found['failures']}")
    yield Figure(
        P95,
        value=found["latency_ms"].get("p95"),
        unit="ms",
        targets=[Target(100, at_most=True)],
        details=found,
        not_run="" if found["answered"] else f"no request was answered: {found['failures']}",
    )
    yield Figure(ERRORS, value=found["errors"], unit="errors", targets=[Target(0, at_most=True)], details=found)


async def _beside(plan: Plan, service: Served, environment: Mapping[str, str]) -> Figure:
    turns, count, warming = plan.either(8, 2), plan.either(40, 2), plan.either(3, 1)
    start_us = past_us(turns * count * SIZE)
    ours: list[Job] = []
    theirs: list[Job] = []
    for turn in range(turns):
        requests = {"size": SIZE, "count": count, "start_us": start_us, "tenants": TENANTS}
        requests["first"] = turn * count * SIZE
        ours.append(await _through(service, requests))
        theirs.append(await _bare(environment, requests))
        progress(f"  b={SIZE}: {ours[-1]['per_second']:,.0f} beside {theirs[-1]['per_second']:,.0f}")
    ours, theirs = ours[warming:], theirs[warming:]
    samples = {"service": [found["per_second"] for found in ours], RAW: [found["per_second"] for found in theirs]}
    # The machine is not equally quick all the time: a round is judged by what stood beside it.
    pairs = sorted(zip(*samples.values(), strict=True), key=lambda pair: pair[0] / pair[1])
    value, reference = pairs[len(pairs) // 2]
    return Figure(
        INGEST,
        value=value,
        unit="signals/s",
        reference=reference,
        reference_name=RAW,
        targets=[Target(0.7, of="ratio")],
        samples=samples,
        details={"callers": CALLERS, "rounds": ours, "ratios": [one / other for one, other in pairs]},
    )


async def _through(service: Served, requests: Job) -> Job:
    job = requests | {"kind": "publish", "address": service.grpc, "callers": CALLERS}
    async with working("bench.load", job) as load:
        before = cpu_seconds(service.process.pid)
        found = await load.run(RUN_S)
    used_s = cpu_seconds(service.process.pid) - before
    return found | {"service_cpu_us_a_signal": round(used_s / max(1, found["stored"]) * 1e6, 2)}


async def _bare(environment: Mapping[str, str], requests: Job) -> Job:
    where = {
        "uri": environment["NEO4J_URI"],
        "user": environment["NEO4J_USER"],
        "password": environment["NEO4J_PASSWORD"],
    }
    async with working("bench.neo4j_loop", requests | where) as loop:
        return await loop.run(RUN_S)


async def _steady(plan: Plan, service: Served) -> Job:
    """Signals of tenants that have many already."""
    seconds, rate = plan.either(60, 2), STEADY_SIGNALS / STEADY_SIZE
    count = int((seconds + WARM_UP_S) * rate)
    job = {
        "address": service.grpc,
        "method": BATCHES,
        "rate": rate,
        "warm_up_s": WARM_UP_S,
        "seconds": seconds,
        "size": STEADY_SIZE,
        "count": count,
        # Other ids than before: what is sent twice is not stored.
        "first": 10_000_000,
        "start_us": past_us(count * STEADY_SIZE) - 10_000_000 * 1_000,
        "tenants": TENANTS,
    }
    async with working("bench.steady", job) as load:
        return await load.run(seconds + RUN_S)
