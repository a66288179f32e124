"""Reads: GetScore beside a bare handler, and the persisted tenantCoherence at a steady rate over HTTP."""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.load import connected
from bench.plan import published
from bench.report import Figure, Target, progress
from bench.requests import tenant
from bench.worker import cpu_seconds, working
from coherence.v1.score_pb2 import GetScoreRequest
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.load import Call
    from bench.plan import Plan
    from bench.worker import Job

GET_SCORE: Final = "/coherence.v1.ScoreService/GetScore"
OPERATION: Final = "pq_tenant_coherence_v1"
TENANTS: Final = 16
SIGNALS: Final = 1_000
CALLERS: Final = 16
RATE: Final = 300
RUN_S: Final = 60.0
GET_SCORE_FIGURES: Final = ("GetScore calls/s",)
HTTP_FIGURES: Final = ("tenantCoherence p95", "tenantCoherence errors")


async def get_score(plan: Plan) -> AsyncIterator[Figure]:
    """Closed-loop calls a second, service and bare handler in turns."""
    async with serving(plan.fresh("get-score"), http=False) as service:
        await published(service.grpc, size=SIGNALS, count=TENANTS, callers=2, tenants=TENANTS)
        bodies = [GetScoreRequest(tenant_id=tenant(n)).SerializeToString() for n in range(TENANTS)]
        async with connected(service.grpc) as channel:
            call: Call = channel.unary_unary(GET_SCORE)
            reply = await call(bodies[0])
        async with working("bench.bare", {"kind": "handler", "size": len(reply)}) as bare:
            ours, theirs, details = [], [], []
            for turn in range(plan.either(10, 1)):
                ours.append(await _calls(plan, service.grpc, service.process.pid, bodies))
                theirs.append(await _calls(plan, bare.said, bare.pid, bodies))
                details.append({"service": ours[-1], "bare": theirs[-1]})
                progress(f"  round {turn + 1}: {ours[-1]['per_second']:,.0f} beside {theirs[-1]['per_second']:,.0f}")
    samples = {"service": [r["per_second"] for r in ours], "bare handler": [r["per_second"] for r in theirs]}
    yield Figure(
        GET_SCORE_FIGURES[0],
        value=max(samples["service"]),
        unit="calls/s",
        reference=max(samples["bare handler"]),
        reference_name="bare handler",
        targets=[Target(0.75, of="ratio")],
        samples=samples,
        details={
            "reply_bytes": len(reply),
            "callers": CALLERS,
            "median_ratio": _median_ratio(samples),
            "rounds": details,
        },
    )


def _median_ratio(samples: dict[str, list[float]]) -> float:
    ours, theirs = samples.values()
    return median(a / b for a, b in zip(ours, theirs, strict=True))


async def _calls(plan: Plan, address: str, pid: int, bodies: list[bytes]) -> Job:
    job = {
        "kind": "closed",
        "address": address,
        "method": GET_SCORE,
        "bodies": [body.hex() for body in bodies],
        "callers": CALLERS,
        "seconds": plan.either(2, 1),
    }
    async with working("bench.load", job) as load:
        before = cpu_seconds(pid)
        found = await load.run(RUN_S)
    return found | {"cpu_us_a_call": round((cpu_seconds(pid) - before) / max(1, found["calls"]) * 1e6, 1)}


async def tenant_coherence(plan: Plan) -> AsyncIterator[Figure]:
    """The persisted operation at 300 requests a second, from the instant each was meant to be sent."""
    async with serving(plan.fresh("tenant-coherence")) as service:
        await published(service.grpc, size=SIGNALS, count=TENANTS, callers=2, tenants=TENANTS)
        bodies = [json.dumps({"id": OPERATION, "variables": {"tenantId": tenant(n)}}) for n in range(TENANTS)]
        job = {
            "address": service.http,
            "path": "/graphql",
            "bodies": bodies,
            "rate": RATE,
            "warm_up_s": plan.either(3, 1),
            "seconds": plan.either(20, 2),
        }
        rounds = []
        for _ in range(plan.either(3, 1)):
            async with working("bench.openloop", job) as load:
                rounds.append(await load.run(RUN_S))
            progress(f"  {rounds[-1]['latency_ms']} {rounds[-1]['failures']}")
    best = min(rounds, key=lambda found: found["latency_ms"].get("p95", float("inf")))
    yield Figure(
        HTTP_FIGURES[0],
        value=best["latency_ms"].get("p95"),
        unit="ms",
        targets=[Target(30, at_most=True)],
        samples={f"round {n + 1}": found.pop("samples_ms") for n, found in enumerate(rounds)},
        details={"rate": RATE, "rounds": rounds},
        not_run="" if best["answered"] else f"no request was answered: {best['failures']}",
    )
    yield Figure(
        HTTP_FIGURES[1],
        value=sum(found["errors"] for found in rounds),
        unit="errors",
        reference=None,
        targets=[Target(0, at_most=True)],
        details={"answered": sum(found["answered"] for found in rounds)},
    )
